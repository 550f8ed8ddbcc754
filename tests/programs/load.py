"""Asks again and again until its standard input ends: two threads on a new connection each time, one on a connection that is kept.
Prints `asking` when all were answered once, and in the end `{"new": n, "kept": n, "failed": [...]}`.

load.py HOST PORT         an echo server
load.py HOST PORT PATH    an HTTP server
"""

import http.client
import json
import socket
import sys
import threading

PATIENCE = 10
# What is kept of failures.
BOUND = 20


class Echo:
    def __init__(self):
        self.socket = socket.create_connection((HOST, PORT), PATIENCE)

    def ask(self):
        self.socket.sendall(b"x" * 64)
        got = b""
        while len(got) < 64:
            part = self.socket.recv(64 - len(got))
            if not part:
                raise OSError("the end came early")
            got += part

    def close(self):
        self.socket.close()


class Http:
    def __init__(self):
        self.connection = http.client.HTTPConnection(HOST, PORT, timeout=PATIENCE)

    def ask(self):
        self.connection.request("GET", sys.argv[3])
        answer = self.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {answer.headers.get('x-sidecar-reason')}")

    def close(self):
        self.connection.close()


def again_and_again(name, keep):
    connection = None
    while not ended.is_set():
        try:
            connection = connection or Kind()
            connection.ask()
            counts[name] += 1
            good[name].set()
            if keep:
                ended.wait(0.005)
            else:
                connection.close()
                connection = None
        except (OSError, ValueError, http.client.HTTPException) as error:
            if len(failed) < BOUND:
                failed.append(f"{name} after {counts[name]}: {error!r}")
            connection = None
            ended.wait(0.05)


HOST, PORT = sys.argv[1], int(sys.argv[2])
Kind = Http if len(sys.argv) > 3 else Echo
ended = threading.Event()
counts = {"new": 0, "kept": 0}
good = {name: threading.Event() for name in counts}
failed = []
threads = [threading.Thread(target=again_and_again, args=(name, name == "kept")) for name in ("new", "new", "kept")]
for thread in threads:
    thread.start()
for event in good.values():
    event.wait()
print("asking", flush=True)
sys.stdin.read()
ended.set()
for thread in threads:
    thread.join()
print(json.dumps({**counts, "failed": failed}), flush=True)
