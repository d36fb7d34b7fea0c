#!/usr/bin/env python3
"""The manual is complete: each option and command that a program's --help names stands in its page.
(The directives of the configuration: man-directives.py.) manual.py BUILD"""
import os
import re
import subprocess
import sys

import tree

PROGRAMS = {"tramd": "tramd.8.scd", "tramctl": "tramctl.8.scd",
            "tram-sendmail": "tram-sendmail.8.scd"}


def page(name):
    path = os.path.join("contrib/man", name)
    if not os.path.exists(os.path.join(tree.ROOT, path)):
        return None
    return re.sub(r"\\(.)", r"\1", tree.text(path))		# scdoc escapes '-' and the like


def main():
    faults, seen = [], 0
    for program, name in PROGRAMS.items():
        binary = os.path.join(sys.argv[1], "mta", program)
        manual = page(name)
        if manual is None:
            faults.append("contrib/man/%s: is not there" % name)
            continue
        done = subprocess.run([binary, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=10)
        words = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*[a-z]|-[a-zA-Z](?![a-zA-Z-]))",
                               done.stdout))
        if program == "tramctl":
            words |= set(re.findall(r"(?m)^\s+((?:queue )?[a-z]+(?:-[a-z]+)*)\b", done.stdout))
        if not words:
            faults.append("%s --help names no option:\n%s" % (program, done.stdout[:500]))
        seen += len(words)
        for word in sorted(words):
            if not re.search(r"(?<![\w-])%s(?![\w-])" % re.escape(word), manual):
                faults.append("contrib/man/%s: %s is not explained" % (name, word))
    print("%d options and commands" % seen)
    tree.finish(faults, "what --help says and what the manual says")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("manual.py BUILD")
    main()
