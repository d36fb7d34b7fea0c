#!/usr/bin/env python3
"""Runs a program under what contrib/tram.service lays on it, where there is no systemd to do so: no
new privileges, no memory that is both written and executed, only the system calls and the families
of sockets that the unit names.

    confine.py UNIT PROGRAM [ARGUMENT]...

The rest (user, capabilities, mounts) is setpriv's and unshare's. Needs systemd-analyze (which knows
the groups of system calls) and libseccomp, no compiler.
"""
import ctypes
import errno
import os
import re
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
ALLOW, ERRNO, EQ = 0x7fff0000, 0x00050000, 4
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64)]


def members(words):
    """The system calls that a list like "@system-service mincore" means."""
    return set().union(*[group(word) if word.startswith("@") else {word} for word in words])


def group(name):
    text = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager", name], check=True,
                          stdout=subprocess.PIPE).stdout.decode()
    return members(re.findall(r"(?m)^ +(@?[a-z0-9_-]+)", text))


def confine(unit):
    settings = dict(re.findall(r"(?m)^([A-Za-z]+)=(.*)$", unit))
    libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    filter_ = ctypes.c_void_p(seccomp.seccomp_init(ERRNO | errno.EPERM))
    for name in members(settings["SystemCallFilter"].split()) | {"execve"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and name != "socket":
            assert seccomp.seccomp_rule_add_array(filter_, ALLOW, number, 0, None) == 0, name
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in settings["RestrictAddressFamilies"].split():
        only = Compare(0, EQ, FAMILIES[family], 0)
        assert seccomp.seccomp_rule_add_array(filter_, ALLOW, number, 1,
                                              ctypes.byref(only)) == 0, family
    assert settings["NoNewPrivileges"] == settings["MemoryDenyWriteExecute"] == "yes"
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if libc.prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
        # Linux before 6.3 does not know it
        assert ctypes.get_errno() == errno.EINVAL
    os.umask(int(settings["UMask"], 8))
    assert seccomp.seccomp_load(filter_) == 0


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as f:
        text = f.read()
    confine(text)
    os.execv(sys.argv[2], sys.argv[2:])
