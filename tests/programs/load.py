"""load.py HOST PORT: asks an echo server again and again, on new connections and on one that stays, until its standard
input ends. Prints "under way" once each has answered, and in the end what went wrong, as a JSON line.
"""

import json
import socket
import sys
import threading

ADDRESS = (sys.argv[1], int(sys.argv[2]))
PATIENCE = 10
OVER = threading.Event()
COUNTS = {"requests": 0, "held": 0}
FAILURES = []


def ask(sock):
    sock.sendall(b"x" * 64)
    got = b""
    while len(got) < 64:
        part = sock.recv(64 - len(got))
        if not part:
            raise OSError("the end came early")
        got += part


def again_and_again(work, count):
    while not OVER.is_set():
        try:
            work()
            COUNTS[count] += 1
        except OSError as error:
            FAILURES.append(f"{count} after {COUNTS[count]}: {error!r}")
            if count == "held" or len(FAILURES) > 20:
                return


def anew():
    with socket.create_connection(ADDRESS, PATIENCE) as sock:
        ask(sock)


def main():
    held = socket.create_connection(ADDRESS, PATIENCE)

    def hold():
        ask(held)
        OVER.wait(0.005)

    works = [(hold, "held")] + [(anew, "requests")] * 2
    threads = [threading.Thread(target=again_and_again, args=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    while not all(COUNTS.values()) and not FAILURES:
        OVER.wait(0.01)
    print("under way", flush=True)
    sys.stdin.read()
    OVER.set()
    for thread in threads:
        thread.join()
    print(json.dumps({**COUNTS, "failures": FAILURES}), flush=True)


main()
