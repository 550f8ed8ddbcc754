"""Asks for a URL again and again until its standard input ends: one thread on a new connection each time, one on a connection that is
kept. Prints `{"new": n, "kept": n, "failed": [...]}`; the first line, `asking`, comes after the first good answers.

steady.py HOST PORT PATH
"""

import http.client
import json
import sys
import threading

PATIENCE = 10
# What is kept of failures.
BOUND = 20


def get(connection, path):
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise ValueError(f"{answer.status} {answer.headers.get('x-sidecar-reason')}")


def ask(name, host, port, path, keep):
    connection = None
    while not ended.is_set():
        try:
            connection = connection or http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
            get(connection, path)
            counts[name] += 1
            good[name].set()
            if not keep:
                connection.close()
                connection = None
        except (OSError, ValueError, http.client.HTTPException) as error:
            # A server may close what is idle; what is under way it may not.
            if len(failed) < BOUND:
                failed.append(f"{name} {counts[name]}: {error!r}")
            connection = None
            ended.wait(0.05)


ended = threading.Event()
counts = {"new": 0, "kept": 0}
good = {name: threading.Event() for name in counts}
failed = []
threads = [threading.Thread(target=ask, args=(name, *sys.argv[1:4], name == "kept")) for name in counts]
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
