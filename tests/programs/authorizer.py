"""An external authorizer: authorizer.py PORT. It prints the header of each question as one line of JSON.

The last word of `authorization` says what it answers: `allow`, `deny`, `login` (a redirect), `broken` (an error), or `silent`
(nothing, until its client goes).
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Authorizer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        fields = {name.lower(): value for name, value in self.headers.items()}
        print(json.dumps({"target": self.path, **fields}), flush=True)
        word = fields.get("authorization", "deny").split(" ")[-1]
        if word == "silent":
            self.rfile.read(1)
            self.close_connection = True
        elif word == "allow":
            self.say(200, {"x-user": "ann", "x-secret": "1"})
        elif word == "login":
            self.say(302, {"location": "http://login.example.com/"})
        elif word == "broken":
            self.say(500, {})
        else:
            self.say(403, {"x-why": "because"}, b"not you")

    def say(self, status, fields, body=b""):
        self.send_response_only(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, signal.SIG_DFL)
server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Authorizer)
print("listening", flush=True)
server.serve_forever()
