"""Segments of a connection that its ends did not send now: what a network repeats, or a sender that heard nothing."""

import contextlib
import os
import socket
import struct

# include/uapi/linux/tcp.h
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
REPAIR_OFF = -1  # Without a window probe.

ACK, PUSH, FIN = 0x10, 0x08, 0x01


@contextlib.contextmanager
def repair(sock):
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    try:
        yield
    finally:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF)


def numbers(sock):
    """The sequence numbers that come next: received, sent."""
    found = []
    with repair(sock):
        for queue in (RECEIVE_QUEUE, SEND_QUEUE):
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
            found.append(sock.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFF_FFFF)
    return found


def ports(sock):
    """This end's and the other's, as they really are: getpeername() shows the original destination."""
    inode = str(os.fstat(sock.fileno()).st_ino)
    with open("/proc/net/tcp", encoding="ascii") as table:
        for entry in map(str.split, table):
            if entry[9] == inode:
                return [int(entry[column].split(":")[1], 16) for column in (1, 2)]
    raise AssertionError(f"no socket {inode} in /proc/net/tcp")


def checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def inject(sock, outward, old, payload, flags=ACK | PUSH):
    """A segment that begins `old` bytes before what comes next: to this socket, or `outward`, to its peer. Loopback only."""
    received, sent = numbers(sock)
    here, there = ports(sock)
    source, target, first, acked = (here, there, sent, received) if outward else (there, here, received, sent)
    header = struct.pack("!HHIIBBHHH", source, target, (first - old) & 0xFFFF_FFFF, acked, 5 << 4, flags, 512, 0, 0)
    loopback = socket.inet_aton("127.0.0.1")
    pseudo = loopback * 2 + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header) + len(payload))
    header = header[:16] + struct.pack("!H", checksum(pseudo + header + payload)) + header[18:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(header + payload, ("127.0.0.1", 0))
