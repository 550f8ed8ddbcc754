"""An upstream on raw sockets that does what it is told, right or wrong: scripted.py PORT JSON.

The JSON is an object: for each path of a request the steps that follow its header. The connection is closed behind them. A
string is sent as Latin-1. The other steps are lists:

["read", N]         reads so many bytes of what follows the header
["echo", N]         the same, and sends them back
["repeat", TEXT, N] sends a text so many times
["look", SECONDS]   waits whether anything comes, which stays unread
["say", TEXT]       prints a line
["hold"]            reads until the client ends the connection
["reset"]           the close will be a reset

For each connection that is over it prints a line of JSON: the path, `received`, how many bytes came behind the header, `early`,
how many of them had come when it looked, and `end`, how the client ended it, where that was seen.
"""

import json
import select
import signal
import socket
import struct
import sys
import threading


class Ended(Exception):
    """The client has ended its side."""


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.kept = b""
        self.told = {"path": None, "received": 0, "early": None, "end": None}

    def more(self):
        try:
            chunk = self.sock.recv(1 << 16)
        except ConnectionResetError:
            self.told["end"] = "reset"
            raise Ended from None
        if not chunk:
            self.told["end"] = "eof"
            raise Ended
        self.kept += chunk

    def head(self):
        while b"\r\n\r\n" not in self.kept:
            self.more()
        head, _, self.kept = self.kept.partition(b"\r\n\r\n")
        self.told["path"] = head.split(b" ")[1].decode("latin-1")
        return self.told["path"]

    def read(self, length):
        while length > 0:
            if not self.kept:
                self.more()
            part = self.kept[:length]
            self.kept = self.kept[length:]
            length -= len(part)
            self.told["received"] += len(part)
            yield part

    def step(self, what, *args):
        if what == "read":
            for _ in self.read(*args):
                pass
        elif what == "echo":
            for part in self.read(*args):
                self.sock.sendall(part)
        elif what == "repeat":
            for _ in range(args[1]):
                self.sock.sendall(args[0].encode("latin-1"))
        elif what == "say":
            print(*args, flush=True)
        elif what == "look":
            select.select([self.sock], [], [], args[0])
            come = self.sock.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT) if readable(self.sock) else b""
            self.told["early"] = len(self.kept) + len(come)
        elif what == "hold":
            for _ in self.read(sys.maxsize):
                pass
        else:
            assert what == "reset", what
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def serve(self, scripts):
        steps = scripts[self.head()]
        for step in steps:
            if isinstance(step, str):
                self.sock.sendall(step.encode("latin-1"))
            else:
                self.step(*step)
        if ["reset"] not in steps:
            # A close with bytes unread would be a reset, which takes along what was sent.
            self.sock.shutdown(socket.SHUT_WR)
            self.step("hold")


def readable(sock):
    return bool(select.select([sock], [], [], 0)[0])


def run(sock, scripts):
    connection = Connection(sock)
    with sock:
        try:
            connection.serve(scripts)
        except Ended:
            pass
        except OSError as error:
            connection.told["end"] = type(error).__name__
    if connection.told["path"]:
        print(json.dumps(connection.told), flush=True)


def main():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=128)
    scripts = json.loads(sys.argv[2])
    print("listening", flush=True)
    while True:
        threading.Thread(target=run, args=(listener.accept()[0], scripts), daemon=True).start()


main()
