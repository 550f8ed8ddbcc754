"""Test servers: serve.py KIND ADDRESS, where ADDRESS is ip:port, [ip]:port, or *:port for all addresses of both
families by one socket. See `Kind` in src/servers.
"""

import asyncio
import json
import signal
import socket
import struct
import sys
import threading
import time

import pattern


def banner(sock, _peer):
    sock.sendall(b"220 ready\n")
    for line in sock.makefile("rb"):
        sock.sendall(b"250 " + line)


def peername(sock, peer):
    seen = {
        "accept": pattern.text(peer),
        "getpeername": pattern.text(sock.getpeername()),
        "getsockname": pattern.text(sock.getsockname()),
    }
    sock.sendall(json.dumps(seen).encode() + b"\n")
    pattern.receive(sock)


def sink(sock, _peer):
    sock.sendall(pattern.receive(sock).encode() + b"\n")


def source(sock, _peer):
    wanted = int(sock.makefile("rb").readline())
    pattern.send(sock, wanted)
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile("rb").read().decode(), flush=True)


def blackhole(_sock, _peer):
    threading.Event().wait()


def hasty(sock, _peer):
    wanted = int(sock.recv(10, socket.MSG_WAITALL))
    pattern.send(sock, wanted)


def cutoff(sock, _peer):
    """Breaks off in the middle: what it answered so far, then a reset, while the client goes on sending."""
    wanted = int(sock.recv(10, socket.MSG_WAITALL))
    pattern.send(sock, wanted)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.2)  # The client's sending has come to a halt by then.


def each_in_a_thread(handle, listener):
    def run(sock, peer):
        with sock:
            try:
                handle(sock, peer)
            except OSError as error:
                print(error, file=sys.stderr, flush=True)

    while True:
        threading.Thread(target=run, args=listener.accept(), daemon=True).start()


async def echo(reader, writer):
    """One thread for all: this one is for thousands of connections."""
    try:
        while chunk := await reader.read(1 << 18):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        writer.close()


def echo_datagrams(address, family):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)

    def run():
        while True:
            datagram, peer = sock.recvfrom(65536)
            sock.sendto(datagram, peer)

    threading.Thread(target=run, daemon=True).start()


async def each_in_turn(handle, listener):
    server = await asyncio.start_server(handle, sock=listener, backlog=4096)
    await server.serve_forever()


def main():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    kind, where = sys.argv[1:]
    host, port = where.rsplit(":", 1)
    both = host == "*"
    address = ("::" if both else host.strip("[]"), int(port))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    # Otherwise an IPv6 listener takes IPv6 only, so that one of each family can share a port.
    listener = socket.create_server(address, family=family, backlog=4096, dualstack_ipv6=both)
    if kind == "echo":
        echo_datagrams(address, family)
    print("listening", flush=True)
    if kind == "echo":
        asyncio.run(each_in_turn(echo, listener))
    else:
        handlers = {h.__name__: h for h in (banner, peername, sink, source, blackhole, hasty, cutoff)}
        each_in_a_thread(handlers[kind], listener)


main()
