#!/usr/bin/env python3
"""tramd(8), LOG, names each event that the code logs, and no other."""
import re

import tree

CALLS = (r'\blog_message\(\s*[^",]+,\s*"([a-z-]+)"',
         r'\b(?:log_site|delivery_log_trouble)\(\w+, "([a-z-]+)"')
# one of several, by a condition
BEGIN = re.compile(r'\blog_begin\(&l,(.*?)(?:;|\{|\blog_)', re.S)


def logged():
    found = set()
    for path in tree.files(".c"):
        text = (tree.text(path) if path.startswith("mta/")
                and not path.startswith("mta/base/") else "")
        for call in CALLS:
            found.update(re.findall(call, text))
        for call in BEGIN.findall(text):
            found.update(re.findall(r'"([a-z-]+)"', call))
    return found


def named():
    log = re.search(r"\n# LOG\n(.*?)\n# ", tree.text("contrib/man/tramd.8.scd"), re.S)[1]
    return {event for line in log.splitlines() if line.startswith("*")
            for event in re.findall(r"\*([a-z-]+)\*", line)}


def main():
    code, manual = logged(), named()
    print("%d events" % len(code))
    tree.finish(["contrib/man/tramd.8.scd: event %s is not explained" % event
                 for event in sorted(code - manual)]
                + ["contrib/man/tramd.8.scd: event %s is never logged" % event
                   for event in sorted(manual - code)],
                "what is logged and what LOG in the manual says")


if __name__ == "__main__":
    main()
