"""A bidirectional gRPC stream of bytes: stream.py serve PORT | client PORT MESSAGES, on 127.0.0.1."""

import hashlib
import queue
import sys
from concurrent import futures

import grpc

# Names of a service that has no schema: messages are plain bytes.
METHOD = "/test.Stream/Echo"

# How many messages are under way in the second half.
WINDOW = 64


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(lambda requests, _: requests)


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Echo()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


def message(number):
    """The bytes of a message, up to 16 KiB."""
    return hashlib.shake_256(str(number).encode()).digest(1 + number * 7919 % 16384)


def client(port, messages):
    """Message by message for the first half, then with many under way."""
    waiting = queue.SimpleQueue()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers = channel.stream_stream(METHOD)(iter(waiting.get, None), timeout=60)
        sent = 0
        for received in range(messages):
            under_way = 1 if received < messages // 2 else WINDOW
            while sent < min(messages, received + under_way):
                waiting.put(message(sent))
                sent += 1
            assert next(answers) == message(received), f"message {received} came back changed"
        waiting.put(None)
        assert next(answers, None) is None
    print("ok", messages, flush=True)


{"serve": serve, "client": client}[sys.argv[1]](*map(int, sys.argv[2:]))
