#!/usr/bin/env python3
"""No function is longer than 80 lines; nine of ten have 45 or less (tests apart). goto goes forward
only."""
import json
import re
import subprocess

import tree

LONGEST, USUAL = 80, 45


def functions(paths):
    """(path, name, first line, last line) of each function, as universal-ctags sees them."""
    done = subprocess.run(["ctags", "--output-format=json", "--fields=+ne", "--kinds-c=f",
                           "--languages=C,C++",
                           "--map-C=+.h", "-L", "-", "-f", "-"], cwd=tree.ROOT,
                          input="\n".join(paths), stdout=subprocess.PIPE, check=True, text=True)
    for line in done.stdout.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            yield tag["path"], tag["name"], tag["line"], tag["end"]


def backward_gotos(path, first, last):
    lines = tree.code(path).splitlines()[first - 1:last]
    labels = {m[1]: i for i, line in enumerate(lines)
              if (m := re.match(r"\s*(\w+):(?!:)\s*$", line))}
    for i, line in enumerate(lines):
        for found in re.finditer(r"\bgoto\s+(\w+)\s*;", line):
            if labels.get(found[1], i + 1) <= i:
                yield "%s:%d: goto %s goes backward" % (path, first + i, found[1])


def main():
    faults, lengths = [], []
    for path, name, first, last in functions(tree.files(".c", ".h")):
        length = last - first + 1
        if not path.startswith("tests/"):
            lengths.append(length)
        if length > LONGEST:
            faults.append("%s:%d: %s has %d lines, %d is the most" % (path, first, name, length,
                                                                      LONGEST))
        faults.extend(backward_gotos(path, first, last))
    if lengths:
        lengths.sort()
        p90 = lengths[int(len(lengths) * 0.9)]
        print("%d functions; median %d lines, p90 %d, longest %d" % (
            len(lengths), lengths[len(lengths) // 2], p90, lengths[-1]))
        if p90 > USUAL:
            faults.append("p90 of the functions' lengths is %d, %d is the most" % (p90, USUAL))
    tree.finish(faults, "split functions by what they do")


main()
