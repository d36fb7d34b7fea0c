#!/usr/bin/env python3
"""Includes point one way: a folder includes from itself and from folders before it in meson.build.
A library's header is included only by the files that stand between it and the rest, so that it can
be replaced."""
import fnmatch
import os
import re

import tree

# header → who may include it (fnmatch patterns); tests may include what they need
LIBRARIES = {
    "lmdb.h": ["queue/store*"],
    "ares.h": ["dns/channel.c", "dns/resolver.c"],
    "curl/*": ["mta/https/*"],
    "confuse.h": ["mta/config/*.c"],
    "uv.h": ["mta/net/*", "mta/https/*", "mta/auth/*", "mta/reactor/*", "mta/inbound/*",
             "mta/assurance/*", "mta/delivery/*",
             "mta/outbound/*", "mta/outbound/*/*", "mta/control/*", "mta/*"],
    "openssl/*": ["mta/tls/*", "mta/auth/scram*"],
    "openssl/ssl.h": ["mta/tls/*"],
    "openssl/x509*": ["mta/tls/*"],
    "crypt.h": ["mta/auth/hash.c"],
    "stringprep.h": ["mta/auth/prep.c"],
    "jansson.h": ["mta/tlsrpt/json.c", "mta/assurance/*", "mta/delivery/*", "mta/outbound/*",
                  "mta/outbound/*/*", "mta/control/*", "mta/ctl/*", "mta/sendmail/*", "mta/*"],
    "zlib.h": ["mta/tlsrpt/gzip.c"],
    "pcre2.h": ["policy/pattern.c"],
    "seccomp.h": ["mta/keeper/calls.c"],
    "systemd/*": ["mta/service.c"],
    "idn2.h": ["dns/*"],
    "arpa/nameser*": ["dns/*"],
    "resolv.h": ["dns/*"],
}


def direct(pattern, path):
    """fnmatch, but '*' does not cross a '/': mta/x.c is not mta/net/x.c."""
    return pattern.count("/") == path.count("/") and fnmatch.fnmatch(path, pattern)


def main():
    order = tree.folders()
    faults = []
    for path in tree.files(".c", ".h"):
        own = tree.folder_of(path, order)
        source = tree.code(path, keep_strings=True)
        for found in re.finditer(r'(?m)^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', source):
            where = "%s:%d" % (path, tree.line_of(source, found.start()))
            name = found[2]
            if found[1] == '"':
                target = name if os.path.exists(os.path.join(tree.ROOT, name)) else \
                    os.path.normpath(os.path.join(os.path.dirname(path), name))
                theirs = tree.folder_of(target, order)
                if target != name and own != "tests":
                    faults.append('%s: include from the root: "%s", not "%s"' % (where, target,
                                                                                 name))
                elif own and theirs and order.index(theirs) > order.index(own):
                    faults.append("%s: %s comes before %s in meson.build: it cannot include %s" % (
                        where, own, theirs, name))
            elif own != "tests":
                for header, allowed in LIBRARIES.items():
                    if fnmatch.fnmatch(name, header) and not any(direct(a, path) for a in allowed):
                        faults.append("%s: <%s> is included only by %s" % (where, name,
                                                                           ", ".join(allowed)))
    tree.finish(faults, "see the order of subdir() lines in meson.build, and LIBRARIES in "
                        "tests/lint/includes.py")


main()
