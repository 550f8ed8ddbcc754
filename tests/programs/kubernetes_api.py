"""As much of an API server as a webhook needs: kubernetes_api.py MINOR. It prints its port.

Objects are kept in memory by path, each with a resourceVersion that changes when they do: a PUT of an old version is a
conflict, and so is a POST of what is there. A PATCH is merged, lists of objects by their names, as a strategic one is. A
GET of /log lists the requests, and a DELETE forgets an object.
"""

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OBJECTS, LOG, LOCK = {}, [], threading.Lock()
VERSION = [0]


def merge(old, new):
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merge(old.get(name), value) for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        changes = {item["name"]: item for item in new}
        return [merge(item, changes.get(item["name"], {})) for item in old]
    return new


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.answer(None)

    def do_DELETE(self):
        self.answer(None)

    def do_POST(self):
        self.answer(self.body())

    do_PUT = do_PATCH = do_POST

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def answer(self, body):
        with LOCK:
            code, answer = self.decide(self.path.split("?")[0], body)
            if self.path != "/log":
                LOG.append(f"{self.command} {self.path.split('?')[0]} {code}")
        text = json.dumps(answer).encode()
        self.send_response_only(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def decide(self, path, body):
        if path == "/version":
            rest = ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"]
            return 200, {"major": "1", "minor": MINOR, "gitVersion": f"v1.{MINOR}.0", **dict.fromkeys(rest, "")}
        if path == "/log":
            return 200, LOG
        if self.command == "POST":
            path += "/" + body["metadata"]["name"]
        there = OBJECTS.get(path)
        if self.command == "POST" and there:
            return self.status(409, "AlreadyExists")
        if self.command != "POST" and not there:
            return self.status(404, "NotFound")
        if self.command == "GET":
            return 200, there
        if self.command == "DELETE":
            return 200, OBJECTS.pop(path)
        version = body["metadata"].get("resourceVersion", "") if self.command == "PUT" else None
        if version not in (None, there and there["metadata"]["resourceVersion"]):
            return self.status(409, "Conflict")
        new = merge(there, body) if self.command == "PATCH" else body
        VERSION[0] += 1
        new["metadata"]["resourceVersion"] = str(VERSION[0])
        OBJECTS[path] = new
        return 200, new

    def status(self, code, reason):
        return code, {
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": reason, "reason": reason, "code": code,
        }

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, signal.SIG_DFL)
MINOR = sys.argv[1]
server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
print(server.server_port, flush=True)
server.serve_forever()
