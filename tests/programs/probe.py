"""Test clients. Each subcommand says on one JSON line what it saw; errors are names of errno(3).

With --hold, a subcommand keeps its connections until its standard input ends, then may say one line more.
"""

import argparse
import contextlib
import ctypes
import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pattern


# include/uapi/linux/tcp.h and include/net/tcp_states.h
TCP_FASTOPEN_CONNECT = 30
TCP_FASTOPEN_NO_COOKIE = 34
TCP_SYN_SENT = 2


def say(seen):
    print(json.dumps(seen), flush=True)


def hold(args):
    if args.hold:
        sys.stdin.read()


def make(host):
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)


def name(number):
    if number in (errno.EAGAIN, errno.EINPROGRESS):
        return "TIMEOUT"
    return errno.errorcode[number] if number else None


def limit(sock, seconds):
    """Bounds every call by the kernel's own timers: Python's timeout would make the socket a non-blocking one."""
    sock.setblocking(True)
    value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)


def resolve(host, port):
    """A socket address, with the interface of a link-local one: fe80::1%eth0."""
    return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)[0][4]


def dial(sock, host, port, args):
    """connect(), and the name of its error."""
    limit(sock, args.timeout)
    if not args.nonblocking:
        return name(sock.connect_ex(resolve(host, port)))
    sock.setblocking(False)
    started = sock.connect_ex(resolve(host, port))
    if started not in (0, errno.EINPROGRESS):
        return name(started)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(args.timeout * 1000):
        return "TIMEOUT"
    result = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    limit(sock, args.timeout)
    return name(result)


def names(sock):
    return {"peername": pattern.text(sock.getpeername()), "sockname": pattern.text(sock.getsockname())}


def read_line(sock):
    """One line, as JSON where it is that; or how the connection ended before it came."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            if not (byte := sock.recv(1)):
                return {"reply": None, "end": "EOF"}
            line += byte
    except OSError as error:
        return {"reply": None, "end": name(error.errno)}
    try:
        return {"reply": json.loads(line), "end": None}
    except ValueError:
        return {"reply": {"text": line.decode().strip()}, "end": None}


def connect(args):
    """Connects, optionally says a line and reads one."""
    with make(args.host) as sock:
        start = time.monotonic()
        if args.source:
            sock.bind(resolve(args.source, 0))
        seen = {"error": dial(sock, args.host, args.port, args), "peername": None}
        if seen["error"] is None:
            # A reset that came first leaves no name to ask for; the read below then tells of it.
            with contextlib.suppress(OSError):
                seen |= names(sock)
            if args.say:
                sock.sendall(args.say.encode() + b"\n")
            if args.read:
                seen |= read_line(sock)
        say(seen | {"elapsedMs": int((time.monotonic() - start) * 1000)})
        hold(args)


def disconnect(sock):
    """connect() to no address: the socket may connect again (connect(2), AF_UNSPEC)."""
    nowhere = (socket.AF_UNSPEC).to_bytes(2, sys.byteorder) + bytes(14)
    if ctypes.CDLL(None).connect(sock.fileno(), nowhere, len(nowhere)) != 0:
        raise OSError("connect to AF_UNSPEC failed")


def retry(args):
    """Connects to one address after the other, with the same socket or new ones, and reads a line from the last."""
    sock, errors = make(args.address[0]), []
    for host, port in zip(args.address[::2], args.address[1::2]):
        if errors and args.way == "new":
            sock.close()
            sock = make(host)
        elif errors and errors[-1] is None:
            disconnect(sock)
        errors.append(dial(sock, host, int(port), args))
    with sock:
        say({"errors": errors} | (names(sock) | read_line(sock) if errors[-1] is None else {}))
        hold(args)


def open_stream(args):
    sock = make(args.host)
    limit(sock, args.timeout)
    sock.connect((args.host, args.port))
    return sock


def upload(args):
    """Sends all, half-closes, and only then reads what the sink says of it."""
    with open_stream(args) as sock:
        sent = pattern.send(sock, args.bytes)
        sock.shutdown(socket.SHUT_WR)
        say({"sent": sent, "received": sock.makefile().read().strip()})


def download(args):
    """Receives all to the source's half-close, and only then sends some more."""
    with open_stream(args) as sock:
        sock.sendall(b"%d\n" % args.bytes)
        received = pattern.receive(sock)
        sock.sendall(b"after the half-close")
        sock.shutdown(socket.SHUT_WR)
        say({"received": received, "expected": pattern.digest(args.bytes)})


def echo(args):
    """Sends and receives at once, half-closes, and compares."""
    with open_stream(args) as sock:
        received = []
        reader = threading.Thread(target=lambda: received.append(pattern.receive(sock)))
        reader.start()
        sent = pattern.send(sock, args.bytes)
        sock.shutdown(socket.SHUT_WR)
        reader.join()
        say({"sent": sent, "received": received[0]})


def early(args):
    """Sends more than the hasty server reads, and counts what it receives until the connection ends; several times."""
    seen = {"received": 0, "whole": 0, "ends": {}}
    start = time.monotonic()
    for _ in range(args.times):
        with open_stream(args) as sock:
            sock.sendall(b"%010d" % args.bytes)
            if args.stuffed:
                stuff(sock)
                received, end = drain(sock)
            else:
                writer = threading.Thread(target=push, args=(sock, 200_000))
                writer.start()
                received, end = drain(sock)
                writer.join()
        seen["ends"][end] = seen["ends"].get(end, 0) + 1
        seen["received"] += received
        seen["whole"] += received == args.bytes
    say(seen | {"elapsedMs": int((time.monotonic() - start) * 1000)})


def push(sock, length):
    # The other side may close at any time.
    with contextlib.suppress(OSError):
        sock.sendall(bytes(length))


def stuff(sock):
    """Sends until nobody takes more; 64 MiB at most. Only this thread then learns of the socket's error."""
    chunk = bytes(1 << 16)
    for _ in range(1024):
        if not select.select([], [sock], [], 0.02)[1]:
            return
        with contextlib.suppress(BlockingIOError):
            sock.send(chunk, socket.MSG_DONTWAIT)


def drain(sock):
    """How many bytes come until the end or a reset, and which of them it was."""
    length, buffer = 0, bytearray(1 << 16)
    try:
        while chunk := sock.recv_into(buffer):
            length += chunk
    except OSError as error:
        return length, name(error.errno)
    return length, "EOF"


def trickle(args):
    """Receives what it asked for slowly, with little room for what comes."""
    with make(args.host) as sock:
        limit(sock, args.timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((args.host, args.port))
        sock.sendall(b"%d\n" % args.bytes)
        start, whole, end = time.monotonic(), pattern.Digest(), None
        try:
            while chunk := sock.recv(args.bytes // 50):
                whole.update(chunk)
                time.sleep(0.05)
        except OSError as error:
            end = name(error.errno)
        elapsed = int((time.monotonic() - start) * 1000)
        expected = pattern.digest(args.bytes)
        say({"received": str(whole), "expected": expected, "end": end, "elapsedMs": elapsed})


def deferred(args):
    """connect() by TCP_FASTOPEN_CONNECT, whose SYN waits for the first write (tcp(7)), then close() without one."""
    seen = {"connected": 0, "waiting": 0, "errors": {}}
    for _ in range(args.count):
        with make(args.host) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
            error = dial(sock, args.host, args.port, args)
            if error is not None:
                seen["errors"][error] = seen["errors"].get(error, 0) + 1
                continue
            seen["connected"] += 1
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            seen["waiting"] += state == TCP_SYN_SENT
    say(seen)


def sweep(args):
    """Connects to one port after the other."""
    seen = {"connected": 0, "errors": {}}
    for port in range(args.port, args.port + args.count):
        with make(args.host) as sock:
            error = dial(sock, args.host, port, args)
        if error is None:
            seen["connected"] += 1
        else:
            seen["errors"][error] = seen["errors"].get(error, 0) + 1
    say(seen)


def udp(args):
    """A datagram from an unconnected and from a connected socket."""
    with make_datagram(args) as free, make_datagram(args) as bound:
        free.sendto(b"ping", (args.host, args.port))
        unconnected, peer = free.recvfrom(100)
        bound.connect((args.host, args.port))
        bound.send(b"ping")
        connected = bound.recv(100)
        say({
            "unconnected": unconnected.decode(),
            "from": pattern.text(peer),
            "connected": connected.decode(),
            "peername": pattern.text(bound.getpeername()),
        })


def make_datagram(args):
    sock = socket.socket(socket.AF_INET6 if ":" in args.host else socket.AF_INET, socket.SOCK_DGRAM)
    limit(sock, args.timeout)
    return sock


def unix(args):
    """A Unix socket of its own."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(directory, "socket")
        listener.bind(path)
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            server, _ = listener.accept()
            with server:
                client.sendall(b"ping")
                server.sendall(server.recv(100))
                say({"reply": client.recv(100).decode()})


def many(args):
    """Opens connections, sends a number on each and reads it back; after the pause once more."""
    socks = [open_stream(args) for _ in range(args.count)]
    seen = {"open": len(socks), "echoed": 0}
    for _ in range(2 if args.hold else 1):
        for number, sock in enumerate(socks):
            sock.sendall(number.to_bytes(8, "big"))
        for number, sock in enumerate(socks):
            seen["echoed"] += sock.recv(8, socket.MSG_WAITALL) == number.to_bytes(8, "big")
        say(seen)
        hold(args)


def children(args):
    """Connects in a forked child and in an executed one."""
    command = [sys.executable, "-B", __file__, "connect", args.host, str(args.port), "--read"]
    executed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    reader, writer = os.pipe()
    if os.fork() == 0:
        with open_stream(args) as sock:
            os.write(writer, json.dumps(names(sock) | read_line(sock)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        forked = json.load(pipe)
    os.wait()
    say({"executed": executed, "forked": forked})


def load(args):
    """One connection after the other, with a round trip each, until the standard input ends."""
    seen = {"ok": 0, "errors": {}}
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        try:
            with open_stream(args) as sock:
                sock.sendall(b"ping")
                what = None if sock.recv(4, socket.MSG_WAITALL) == b"ping" else "EOF"
        except OSError as error:
            what = name(error.errno)
        if what is None:
            seen["ok"] += 1
            if seen["ok"] == 1:
                say(seen)
        else:
            seen["errors"][what] = seen["errors"].get(what, 0) + 1
    say(seen)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(run, *arguments):
        sub = commands.add_parser(run.__name__, help=run.__doc__)
        for argument, kind in arguments:
            sub.add_argument(argument, type=kind)
        sub.add_argument("--hold", action="store_true")
        sub.add_argument("--timeout", type=float, default=20)
        sub.add_argument("--nonblocking", action="store_true")
        sub.set_defaults(run=run)
        return sub

    address = [("host", str), ("port", int)]
    sub = command(connect, *address)
    sub.add_argument("--say")
    sub.add_argument("--source")
    sub.add_argument("--read", action="store_true")
    command(retry, ("way", str)).add_argument("address", nargs="+")
    for transfer in (upload, download, echo, trickle):
        command(transfer, *address, ("bytes", int))
    for simple in (udp, children, load):
        command(simple, *address)
    command(unix)
    for several in (many, deferred, sweep):
        command(several, *address, ("count", int))
    command(early, *address, ("bytes", int), ("times", int)).add_argument("--stuffed", action="store_true")
    args = parser.parse_args()
    args.run(args)


main()
