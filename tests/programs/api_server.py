"""The part of a Kubernetes API server that an agent of a node needs: lists and watches of Pods and namespaces, merge
patches of Pods, events. Prints its port, then each patch and event as a JSON line.

Takes lines on standard input: {"put": "pods"|"namespaces", "object": {...}}, {"delete": kind, "name": ...},
{"down": true|false}, which ends all watches and answers 503 until it is up again.
"""

import json
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = {"pods": "Pod", "namespaces": "Namespace"}


class Store:
    def __init__(self):
        self.changed = threading.Condition()
        self.version = 1
        self.down = False
        self.objects = {kind: {} for kind in KINDS}
        self.log = []

    def change(self, kind, name, type_, object_):
        with self.changed:
            self.version += 1
            object_["metadata"]["resourceVersion"] = str(self.version)
            if type_ == "DELETED":
                self.objects[kind].pop(name, None)
            else:
                self.objects[kind][name] = object_
            self.log.append((self.version, kind, {"type": type_, "object": json.loads(json.dumps(object_))}))
            self.changed.notify_all()

    def put(self, kind, object_):
        object_ = {"kind": KINDS[kind], "apiVersion": "v1", **object_}
        name = object_["metadata"]["name"]
        with self.changed:
            before = self.objects[kind].get(name)
            if before:
                for key, value in before["metadata"].get("annotations", {}).items():
                    if key == "sidecar.dev/armed":
                        object_["metadata"].setdefault("annotations", {}).setdefault(key, value)
            self.change(kind, name, "MODIFIED" if before else "ADDED", object_)

    def delete(self, kind, name):
        with self.changed:
            self.change(kind, name, "DELETED", self.objects[kind][name])


STORE = Store()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status):
        self.answer(status, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                             "message": "no", "reason": "No", "code": status})

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        kind = url.path.rsplit("/", 1)[-1]
        if STORE.down:
            return self.refuse(503)
        if kind not in KINDS:
            return self.refuse(404)
        if query.get("watch") in ("true", "1"):
            return self.watch(kind, int(query.get("resourceVersion") or 0))
        with STORE.changed:
            items = list(STORE.objects[kind].values())
            metadata = {"resourceVersion": str(STORE.version)}
        self.answer(200, {"kind": KINDS[kind] + "List", "apiVersion": "v1", "metadata": metadata, "items": items})

    def watch(self, kind, since):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while not STORE.down:
            with STORE.changed:
                news = [event for version, of, event in STORE.log if version > since and of == kind]
                since = STORE.version
                if not news:
                    STORE.changed.wait(60)
                    continue
            for event in news:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.close_connection = True

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def do_PATCH(self):
        patch, path = self.body(), urllib.parse.urlparse(self.path).path
        name = path.rsplit("/", 1)[-1]
        if STORE.down:
            return self.refuse(503)
        if "/events/" in path:
            # Once more: the same event as a series.
            say({"event": patch["reason"], "note": patch.get("note"), "pod": patch["regarding"]["name"]})
            return self.answer(200, patch)
        with STORE.changed:
            pod = STORE.objects["pods"].get(name)
            if pod is None or pod["metadata"]["uid"] != patch["metadata"]["uid"]:
                return self.refuse(409 if pod else 404)
            pod = json.loads(json.dumps(pod))
            pod["metadata"].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
            STORE.change("pods", name, "MODIFIED", pod)
        say({"patched": name, "annotations": patch["metadata"]["annotations"]})
        self.answer(200, pod)

    def do_POST(self):
        event = self.body()
        if STORE.down:
            return self.refuse(503)
        say({"event": event["reason"], "note": event.get("note"), "pod": event["regarding"]["name"]})
        self.answer(201, event)


def say(what):
    print(json.dumps(what), flush=True)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening on port {server.server_port}.", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "put" in order:
            STORE.put(order["put"], order["object"])
        elif "delete" in order:
            STORE.delete(order["delete"], order["name"])
        else:
            with STORE.changed:
                STORE.down = order["down"]
                STORE.changed.notify_all()


main()
