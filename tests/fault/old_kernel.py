#!/usr/bin/env python3
"""Runs a program as on a kernel that does not know these system calls: they fail with ENOSYS.

    old_kernel.py CALL[,CALL]... PROGRAM [ARGUMENT]...
"""
import ctypes
import errno
import os
import sys

ALLOW, ERRNO = 0x7fff0000, 0x00050000

seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
filter_ = ctypes.c_void_p(seccomp.seccomp_init(ALLOW))
for name in sys.argv[1].split(","):
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    assert seccomp.seccomp_rule_add_array(filter_, ERRNO | errno.ENOSYS, number, 0, None) == 0, name
assert seccomp.seccomp_load(filter_) == 0
os.execv(sys.argv[2], sys.argv[2:])
