"""WebSocket (RFC 6455) by the library `websockets`: websocket.py serve PORT | client HOST PORT.

The server says of each connection how it was closed. The client says `ok` when all was as it should be, after a line with
the bytes that it sent and received on one connection once that had switched.
"""

import asyncio
import http
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve as server
from websockets.exceptions import ConnectionClosed, InvalidStatus

# How long anything may take.
PATIENCE = 20
# Larger than all the buffers on its way.
LARGE = bytes(range(251)) * 20000


def answer(connection, request):
    """What is asked for without a switch, and one that is refused."""
    if request.path == "/plain":
        return connection.respond(http.HTTPStatus.OK, "plain\n")
    if request.path == "/refuse":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not you\n")
    return None


def choose(_connection, offered):
    return offered[-1] if offered else None


async def serve_one(peer):
    what = peer.request.path.partition("?")[0]
    try:
        if what == "/echo":
            async for message in peer:
                await peer.send(message)
        elif what == "/pieces":
            while True:
                await peer.send(peer.recv_streaming())
        elif what == "/ping":
            await asyncio.wait_for(await peer.ping(b"server's"), PATIENCE)
            await peer.send("heard")
        elif what == "/close":
            await peer.recv()
            await peer.close(4001, "server's")
        elif what == "/abort":
            await peer.recv()
            peer.transport.abort()
        await peer.wait_closed()
    except ConnectionClosed:
        pass
    print("closed", peer.request.path, peer.close_code, peer.close_reason, flush=True)


async def serve(port):
    options = {"process_request": answer, "select_subprotocol": choose, "max_size": None}
    async with server(serve_one, "0.0.0.0", int(port), **options):
        print("listening", flush=True)
        await asyncio.get_running_loop().create_future()


class Counted(ClientConnection):
    """Counts the bytes that pass after the switch."""

    sent = 0
    received = 0

    def connection_made(self, transport):
        write = transport.write

        def counted(data):
            self.sent += len(data)
            write(data)

        transport.write = counted
        super().connection_made(transport)

    def data_received(self, data):
        self.received += len(data)
        super().data_received(data)

    async def handshake(self, *args, **kwargs):
        await super().handshake(*args, **kwargs)
        self.sent = self.received = 0


async def echoes(at):
    async with at("/echo?all", compression=None, create_connection=Counted) as peer:
        for message in ("text \u00e4", "", b"", b"\x00\xff", LARGE, LARGE.decode("latin-1"), "after"):
            await peer.send(message)
            assert await peer.recv() == message, f"{message[:10]} of {len(message)}"
        for number in range(100):
            await peer.send(str(number))
        assert [await peer.recv() for _ in range(100)] == [str(number) for number in range(100)]
        await asyncio.wait_for(await peer.ping(b"client's"), PATIENCE)
        await peer.close(4002, "client's")
        assert (peer.close_code, peer.close_reason) == (4002, "client's"), peer.close_code
    print("bytes", peer.sent, peer.received)
    async with at("/echo?compressed", subprotocols=["first", "second"]) as peer:
        assert peer.protocol.extensions, "the server agrees to compression"
        assert peer.subprotocol == "second", peer.subprotocol
        await peer.send(LARGE)
        assert await peer.recv() == LARGE


async def pieces(at):
    """A message in fragments, with a ping between them, comes back in the same fragments."""
    async with at("/pieces", compression=None) as peer:
        sent = [b"one", LARGE, b"", b"four"]

        async def slowly():
            for piece in sent:
                await asyncio.wait_for(await peer.ping(), PATIENCE)
                yield piece

        await peer.send(slowly())
        received = [piece async for piece in peer.recv_streaming()]
        # Each side ends its message with an empty fragment.
        assert received == [*sent, b"", b""], [len(piece) for piece in received]


async def ends(at):
    async with at("/ping") as peer:
        assert await peer.recv() == "heard"
    async with at("/close") as peer:
        await peer.send("close")
        closed = await ended(peer)
        assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "server's"), closed
    async with at("/abort") as peer:
        await peer.send("abort")
        closed = await ended(peer)
        assert closed.rcvd is None, closed
    try:
        await at("/refuse")
    except InvalidStatus as refused:
        assert (refused.response.status_code, refused.response.body) == (403, b"not you\n"), refused
    else:
        raise AssertionError("a refusal came as a switch")


async def ended(peer):
    try:
        await asyncio.wait_for(peer.recv(), PATIENCE)
    except ConnectionClosed as closed:
        return closed
    raise AssertionError("it goes on")


async def client(host, port):
    def at(path, **options):
        return connect(f"ws://{host}:{port}{path}", max_size=None, proxy=None, **options)

    for check in (echoes, pieces, ends):
        await check(at)
    print("ok", flush=True)


asyncio.run({"serve": serve, "client": client}[sys.argv[1]](*sys.argv[2:]))
