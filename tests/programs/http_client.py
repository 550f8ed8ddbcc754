"""An HTTP/1.1 client on raw sockets, which prints one JSON line for each case. Its commands:

cases HOST PORT JSON
    Runs each case on a connection of its own. A case is an object: `name`; `steps`, where a string is sent as
    Latin-1, null waits for one more answer, a number for so many bytes, and a number with a fraction is a pause in
    seconds; and `answers`, how many to read after that, where null reads on until the connection ends, "rest" does so
    without taking what comes for answers, and "reset" resets it.
transfer HOST PORT PATH BYTES FRAMING
    Sends a body, `length` or `chunked`, and reads one.
half HOST PORT PATH
    Sends a request with a body, ends its side of the connection, and reads to the end.
dribble HOST PORT TEXT SECONDS
    Sends a byte of the text each so many seconds, or until an answer comes, which it reads.
lag HOST PORT PATH BYTES
    Reads nothing of an answer until its standard input ends, then so many bytes of it.
watch HOST PORT PATH FIELD
    Asks for a path again and again on one connection, until its standard input ends, and prints each value of a field of
    the answers' headers that is not the one before. An answer that is not good ends it.
leave HOST PORT PATH STATUS
    Resets the connection when the first bytes of an answer's body are there; for status 0, when the request has come
    to a server that does not answer.
"""

import json
import select
import socket
import struct
import sys
import threading
import time

import pattern

# Longer than anything here takes, shorter than a test waits.
PATIENCE = 10


class End(Exception):
    """The connection ended where a message had not."""


class Answers:
    """What a server sends."""

    def __init__(self, sock):
        self.sock = sock
        self.kept = b""
        self.end = None

    def more(self):
        try:
            chunk = self.sock.recv(1 << 18)
        except TimeoutError:
            self.end = "timeout"
        except ConnectionResetError:
            self.end = "reset"
        else:
            self.kept += chunk
            self.end = None if chunk else "eof"
        if self.end:
            raise End

    def line(self):
        while b"\r\n" not in self.kept:
            self.more()
        line, _, self.kept = self.kept.partition(b"\r\n")
        return line.decode("latin-1")

    def head(self):
        status = int(self.line().split(" ")[1])
        fields = {}
        while line := self.line():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return status, fields

    def sized(self, length, body):
        while length > 0:
            if not self.kept:
                self.more()
            part = self.kept[:length]
            self.kept = self.kept[length:]
            length -= len(part)
            body.take(part)

    def bytes(self, length):
        body = Body()
        self.sized(length, body)
        return body.text()

    def answer(self, method):
        """The next answer as an object; `cut` where it did not come whole."""
        status, fields = self.head()
        body = Body()
        trailers = []
        cut = False
        try:
            connected = method == "CONNECT" and status < 300
            if method == "HEAD" or connected or status < 200 or status in (204, 304):
                pass
            elif fields.get("transfer-encoding") == "chunked":
                while length := int(self.line(), 16):
                    self.sized(length, body)
                    self.line()
                while line := self.line():
                    trailers.append(line)
            elif "content-length" in fields:
                self.sized(int(fields["content-length"]), body)
            else:
                self.sized(sys.maxsize, body)
        except End:
            cut = "content-length" in fields or "transfer-encoding" in fields or self.end != "eof"
        digest = str(body.digest)
        told = {"body": body.text(), "digest": digest, "trailers": trailers, "cut": cut}
        return {"status": status, "headers": fields, **told}


class Body:
    """The digest of a body, and its beginning."""

    def __init__(self):
        self.digest = pattern.Digest()
        self.beginning = b""

    def take(self, part):
        self.digest.update(part)
        if len(self.beginning) < 1 << 16:
            self.beginning += part

    def text(self):
        return self.beginning[: 1 << 16].decode("latin-1")


def connect(host, port):
    sock = socket.create_connection((host, int(port)), PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def reset(sock):
    """Its close will be one."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def run(host, port, case):
    answers, method = [], ""
    with connect(host, port) as sock:
        reader = Answers(sock)
        left = case["answers"]
        try:
            for step in case["steps"]:
                if step is None:
                    answers.append(reader.answer(method))
                elif isinstance(step, float):
                    time.sleep(step)
                elif isinstance(step, int):
                    answers.append(reader.bytes(step))
                else:
                    method = step.split(" ")[0]
                    sock.sendall(step.encode("latin-1"))
            if left == "reset":
                reset(sock)
                left = 0
            while left == "rest":
                reader.more()
            while left is None or left > 0:
                answers.append(reader.answer(method))
                left = left and left - 1
        except End:
            pass
        except OSError as error:
            reader.end = f"send: {error}"
        local = pattern.text(sock.getsockname())
    rest = reader.kept[: 1 << 16].decode("latin-1")
    told = {"answers": answers, "rest": rest, "end": reader.end, "local": local}
    print(json.dumps({"name": case["name"], **told}), flush=True)


def transfer(host, port, path, length, framing):
    length = int(length)
    sent = pattern.Digest()
    with connect(host, port) as sock:

        def send():
            chunked = framing == "chunked"
            frame = "transfer-encoding: chunked" if chunked else f"content-length: {length}"
            sock.sendall(f"POST {path} HTTP/1.1\r\nhost: test\r\n{frame}\r\n\r\n".encode())
            for chunk in pattern.chunks(length):
                if chunked:
                    sock.sendall(f"{len(chunk):x};of=pattern\r\n".encode())
                sock.sendall(chunk)
                if chunked:
                    sock.sendall(b"\r\n")
                sent.update(chunk)
            if chunked:
                sock.sendall(b"0\r\n\r\n")

        sending = threading.Thread(target=send)
        sending.start()
        answer = Answers(sock).answer("POST")
        sending.join()
    del answer["body"]
    print(json.dumps({"name": path, "sent": str(sent), "answer": answer}))


def leave(host, port, path, wanted):
    """The connection ends by a reset when the server has the request, and the client what there is of an answer."""
    status = 0
    with connect(host, port) as sock:
        reader = Answers(sock)
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        if wanted == "0":
            came(host, port, path)
        else:
            status, _ = reader.head()
            while not reader.kept:
                reader.more()
        reset(sock)
    print(json.dumps({"name": path, "status": status}))


def half(host, port, path):
    with connect(host, port) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello".encode())
        sock.shutdown(socket.SHUT_WR)
        reader = Answers(sock)
        answer = reader.answer("POST")
        try:
            while True:
                reader.more()
        except End:
            print(json.dumps({"name": path, "answer": answer, "end": reader.end}))


def dribble(host, port, text, seconds):
    started = time.monotonic()
    with connect(host, port) as sock:
        reader = Answers(sock)
        for byte in text.encode("latin-1"):
            sock.sendall(bytes([byte]))
            if select.select([sock], [], [], float(seconds))[0]:
                break
        answer = reader.answer("GET")
    print(json.dumps({"name": "dribble", "answer": answer, "elapsed": time.monotonic() - started}))


def lag(host, port, path, length):
    with connect(host, port) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        print(json.dumps({"name": path}), flush=True)
        sys.stdin.read()
        left = int(length)
        while left > 0 and (chunk := sock.recv(1 << 18)):
            left -= len(chunk)
    print(json.dumps({"name": path, "missing": max(left, 0)}))


def watch(host, port, path, field):
    last = None
    with connect(host, port) as sock:
        reader = Answers(sock)
        # A few milliseconds apart: what is watched for takes longer.
        while not select.select([sys.stdin], [], [], 0.005)[0]:
            sock.sendall(f"GET {path} HTTP/1.1\r\nhost: web\r\n\r\n".encode())
            answer = reader.answer("GET")
            if answer["status"] != 200 or answer["cut"]:
                sys.exit(f"not good: {answer}")
            if answer["headers"].get(field) != last:
                last = answer["headers"].get(field)
                print(last, flush=True)


def came(host, port, path):
    """Asks on other connections until a request for this path has come to the server."""
    while True:
        with connect(host, port) as sock:
            sock.sendall(b"GET /count HTTP/1.1\r\nhost: test\r\n\r\n")
            seen = json.loads(Answers(sock).answer("GET")["body"])
        if any(head.startswith(f"GET {path} ") for head in seen["heads"]):
            return


def main():
    command, host, port, *rest = sys.argv[1:]
    if command == "cases":
        for case in json.loads(rest[0]):
            run(host, port, case)
    else:
        commands = (transfer, half, dribble, lag, leave, watch)
        {one.__name__: one for one in commands}[command](host, port, *rest)


main()
