"""An HTTP/1.1 server on raw sockets, which keeps the header of every request as it came: http_server.py ADDRESS PORT.

What it does with a request is said by its path; see `Server`. Each answer has `x-connection`, the number of the
connection that it came by, and `x-digest`, length and SHA-256 of the request's body.
"""

import json
import select
import signal
import socket
import struct
import sys
import threading
import time

import pattern


class Ended(Exception):
    """The client has gone."""


class Incoming:
    """A client's bytes."""

    def __init__(self, sock):
        self.sock = sock
        self.kept = b""
        self.trailers = []

    def more(self):
        chunk = self.sock.recv(1 << 18)
        if not chunk:
            raise Ended
        self.kept += chunk

    def until(self, end):
        while end not in self.kept:
            self.more()
        found, _, self.kept = self.kept.partition(end)
        return found + end

    def exactly(self, length):
        parts = []
        while length > 0:
            if not self.kept:
                self.more()
            parts.append(self.kept[:length])
            self.kept = self.kept[length:]
            length -= len(parts[-1])
        return b"".join(parts)

    def chunks(self):
        parts = []
        while length := int(self.until(b"\r\n").split(b";")[0], 16):
            parts.append(self.exactly(length))
            self.until(b"\r\n")
        while (line := self.until(b"\r\n")) != b"\r\n":
            self.trailers.append(line.decode("latin-1").strip())
        return b"".join(parts)


class Server:
    def __init__(self):
        self.lock = threading.Lock()
        self.heads = []
        self.whole = 0
        self.trailers = []
        self.stalled = None
        self.connections = 0
        self.raced = 0

    def serve(self, sock):
        with self.lock:
            self.connections += 1
            number = self.connections
        incoming = Incoming(sock)
        while True:
            head = incoming.until(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
            counts = target != "/count"
            if counts:
                with self.lock:
                    self.heads.append(head.decode("latin-1"))
            body = b"" if target == "/early" else self.body(sock, incoming, head)
            if counts:
                with self.lock:
                    self.whole += 1
                    self.trailers += incoming.trailers
                    incoming.trailers = []
            digest = pattern.Digest()
            digest.update(body)
            fields = f"x-connection: {number}\r\nx-digest: {digest}\r\n"
            name = target.strip("/").split("?")[0].replace("-", "_")
            if not getattr(self, f"on_{name}")(sock, method, fields, body):
                return

    def body(self, sock, incoming, head):
        fields = {}
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip().lower()
        if fields.get("expect") == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.get("transfer-encoding") == "chunked":
            return incoming.chunks()
        return incoming.exactly(int(fields.get("content-length", "0")))

    def on_echo(self, sock, method, fields, body):
        """Sends the body back; to HEAD it says how long a body it keeps."""
        length = 1234 if method == "HEAD" else len(body)
        sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{fields}\r\n".encode() + body)
        return True

    def on_chunked(self, sock, _method, fields, body):
        """Sends it back in chunks."""
        sock.sendall(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{fields}\r\n".encode())
        for start in range(0, len(body), 7919):
            chunk = body[start : start + 7919]
            sock.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        return True

    def on_trailers(self, sock, _method, fields, body):
        """Sends it back in one chunk, with a trailer."""
        head = f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n{fields}\r\n"
        sock.sendall(f"{head}{len(body):x}\r\n".encode() + body + b"\r\n0\r\nx-sum: 3\r\n\r\n")
        return True

    def on_early(self, sock, _method, fields, _body):
        """Answers before the body, of which it reads nothing."""
        sock.sendall(f"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n{fields}\r\n".encode())
        return False

    def on_close_delimited(self, sock, _method, fields, _body):
        """Its answer ends with the connection."""
        sock.sendall(f"HTTP/1.1 200 OK\r\n{fields}\r\nto the end".encode())
        return False

    def on_reset_before(self, sock, _method, _fields, _body):
        """Resets without an answer."""
        reset(sock)
        return False

    def on_reset_mid(self, sock, _method, fields, _body):
        """Resets in the middle of its answer."""
        sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n{fields}\r\n0123456789".encode())
        reset(sock)
        return False

    def on_cut(self, sock, _method, fields, _body):
        """Closes in the middle of its answer."""
        sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n{fields}\r\n0123456789".encode())
        return False

    def on_garbage(self, sock, _method, _fields, _body):
        """Answers what is not HTTP."""
        sock.sendall(b"\x00\x01 this is not HTTP\r\n\r\n")
        return False

    def on_stall(self, sock, _method, fields, _body):
        """Stops in the middle of its answer, until its client goes."""
        sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n{fields}\r\n0123456789".encode())
        while sock.recv(4096):
            pass
        return False

    def on_close_after(self, sock, method, fields, body):
        """Answers, and closes without having said so."""
        self.on_echo(sock, method, fields, body)
        return False

    def on_close_late(self, sock, method, fields, body):
        """The same, but when its client may have been put to rest."""
        self.on_echo(sock, method, fields, body)
        return bool(select.select([sock], [], [], 2.2)[0])

    def on_hints(self, sock, _method, fields, _body):
        """Two hints, the second together with the answer."""
        hint = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n"
        sock.sendall(f"{hint}connection: x-hop\r\nx-hop: 1\r\n\r\n".encode())
        select.select([sock], [], [], 0.2)
        answer = f"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n{fields}\r\nafter hints"
        sock.sendall(f"{hint}\r\n{answer}".encode())
        return True

    def on_silent(self, sock, _method, _fields, _body):
        """Does not answer, until its client goes."""
        while sock.recv(4096):
            pass
        return False

    def on_race(self, sock, method, fields, body):
        """Answers the first such request after a while, the others never."""
        with self.lock:
            self.raced += 1
            is_first = self.raced == 1
        if not is_first:
            return self.on_silent(sock, method, fields, body)
        time.sleep(3)
        return self.on_echo(sock, method, fields, body)

    def on_flood(self, sock, _method, fields, _body):
        """Answers without end, and keeps how much it had sent when that stopped for a second."""
        sock.sendall(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{fields}\r\n".encode())
        chunk = memoryview(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        sent = 0
        while True:
            at = sent % len(chunk)
            if not select.select([], [sock], [], 1)[1]:
                with self.lock:
                    self.stalled = sent
                continue
            sent += sock.send(chunk[at:], socket.MSG_DONTWAIT)

    def on_count(self, sock, _method, _fields, _body):
        """Says which requests came, but for those that asked this, how many of them came whole, their trailers, and
        where a flood came to a halt.
        """
        with self.lock:
            names = ("heads", "whole", "trailers", "stalled")
            seen = json.dumps({name: getattr(self, name) for name in names}).encode()
        sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {len(seen)}\r\n\r\n".encode() + seen)
        return True


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def main():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=128)
    server = Server()

    def run(sock):
        with sock:
            try:
                server.serve(sock)
            except (OSError, Ended):
                pass

    print("listening", flush=True)
    while True:
        threading.Thread(target=run, args=(listener.accept()[0],), daemon=True).start()


main()
