#!/usr/bin/env python3
"""Counts results for contrib/test: prints "PASSED FAILED SKIPPED".

    count.py meson FILE.json     of `meson test --logbase`; a cmocka program counts with each of its tests
    count.py pytest FILE.xml     JUnit
    count.py line FILE           the last line "N passed, N failed"
"""
import json
import re
import sys
import xml.etree.ElementTree


def meson(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as f:
        for test in map(json.loads, f):
            text = test.get("stdout", "") + test.get("stderr", "")
            good = sum(map(int, re.findall(r"(?m)^\[  PASSED  \] (\d+) test", text)))
            bad = sum(map(int, re.findall(r"(?m)^\[  FAILED  \] .*?(\d+) test", text)))
            if test["result"] in ("OK", "EXPECTEDFAIL"):
                passed += good or 1
            elif test["result"] == "SKIP":
                skipped += 1
            else:
                passed, failed = passed + good, failed + (bad or 1)
    return passed, failed, skipped


def pytest(path):
    passed = failed = skipped = 0
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
        passed += max(0, int(suite.get("tests")) - bad - int(suite.get("skipped")))
        failed += bad
    return passed, failed, skipped


def line(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        found = re.findall(r"(?m)^(\d+) passed, (\d+) failed", f.read())
    return int(found[-1][0]), int(found[-1][1]), 0


def main():
    try:
        counts = {"meson": meson, "pytest": pytest, "line": line}[sys.argv[1]](sys.argv[2])
    except (OSError, IndexError, ValueError, xml.etree.ElementTree.ParseError) as fault:
        print("count.py: no result in %s: %s" % (sys.argv[2], fault), file=sys.stderr)
        counts = (0, 1, 0)		# a runner that died before it could say anything has failed
    if sum(counts) == 0:
        counts = (0, 1, 0)		# as has one that ran nothing
    print(*counts)


main()
