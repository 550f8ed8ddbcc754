"""A DNS server over UDP (RFC 1035): dns_server.py ADDRESS PORT ZONE LOG.

ZONE is a file, read at each query: JSON of names to {"ttl": SECONDS, "addresses": [...]}. A name that has no addresses is
answered with SERVFAIL, one that is not there with NXDOMAIN. Each query for IPv4 addresses adds its name to the file LOG.
"""

import json
import signal
import socket
import struct
import sys

A, AAAA, IN = 1, 28, 1
SERVFAIL, NXDOMAIN = 2, 3
# An answer, with recursion.
FLAGS = 0x8180


def question(message):
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    kind, _ = struct.unpack_from("!HH", message, at + 1)
    return ".".join(labels), kind, message[12 : at + 5]


def answer(message, zone):
    name, kind, asked = question(message)
    entry = zone.get(name)
    code, records = 0, []
    if entry is None:
        code = NXDOMAIN
    elif not entry["addresses"]:
        code = SERVFAIL
    elif kind == A:
        # The name is a pointer to the question's (section 4.1.4).
        head = struct.pack("!HHHIH", 0xC00C, A, IN, entry["ttl"], 4)
        records = [head + socket.inet_aton(address) for address in entry["addresses"]]
    header = struct.pack("!HHHHHH", struct.unpack_from("!H", message)[0], FLAGS | code, 1, len(records), 0, 0)
    return name, kind, header + asked + b"".join(records)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address, port, zone, log = sys.argv[1:]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, int(port)))
    print("listening", flush=True)
    while True:
        message, client = server.recvfrom(4096)
        with open(zone, encoding="utf-8") as file:
            name, kind, said = answer(message, json.load(file))
        if kind == A:
            with open(log, "a", encoding="utf-8") as file:
                file.write(name + "\n")
        server.sendto(said, client)


main()
