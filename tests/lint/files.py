#!/usr/bin/env python3
"""Files stay small and say what they are: at most 800 lines (600 are wished) of at most 100 columns
(132 in tests; tabs count 8), a comment at the head, tabs, no blanks at line ends."""
import re

import tree

MOST, WISHED, WIDTH, WIDTH_TESTS = 800, 600, 100, 132
C = (".c", ".h")


def columns(line):
    return len(line.expandtabs(8))


def headless(path, source):
    if path.endswith(".py"):
        return not re.match(r'(#![^\n]*\n)?"""', source)
    if path.endswith(C):
        return not source.startswith("/*")
    return not re.match(r"(#![^\n]*\n)?#", source)


def main():
    faults, wide = [], 0
    for path in tree.files(".c", ".h", ".py", ".sh", "contrib/run", "contrib/test", ".ci/run",
                           "lint/run"):
        source = tree.text(path)
        lines = source.split("\n")
        if len(lines) - 1 > MOST:
            faults.append("%s: %d lines, %d is the most" % (path, len(lines) - 1, MOST))
        elif len(lines) - 1 > WISHED and not path.startswith("tests/"):
            print("%s: %d lines; %d are wished" % (path, len(lines) - 1, WISHED))
        if headless(path, source):
            faults.append("%s:1: no comment at the head that says what it is" % path)
        most = WIDTH_TESTS if path.startswith("tests/") else WIDTH
        for i, line in enumerate(lines, 1):
            if path.endswith(C) and columns(line) > most:
                faults.append("%s:%d: %d columns" % (path, i, columns(line)))
            wide += path.endswith(C) and columns(line) > WIDTH
            if path.endswith(C) and re.match(r" {8,}[^ *]", line):
                faults.append("%s:%d: indented with blanks, not tabs" % (path, i))
            if re.search(r"[ \t]$", line):
                faults.append("%s:%d: blank at the end of the line" % (path, i))
    print("%d lines of tests have more than %d columns" % (wide, WIDTH))
    tree.finish(faults, "shape of files")


main()
