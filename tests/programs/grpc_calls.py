"""Calls of every kind, deadlines, cancellation, status and metadata: grpc_calls.py serve PORT | client HOST PORT, or
absent HOST PORT for a server that is not there. A client says `ok` when all was as it should be.
"""

import sys
import threading
from concurrent import futures

import grpc

# A service that has no schema: messages are plain bytes.
SERVICE = "/test.Calls/"
# How long anything may take.
PATIENCE = 20
# A message larger than HTTP/2's first window (RFC 9113 section 6.9.2).
LARGE = bytes(range(256)) * 4096


class Calls(grpc.GenericRpcHandler):
    def __init__(self):
        self.cancelled = threading.Semaphore(0)

    def service(self, details):
        kinds = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Cancelled": grpc.unary_unary_rpc_method_handler(self.was_cancelled),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
            "Split": grpc.unary_stream_rpc_method_handler(self.split),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Each": grpc.stream_stream_rpc_method_handler(self.each),
        }
        return kinds.get(details.method.removeprefix(SERVICE))

    def echo(self, request, context):
        told = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-first", told.get("x-told", "")),))
        context.set_trailing_metadata((("x-last", "1"), ("x-last-bin", b"\x00\xff")))
        return request

    def fail(self, _request, context):
        context.abort(grpc.StatusCode.ABORTED, "as asked, 100% \u00e4")

    def wait(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(PATIENCE):
            self.cancelled.release()
        return request

    def endless(self, request, context):
        context.add_callback(self.cancelled.release)
        while context.is_active():
            yield request

    def was_cancelled(self, _request, _context):
        """Waits until another call was given up."""
        return b"yes" if self.cancelled.acquire(timeout=PATIENCE) else b"no"

    def split(self, request, _context):
        for byte in request:
            yield bytes([byte])

    def join(self, requests, _context):
        return b"".join(requests)

    def each(self, requests, _context):
        yield from requests


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Calls()])
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


def raises(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} {error.details()}, not {code}"
        return error
    raise AssertionError(f"it ended well, not with {code}")


def client(host, port):
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        echo = channel.unary_unary(SERVICE + "Echo")
        reply, call = echo.with_call(LARGE, timeout=PATIENCE, metadata=(("x-told", "told"),))
        assert reply == LARGE
        assert ("x-first", "told") in call.initial_metadata(), call.initial_metadata()
        last = dict(call.trailing_metadata())
        assert (last["x-last"], last["x-last-bin"]) == ("1", b"\x00\xff"), last
        assert echo(b"", timeout=PATIENCE) == b""

        split = channel.unary_stream(SERVICE + "Split")(b"split", timeout=PATIENCE)
        assert list(split) == [b"s", b"p", b"l", b"i", b"t"]
        join = channel.stream_unary(SERVICE + "Join")
        assert join(iter([b"a", LARGE, b"c"]), timeout=PATIENCE) == b"a" + LARGE + b"c"
        each = channel.stream_stream(SERVICE + "Each")
        assert list(each(iter([b"1", LARGE, b"3"]), timeout=PATIENCE)) == [b"1", LARGE, b"3"]

        fail = channel.unary_unary(SERVICE + "Fail")
        failed = raises(grpc.StatusCode.ABORTED, lambda: fail(b"", timeout=PATIENCE))
        assert failed.details() == "as asked, 100% \u00e4", failed.details()
        nothing = channel.unary_unary(SERVICE + "Nothing")
        raises(grpc.StatusCode.UNIMPLEMENTED, lambda: nothing(b"", timeout=PATIENCE))

        wait = channel.unary_unary(SERVICE + "Wait")
        cancelled = channel.unary_unary(SERVICE + "Cancelled")
        raises(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: wait(b"", timeout=0.5))
        assert cancelled(b"", timeout=2 * PATIENCE) == b"yes", "a server knows of a deadline that is over"
        endless = channel.unary_stream(SERVICE + "Endless")(b"more", timeout=PATIENCE)
        for _ in range(100):
            next(endless)
        endless.cancel()
        assert cancelled(b"", timeout=2 * PATIENCE) == b"yes", "a server knows of a stream that was given up"
        assert echo(b"after", timeout=PATIENCE) == b"after"
    print("ok", flush=True)


def absent(host, port):
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        echo = channel.unary_unary(SERVICE + "Echo")
        error = raises(grpc.StatusCode.UNAVAILABLE, lambda: echo(b"", timeout=PATIENCE))
    print("ok", error.details(), flush=True)


{"serve": serve, "client": client, "absent": absent}[sys.argv[1]](*sys.argv[2:])
