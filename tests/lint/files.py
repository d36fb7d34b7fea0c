#!/usr/bin/env python3
"""Files stay small and say what they are: at most 800 lines (600 are wished) of at most 132 columns (140 in tests; 100
are wished; tabs count 8), a comment at the head, tabs, no blanks at line ends."""
import re

import tree

MOST, WISHED, WIDTH, WIDTH_TESTS, WIDTH_WISHED = 800, 600, 132, 140, 100


def columns(line):
    return len(line.expandtabs(8))


def headless(path, source):
    if path.endswith(".py"):
        return not re.match(r'(#![^\n]*\n)?"""', source)
    if path.endswith((".c", ".h")):
        return not source.startswith("/*")
    return not re.match(r"(#![^\n]*\n)?#", source)


def main():
    faults, wide = [], 0
    for path in tree.files(".c", ".h", ".py", ".sh", "contrib/run", "contrib/test", ".ci/run", "lint/run"):
        source = tree.text(path)
        lines = source.split("\n")
        if len(lines) - 1 > MOST:
            faults.append("%s: %d lines, %d is the most" % (path, len(lines) - 1, MOST))
        elif len(lines) - 1 > WISHED and not path.startswith("tests/"):
            print("%s: %d lines; %d are wished" % (path, len(lines) - 1, WISHED))
        if headless(path, source):
            faults.append("%s:1: no comment at the head that says what it is" % path)
        for i, line in enumerate(lines, 1):
            if path.endswith((".c", ".h")) and columns(line) > (WIDTH_TESTS if path.startswith("tests/") else WIDTH):
                faults.append("%s:%d: %d columns" % (path, i, columns(line)))
            wide += path.endswith((".c", ".h")) and columns(line) > WIDTH_WISHED
            if path.endswith((".c", ".h")) and re.match(r" {8,}[^ *]", line):
                faults.append("%s:%d: indented with blanks, not tabs" % (path, i))
            if re.search(r"[ \t]$", line):
                faults.append("%s:%d: blank at the end of the line" % (path, i))
    print("%d lines have more than %d columns" % (wide, WIDTH_WISHED))
    tree.finish(faults, "shape of files")


main()
