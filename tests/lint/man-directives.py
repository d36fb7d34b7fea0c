#!/usr/bin/env python3
"""tram.conf(5) and the table of directives say the same: each directive stands in its section of
the manual with its type and default, and the manual has none that the table has not.
man-directives.py TRAMD"""
import re
import subprocess
import sys

import tree

MANUAL = "contrib/man/tram.conf.5.scd"
GLOBAL = "GLOBAL"			# the heading of what stands outside of all sections
ENTRY = re.compile(r"\*([a-z0-9-]+)\* = _([a-z0-9.|-]+)_ \((?:default: )?(.+)\)$")
LINE = re.compile(r"(?:([a-z]+)\.)?([a-z0-9-]+) (\S+) (.+)$")


def table(program):
    """(section, name) → (type, default), as the program prints them."""
    done = subprocess.run([program, "--print-directives"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, timeout=10, check=True)
    found = {}
    for line in done.stdout.splitlines():
        section, name, kind, default = LINE.match(line).groups()
        found[section or "", name] = kind, re.sub(r"^\((.*)\)$", r"\1", default)
    return found


def manual():
    """The same, as the manual has them, with their lines; and faults of its shape."""
    found, faults, section = {}, [], None
    lines = tree.text(MANUAL).split("\n")
    for i, line in enumerate(lines, 1):
        if heading := re.match(r"# (.+)", line):
            section = "" if heading[1] == GLOBAL else heading[1].lower()
        if not re.match(r"\*[a-z0-9-]+\* = ", line):
            continue
        entry = ENTRY.match(line)
        if entry is None:
            faults.append("%s:%d: not in the form *name* = _type_ (default: …)" % (MANUAL, i))
        elif (section, entry[1]) in found:
            faults.append("%s:%d: %s is there twice" % (MANUAL, i, entry[1]))
        elif not lines[i].startswith("\t"):
            faults.append("%s:%d: %s has no explanation" % (MANUAL, i, entry[1]))
        else:
            found[section, entry[1]] = entry[2], entry[3], i
    return found, faults


def main():
    want = table(sys.argv[1])
    have, faults = manual()
    for (section, name), (kind, default) in want.items():
        where = name if section == "" else "%s.%s" % (section, name)
        if (section, name) not in have:
            faults.append("%s: %s is missing: *%s* = _%s_ (default: %s)" % (MANUAL, where, name,
                                                                            kind, default))
        elif have[section, name][:2] != (kind, default):
            faults.append("%s:%d: %s is %s, default %s, and not %s, default %s" % (
                (MANUAL, have[section, name][2], where, kind, default) + have[section, name][:2]))
    for (section, name), entry in have.items():
        if (section, name) not in want:
            faults.append("%s:%d: there is no directive %s in section \"%s\"" % (MANUAL, entry[2],
                                                                                 name, section))
    if not want:
        faults.append("%s --print-directives prints nothing" % sys.argv[1])
    print("%d directives" % len(want))
    tree.finish(faults, "the manual and mta/config/table.c")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("man-directives.py TRAMD")
    main()
