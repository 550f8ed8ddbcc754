"""HTTP/1.1 servers, one on each port, that say what they were asked: backends.py ADDRESS PORT...

An answer is a JSON object: the server's address and port, and the request. What else happens is said by the
path: /status/N is answered with this status, /delay/MS after so many milliseconds, and /hold when the server is told so.
Each server is told by a request for /control, whose query sets:

status   the status of all answers; 0: as the path says
pause    how many milliseconds they take
health   the status of answers for /healthz
closing  after so many answers a connection ends instead of answering; 0: never
release  lets those go on that are held

It is answered with what is set, how many connections there were and how many there are, and which requests came; its own
connections and requests, and those for /healthz, do not count.
"""

import json
import signal
import socketserver
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

# What is kept of the requests that came.
MOST = 20_000
# Longer than anything here takes, shorter than a test waits.
PATIENCE = 15


class Backend(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, port):
        self.told = {"status": 0, "pause": 0, "health": 200, "closing": 0}
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.connections = self.open = 0
        self.seen = []
        super().__init__((address, port), Answering)

    def control(self, query):
        for name, value in urllib.parse.parse_qsl(query):
            if name == "release":
                self.released.set()
            else:
                self.told[name] = int(value)
        with self.lock:
            return {
                "told": self.told,
                "connections": self.connections,
                "open": self.open,
                "seen": self.seen,
            }

    def keep(self, request):
        with self.lock:
            if len(self.seen) < MOST:
                self.seen.append(request)

    def handle_error(self, _request, _address):
        """A client that goes away is nothing to report."""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body leave together.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.answered = 0
        self.counted = False

    def finish(self):
        with self.server.lock:
            self.server.open -= self.counted
        super().finish()

    def count(self):
        """The connection counts from its first request on."""
        if not self.counted:
            self.counted = True
            with self.server.lock:
                self.server.connections += 1
                self.server.open += 1

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode("latin-1")
        path, _, query = self.path.partition("?")
        if path == "/control":
            return self.send(200, self.server.control(query))
        told = self.server.told
        if path == "/healthz":
            return self.send(told["health"], {})
        self.count()
        fields = {}
        for name, value in self.headers.items():
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        port = self.server.server_address[1]
        request = {"method": self.command, "target": self.path, "headers": fields, "body": body}
        self.server.keep(request)
        if told["closing"] and self.answered >= told["closing"]:
            self.close_connection = True
            return None
        if told["pause"]:
            self.server.released.wait(told["pause"] / 1000)
        status = 200
        words = path.strip("/").split("/")
        if words[0] == "status":
            status = int(words[1])
        elif words[0] == "delay":
            self.server.released.wait(int(words[1]) / 1000)
        elif words[0] == "hold" and not self.server.released.wait(PATIENCE):
            status = 500
        return self.send(told["status"] or status, {"port": port, "address": self.connection.getsockname()[0], **request})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer

    def send(self, status, told):
        body = json.dumps(told).encode()
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-port", str(self.server.server_address[1]))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.answered += 1


def main():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    address, *ports = sys.argv[1:]
    servers = [Backend(address, int(port)) for port in ports]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("listening", flush=True)
    sys.stdin.read()


main()
