"""Runs a program with bpf(2) refused, as a container's default seccomp profile does to who has no capability.

without_bpf.py PROGRAM [ARGUMENT]...
"""

import ctypes
import os
import platform
import struct
import sys

# include/uapi/linux/prctl.h, seccomp.h, filter.h, audit.h; the numbers of bpf(2)
NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM = 1
ARCHITECTURES = {"x86_64": (0xC000003E, 321), "aarch64": (0xC00000B7, 280)}


def refuse():
    architecture, number = ARCHITECTURES[platform.machine()]
    steps = [
        (LOAD, 0, 0, 4),
        (EQUALS, 0, 3, architecture),
        (LOAD, 0, 0, 0),
        (EQUALS, 0, 1, number),
        (RETURN, 0, 0, ERRNO | EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in [(NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, MODE_FILTER, program, 0, 0)]:
        if libc.prctl(*call) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")


refuse()
os.execvp(sys.argv[1], sys.argv[1:])
