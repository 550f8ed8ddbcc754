"""gRPC servers that say which one they are, and a client that prints what it was told.

serve PORT...
    Each answers any method with its port; the method Told with its metadata `x-told`. A line `PORT STATUS` on standard
    input sets what its health service says: 1 is SERVING, 2 is not.
serve-briefly PORT...
    The same, but they end each connection after some time.
client HOST PORT CALLS
    CALLS is a list of [METHOD, METADATA]. Prints for each one [CODE, REPLY OR DETAILS].
"""

import json
import sys
from concurrent import futures

import grpc

PATIENCE = 15
HEALTH = "/grpc.health.v1.Health/Check"


class Backend(grpc.GenericRpcHandler):
    def __init__(self, port):
        self.port = port
        self.health = 1

    def service(self, details):
        def answer(_request, context):
            if details.method == HEALTH:
                # HealthCheckResponse: its one field, an enumeration.
                return bytes([0x08, self.health])
            if details.method.endswith("/Told"):
                return dict(context.invocation_metadata()).get("x-told", "").encode()
            return str(self.port).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


def serve(*ports, options=()):
    backends = {}
    for port in ports:
        backends[port] = Backend(port)
        server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[backends[port]], options=options)
        server.add_insecure_port(f"0.0.0.0:{port}")
        server.start()
        backends[port].server = server
    print("listening", flush=True)
    for line in sys.stdin:
        port, status = line.split()
        backends[port].health = int(status)
        print("told", line.strip(), flush=True)


def serve_briefly(*ports):
    serve(*ports, options=[("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000)])


def client(host, port, calls):
    said = []
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for method, metadata in json.loads(calls):
            try:
                call = channel.unary_unary(method)
                reply = call(b"", timeout=PATIENCE, metadata=tuple(metadata.items()))
                said.append(["OK", reply.decode()])
            except grpc.RpcError as error:
                said.append([error.code().name, error.details()])
    print(json.dumps(said), flush=True)


{"serve": serve, "serve-briefly": serve_briefly, "client": client}[sys.argv[1]](*sys.argv[2:])
