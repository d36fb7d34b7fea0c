#!/usr/bin/env python3
"""No function that truncates, overflows or hides an error; no typedef of a struct; no marks of
unfinished work."""
import re

import tree

FORBIDDEN = {
    "strcpy strcat stpcpy strncpy strncat sprintf vsprintf gets": "use struct buf, struct span or "
                                                                  "snprintf",
    "atoi atol atoll atof": "use span_parse_u64 or strtoull with its checks",
    "strtok strtok_r strsep": "use span_split",
    "setjmp longjmp sigsetjmp siglongjmp": "errors are values",
    "alloca": "use an arena",
    "system popen": "no shell, ever",
    "rand srand random srandom": "use getrandom",
    "mktemp tmpnam tempnam": "use mkstemp or O_TMPFILE",
    "gethostbyname gethostbyaddr getaddrinfo": "names are looked up by dns/",
    "localtime gmtime ctime asctime": "use the _r form",
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def main():
    hints = {name: hint for names, hint in FORBIDDEN.items() for name in names.split()}
    calls = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(hints))
    faults = []
    for path in tree.files(".c", ".h"):
        source = tree.code(path)
        for found in calls.finditer(source):
            faults.append("%s:%d: %s() is not used here: %s" % (
                path, tree.line_of(source, found.start()), found[1], hints[found[1]]))
        for found in re.finditer(r"\btypedef\s+(struct|union)\b", source):
            faults.append("%s:%d: no typedef of a %s" % (path, tree.line_of(source, found.start()),
                                                         found[1]))
    for path in tree.files(".c", ".h", ".py", ".sh", ".build", ".md", ".scd", "run", "test"):
        if path == "tests/lint/words.py":
            continue
        source = tree.text(path)
        if path.endswith((".c", ".h")):		# a time zone in a string may be called XXX
            source = tree.TOKENS.sub(lambda t: '""' if t[0][0] == '"' else t[0], source)
        for i, line in enumerate(source.split("\n"), 1):
            if found := UNFINISHED.search(line):
                faults.append("%s:%d: %s: finish it, test it, or take it out" % (path, i, found[1]))
    tree.finish(faults, "see the hints")


main()
