"""Listens on many ports: listeners.py HOST PORT COUNT [--twice].

Says on one JSON line on how many, and listens until its standard input ends. With --twice, two processes listen on each
port (SO_REUSEPORT), both at the same moment, and one of the two has closed all of its sockets again by the time that
the line is said.
"""

import argparse
import json
import mmap
import os
import socket
import struct
import sys
import time


def bound(args):
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    socks = []
    for port in range(args.port, args.port + args.count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if args.twice:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((args.host, port))
        socks.append(sock)
    return socks


def in_step(socks, steps, own):
    """Calls listen() on each as soon as the other process is there too."""
    deadline = time.monotonic() + 20
    for number, sock in enumerate(socks, 1):
        struct.pack_into("q", steps, 8 * own, number)
        while struct.unpack_from("q", steps, 8 * (1 - own))[0] < number:
            if time.monotonic() > deadline:
                sys.exit("the other process does not come")
        sock.listen(4096)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--twice", action="store_true")
    args = parser.parse_args()
    socks = bound(args)
    if args.twice:
        steps = mmap.mmap(-1, 16)
        if (child := os.fork()) == 0:
            # The inherited sockets are the parent's listeners: they would stay open here.
            for sock in socks:
                sock.close()
            in_step(bound(args), steps, 1)
            os._exit(0)
        in_step(socks, steps, 0)
        os.waitpid(child, 0)
    else:
        for sock in socks:
            sock.listen(4096)
    print(json.dumps({"listening": len(socks)}), flush=True)
    sys.stdin.read()


main()
