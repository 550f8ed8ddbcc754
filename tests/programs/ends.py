"""Ends of connections, which know what they sent and check what they receive, byte by byte."""

import os
import select
import socket
import time

import pattern

# As long as the longest piece, from any place in the pattern.
LAP = len(pattern.BLOCK)
PIECE = 1 << 18
LAPS = pattern.BLOCK + pattern.BLOCK[:PIECE]
PATIENCE = 15
# How a program reads: by level- or edge-triggered epoll, by poll(2), waiting in recv(), or by splice(2).
WAYS = ["epoll", "edge", "poll", "blocking", "splice"]


class Ended(Exception):
    """The end came before all bytes did."""


class Stamp:
    """An endless stream of bytes that say where they belong; streams of different seeds differ."""

    def __init__(self, seed):
        self.at = seed * 104_729

    def next(self, length):
        start = self.at % LAP
        return memoryview(LAPS)[start:start + min(length, PIECE)]

    def around(self, before, after):
        """Bytes that have been, and bytes that come."""
        start = (self.at - before) % LAP
        return bytes(LAPS[start:start + before + after])


class End:
    """One end of a connection. Calls take what the kernel takes at once where they are named `some`."""

    def __init__(self, sock, seeds, way):
        self.sock = sock
        self.out, self.into = map(Stamp, seeds)
        self.sent = self.received = 0
        self.pipe = None
        self.use(way)

    def use(self, way):
        """From now on reads in this way."""
        self.way = way
        self.sock.setblocking(way == "blocking")
        edges = select.EPOLLET if way == "edge" else 0
        self.watchers = {}
        for events in (select.EPOLLIN, select.EPOLLOUT):
            self.watchers[events] = select.poll() if way == "poll" else select.epoll()
            self.watchers[events].register(self.sock, events | edges)
        if way == "splice" and self.pipe is None:
            self.pipe = os.pipe()

    def ready(self, events, seconds=PATIENCE):
        """Waits for one of these events or the end; False when nothing happens. Edges come once: try before it."""
        return bool(self.watchers[events].poll(seconds * 1000 if self.way == "poll" else seconds))

    def send_some(self, length):
        """One write; 0 when there is no room."""
        try:
            sent = self.sock.send(self.out.next(length))
        except BlockingIOError:
            if self.way == "blocking":
                raise AssertionError("EAGAIN from a blocking write") from None
            return 0
        self.out.at += sent
        self.sent += sent
        return sent

    def send(self, length):
        while length > 0:
            sent = self.send_some(length)
            length -= sent
            if not sent and not self.ready(select.EPOLLOUT):
                raise AssertionError(f"no room to write after {self.sent} bytes")

    def receive_some(self, length):
        """One read; None when nothing is there, 0 at the end."""
        try:
            piece = self.splice(length) if self.way == "splice" else self.sock.recv(length)
        except BlockingIOError:
            if self.way == "blocking":
                raise AssertionError(f"EAGAIN from a blocking read after {self.received} bytes") from None
            return None
        if piece != self.into.next(len(piece)):
            raise AssertionError(f"wrong bytes in {len(piece)} after {self.received}: {bytes(piece[:16])}")
        self.into.at += len(piece)
        self.received += len(piece)
        return len(piece)

    def splice(self, length):
        reader, writer = self.pipe
        moved = os.splice(self.sock.fileno(), writer, min(length, 1 << 16), flags=2)  # SPLICE_F_NONBLOCK
        return os.read(reader, moved) if moved else b""

    def receive(self, length):
        until = time.monotonic() + PATIENCE
        while length > 0:
            read = self.receive_some(min(length, PIECE))
            if read == 0:
                raise Ended(f"the end after {self.received} bytes, {length} early")
            if read:
                length -= read
                until = time.monotonic() + PATIENCE
            elif not self.ready(select.EPOLLIN) or time.monotonic() > until:
                raise AssertionError(f"nothing comes after {self.received} bytes, {length} early")

    def finish(self):
        """Reads the end, and nothing before it."""
        while (read := self.receive_some(PIECE)) is None:
            if not self.ready(select.EPOLLIN):
                raise AssertionError(f"no end after {self.received} bytes")
        if read:
            raise AssertionError(f"{read} bytes more than were sent")

    def close(self):
        self.sock.close()
        for descriptor in self.pipe or ():
            os.close(descriptor)


class Line:
    """A connection from this program to itself, through the proxy: `near` dialled, `far` accepted."""

    def __init__(self, listener, way="epoll", far_way="epoll", seed=1, source=None, setup=None):
        near = socket.socket()
        if setup:
            setup(near)
        if source:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            near.bind(("127.0.0.1", source))
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        self.near = End(near, (2 * seed, 2 * seed + 1), way)
        self.far = End(far, (2 * seed + 1, 2 * seed), far_way)

    def round(self, length=64):
        """There and back."""
        for writer, reader in ((self.near, self.far), (self.far, self.near)):
            writer.send(length)
            reader.receive(length)

    def warm(self, rounds=64, seconds=0.2):
        """Round trips until the proxy has looked often enough, and the last bytes by TCP are acknowledged."""
        until = time.monotonic() + seconds
        while rounds > 0 or time.monotonic() < until:
            self.round()
            rounds -= 1
        return self

    def settle(self):
        """Reads all that is still on its way."""
        self.far.receive(self.near.sent - self.far.received)
        self.near.receive(self.far.sent - self.near.received)

    def close(self):
        self.near.close()
        self.far.close()
