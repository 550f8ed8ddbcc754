"""A DNS server for addresses of IPv4: dns_server.py ADDRESS. A line `NAME TTL ADDRESS...` on standard input says what a name
has from then on, and is repeated on standard output; a name that has none does not exist.
"""

import socket
import struct
import sys
import threading

A = 1
NO_SUCH_NAME = 3

names = {}


def name_of(query):
    labels = []
    at = 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def answer(query):
    name, end = name_of(query)
    (kind,) = struct.unpack("!H", query[end : end + 2])
    ttl, addresses = names.get(name, (0, []))
    # RFC 1035 section 4.1.1: a response, recursion as desired and available.
    flags = 0x8180 | (0 if addresses else NO_SUCH_NAME)
    records = addresses if kind == A else []
    header = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
    # Each names what was asked by its place in the message (section 4.1.4).
    each = [struct.pack("!HHHIH", 0xC00C, A, 1, ttl, 4) + socket.inet_aton(address) for address in records]
    return header + query[12 : end + 4] + b"".join(each)


def serve(sock):
    while True:
        query, client = sock.recvfrom(4096)
        sock.sendto(answer(query), client)


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((sys.argv[1], 53))
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
    print("listening", flush=True)
    for line in sys.stdin:
        name, ttl, *addresses = line.split()
        names[name] = (int(ttl), addresses)
        print("told", line.strip(), flush=True)


main()
