"""Programs for the hazards of the bypass. Each subcommand uses connections as programs do, checks every byte, and says on
a JSON line what it saw; a wrong byte, a hang or a wrong error ends it with a message.

It then keeps its connections until its standard input ends, and may say one line more.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import itertools
import json
import random
import select
import socket
import struct
import sys
import termios
import threading
import time

from ends import PATIENCE, PIECE, WAYS, End, Ended, Line
from segments import ACK, FIN, inject

TCP_ULP = 31  # include/uapi/linux/tcp.h


def say(**seen):
    print(json.dumps(seen), flush=True)


def hold():
    sys.stdin.read()


def listen(args):
    return socket.create_server((args.host, args.port), backlog=1024)


def line(args, **more):
    return Line(listen(args), args.way, args.far, args.seed, **more)


def waiting(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]


def counts(*lines):
    ends = [(one.near.sent, one.near.received) for one in lines]
    return {"sent": sum(sent for sent, _ in ends), "received": sum(received for _, received in ends)}


def rounds(args):
    """Round trips of one size."""
    one = line(args).warm(args.count)
    for _ in range(args.times):
        one.round(args.size)
    say(**counts(one))
    hold()
    one.round()
    say(**counts(one))


def mixed(args):
    """Bursts of any size both ways, read late, so that the path switches again and again."""
    one, dice = line(args).warm(), random.Random(args.seed)
    ends = [(one.near, one.far), (one.far, one.near)]
    for _ in range(args.times):
        writer, reader = dice.choice(ends)
        for _ in range(dice.randrange(1, 6)):
            writer.send_some(dice.choice([1, 64, 1000, 16_384, 100_000]))
        if dice.random() < 0.5:
            reader.receive_some(dice.choice([1, 500, 70_000]))
        if dice.random() < 0.1:
            one.settle()
            one.warm(2, 0.05)
    one.settle()
    say(**counts(one))
    hold()


def unready(args):
    """What came by TCP waits unread while the connection is enrolled, and more comes after that."""
    one = line(args)
    for _ in range(3):
        one.round()
    for length in [100] * 40 + [5000] * 40:
        one.far.send(length)
        # So that the proxy sees a message of its own each time.
        one.near.send(1)
        one.far.receive(1)
    one.settle()
    one.warm()
    say(**counts(one))
    hold()


def tardy(args):
    """Says that it will not block only when much has come already; it has read nothing before."""
    one = Line(listen(args), "blocking", args.far, args.seed)
    for _ in range(args.count):
        one.far.send(64)
        until = time.monotonic() + PATIENCE
        # So that the proxy sees a message of its own each time.
        while waiting(one.near.sock) < one.far.sent:
            if time.monotonic() > until:
                raise AssertionError(f"{waiting(one.near.sock)} of {one.far.sent} bytes come")
    one.near.use(args.way)
    one.settle()
    one.warm()
    say(**counts(one))
    hold()


def stall(args):
    """A reader that stops holds its writer; when it goes on, all comes."""
    one = line(args).warm()
    held = {}
    for name, writer, reader in (("toNear", one.far, one.near), ("toFar", one.near, one.far)):
        before = writer.sent
        while writer.send_some(16_384) or writer.ready(select.EPOLLOUT, 0.5):
            if writer.sent - before > args.size:
                raise AssertionError(f"{writer.sent - before} bytes were sent to a reader that stopped")
        held[name] = writer.sent - before
        reader.receive(writer.sent - reader.received)
    one.warm()
    say(**held, **counts(one))
    hold()
    one.warm()
    say(**counts(one))


def fionread(args):
    """A program that sizes its reads by FIONREAD, and one that waits until it says all."""
    one, dice = line(args).warm(), random.Random(args.seed)
    for writer, reader in ((one.far, one.near), (one.near, one.far)):
        for length in [1, 1000, 60_000] * 10:
            writer.send(length)
            while (said := waiting(reader.sock)) < length:
                if not reader.ready(select.EPOLLIN) or not said and waiting(reader.sock) == 0:
                    raise AssertionError(f"FIONREAD says {said} where {length} bytes come")
            if said != length:
                raise AssertionError(f"FIONREAD says {said} of {length} bytes")
            reader.receive(length)
        for _ in range(args.times):
            while writer.sent - reader.received < 600_000 and writer.send_some(dice.randrange(1, 100_000)):
                pass
            while writer.sent > reader.received:
                if not reader.ready(select.EPOLLIN):
                    raise AssertionError("nothing comes")
                if (said := waiting(reader.sock)) == 0:
                    raise AssertionError("FIONREAD says 0 on a readable socket")
                reader.receive(min(said, PIECE))
    say(**counts(one))
    hold()


def repeated(args):
    """Segments that reach back over bytes that came before, as retransmissions do: each byte is read once."""
    one, sizes, new = line(args).warm(), (1, 53, 5000, 59_000), 10
    one.round(60_000)
    ends = [(one.near, one.far), (one.far, one.near)]
    for old in sizes:
        for writer, reader in ends:
            for end, outward in ((reader, False), (writer, True)):
                one.settle()
                # TCP has nothing more on its way, and the numbers are those of the next bytes.
                one.warm(2, 0.05)
                inject(end.sock, outward, old, writer.out.around(old, new))
                reader.receive(new)
                # The sender itself knows nothing of it, and sends the same bytes.
                writer.send(1000)
                reader.receive(1000 - new)
    one.warm()
    say(repeated=4 * sum(sizes), **counts(one))
    hold()
    for writer, reader in ends:
        one.settle()
        inject(reader.sock, False, 53, writer.out.around(53, 0), ACK | FIN)
        reader.finish()
        writer.sock.shutdown(socket.SHUT_WR)
    say(**counts(one))


def turn(args):
    """Begins to read in another way, with nothing unread, once it is enrolled."""
    one = line(args).warm()
    enrolled = one.near.received
    one.near.use(args.then)
    # The proxy looks again after twice as many messages.
    for _ in range(enrolled // 64 + 10):
        one.round()
    say(enrolled=enrolled, **counts(one))
    hold()


def unread(args):
    """Does not read what it was sent before its proxy ends. Then all of it comes, and the end or a reset."""
    one = line(args).warm()
    for _ in range(10):
        one.far.send(args.size // 10)
    while waiting(one.near.sock) < args.size:
        if not one.near.ready(select.EPOLLIN):
            raise AssertionError("not all comes")
    say(**counts(one))
    hold()
    one.near.receive(args.size)
    try:
        one.near.finish()
        end = "EOF"
    except OSError as error:
        end = errno.errorcode[error.errno]
    say(end=end, **counts(one))


def closes(args):
    """Closes in every order, with bytes on their way."""
    listener, dice, told, total = listen(args), random.Random(args.seed), {}, 0
    for number in range(args.times):
        one = Line(listener, seed=number + 1).warm(20, 0)
        near, far = (one.near, one.far) if dice.random() < 0.5 else (one.far, one.near)
        length = dice.choice([1, 1000, 60_000, 100_000])
        near.send(length)
        order = number % 4
        if order == 0:  # The writer closes at once.
            near.close()
            far.receive(length)
            far.finish()
        elif order == 1:  # Half-close, and an answer after it.
            near.sock.shutdown(socket.SHUT_WR)
            far.receive(length)
            far.finish()
            far.send(length)
            far.close()
            near.receive(length)
            near.finish()
        elif order == 2:  # Both sides are done with sending before any of it is read.
            far.send(length)
            near.sock.shutdown(socket.SHUT_WR)
            far.sock.shutdown(socket.SHUT_WR)
            for end in (near, far):
                end.receive(length)
                end.finish()
        else:  # The reader closes, and the writer is told.
            far.close()
            name = writing_ends(near)
            told[name] = told.get(name, 0) + 1
        total += length
        one.close()
    say(told=told, total=total)
    hold()


def writing_ends(end):
    """By which error a writer learns that nobody reads."""
    try:
        while end.send_some(1000) or end.ready(select.EPOLLOUT):
            pass
    except OSError as error:
        return errno.errorcode[error.errno]
    raise AssertionError("a writer to nobody neither writes nor fails")


def orphans(args):
    """Writes on many connections while the proxy is taken away."""
    listener = listen(args)
    lines = [Line(listener, seed=seed + 1).warm(20, 0.02) for seed in range(args.count)]
    told = {}

    def use(one):
        try:
            while True:
                one.round(1000)
        except (Ended, OSError):
            # Either hop may be the first to go.
            with contextlib.suppress(OSError):
                while one.near.receive_some(PIECE) != 0:
                    one.near.ready(select.EPOLLIN)
        # Whoever goes on writing is told.
        name = writing_ends(one.near)
        told[name] = told.get(name, 0) + 1

    threads = [threading.Thread(target=use, args=(one,)) for one in lines]
    for thread in threads:
        thread.start()
    say(**counts(*lines))
    hold()
    for thread in threads:
        thread.join()
    say(told=told)


def abandon(args):
    """A reader stops, its writer is held, and then the reader closes. The writer is told."""
    listener, told = listen(args), {}
    for dialled, halved in itertools.product([True, False], repeat=2):
        one = Line(listener, args.way, args.far).warm()
        writer, reader = (one.near, one.far) if dialled else (one.far, one.near)
        while writer.send_some(16_384) or writer.ready(select.EPOLLOUT, 0.5):
            pass
        if halved:
            # Its close then sends nothing more.
            reader.sock.shutdown(socket.SHUT_WR)
            writer.finish()
        reader.close()
        name = writing_ends(writer)
        told[name] = told.get(name, 0) + 1
        writer.close()
    say(told=told)
    hold()


def reuse(args):
    """The same addresses and ports again and again, each time with bytes of its own."""
    listener, sent, received = listen(args), 0, 0
    for number in range(args.times):
        one = Line(listener, seed=args.seed + number, source=args.source).warm(20, 0.01)
        for length in (1, 5000, 60_000):
            one.round(length)
        sent, received = sent + one.near.sent, received + one.near.received
        if number + 1 < args.times:
            # A reset leaves no TIME_WAIT behind, so that the ports are free at once; unread bytes go with it.
            one.far.send(1000)
            one.near.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
    say(sent=sent, received=received)
    hold()


def upper(args):
    """An upper-layer protocol on the socket, where the kernel has one for everybody."""

    def put(sock):
        for name in args.name.split():
            try:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, name.encode())
                return name
            except OSError as error:
                refused[name] = errno.errorcode[error.errno]
        return None

    refused = {}
    one = line(args)
    name = put(one.near.sock)
    if name is None:
        one.warm()
    say(ulp=name, refused=refused, **counts(one))
    hold()


def controlled(args):
    """Under a congestion control of its own."""
    def choose(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, args.name.encode())

    listener = listen(args)
    choose(listener)
    one = Line(listener, args.way, args.far, args.seed, setup=choose).warm()
    for length in [1, 1000, 16_384, 300_000] * 5:
        one.near.send_some(length)
        one.far.send_some(length)
        one.settle()
        one.warm(2, 0)
    used = one.near.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    say(used=used.rstrip(b"\0").decode(), **counts(one))
    hold()


def history(args):
    """Some connections read in one way, and later ones in another."""
    listener = listen(args)
    before = [Line(listener, seed=seed + 1).warm() for seed in range(args.count)]
    for one in before:
        one.close()
    one = Line(listener, args.then, args.far, seed=99)
    torture(one, args.times)
    say(**counts(one))
    hold()


def torture(one, times):
    """Both ways at once, by a thread for each end and way, as programs that block do."""
    failed = []

    def run(job, *sizes):
        try:
            for size in sizes:
                job(size)
        except (Ended, OSError, AssertionError) as error:
            failed.append(f"{type(error).__name__}: {error}")

    # Few bytes at first, so that the proxy looks at it while it is idle.
    for _ in range(20):
        one.round()
    dice = random.Random(one.near.sent)
    sizes = [dice.choice([1, 64, 1000, 30_000]) for _ in range(times)]
    jobs = [job for end in (one.near, one.far) for job in (end.send, end.receive)]
    threads = [threading.Thread(target=run, args=(job, *sizes), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
    if failed or any(thread.is_alive() for thread in threads):
        raise AssertionError(failed or "hangs")


def blocking(args):
    """One end or both read in blocking mode, from the beginning."""
    one = line(args)
    torture(one, args.times)
    say(**counts(one))
    hold()


def echo(args):
    """A server that reads and answers in its way."""
    listener = listen(args)

    def serve(end):
        while (read := end.receive_some(PIECE)) != 0:
            if read is None:
                if not end.ready(select.EPOLLIN):
                    return
                continue
            end.send(read)
        end.close()

    say(listening=args.port)
    while True:
        sock, _ = listener.accept()
        end = End(sock, (args.seed, args.seed), args.way)
        threading.Thread(target=serve, args=(end,), daemon=True).start()


def talk(args):
    """A client of `echo`."""
    sock = socket.create_connection((args.host, args.port))
    end = End(sock, (args.seed, args.seed), args.way)
    for number in range(args.times):
        length = 64 if number < 64 else random.Random(number).randrange(1, args.size)
        end.send(length)
        end.receive(length)
    say(sent=end.sent, received=end.received)
    hold()


def flood(args):
    """Clients of `deaf`, which send until nobody takes more, and on a line of standard input end what they send."""
    ends = []
    for _ in range(args.times):
        end = End(socket.create_connection((args.host, args.port)), (args.seed, args.seed), args.way)
        for _ in range(args.count):
            end.send(64)
            end.receive(64)
        ends.append(end)
    moved = time.monotonic()
    while time.monotonic() - moved < 1:
        if sum(end.send_some(16_384) for end in ends):
            moved = time.monotonic()
        if max(end.sent for end in ends) > args.size:
            raise AssertionError(f"more than {args.size} bytes were sent to a reader that stopped")
    say(most=max(end.sent for end in ends), sent=sum(end.sent for end in ends))
    sys.stdin.readline()
    for end in ends:
        end.sock.shutdown(socket.SHUT_WR)
    for end in ends:
        end.finish()
    say(ended=len(ends))


def deaf(args):
    """A server that answers so many messages of 64 bytes, and then reads nothing before a line of standard input."""
    listener = listen(args)
    say(listening=args.port)
    ends = []
    for _ in range(args.times):
        sock, _ = listener.accept()
        end = End(sock, (args.seed, args.seed), args.way)
        for _ in range(args.count):
            end.receive(64)
            end.send(64)
        ends.append(end)
    sys.stdin.readline()
    for end in ends:
        while (read := end.receive_some(PIECE)) != 0:
            if read is None and not end.ready(select.EPOLLIN):
                raise AssertionError(f"nothing comes after {end.received} bytes")
        end.sock.shutdown(socket.SHUT_WR)
    say(received=sum(end.received for end in ends))
    hold()


def main():
    commands = [rounds, mixed, unready, tardy, stall, fionread, repeated, turn, unread, closes, abandon, orphans, reuse, upper, controlled]
    commands += [history, blocking, echo, talk, flood, deaf]
    commands = {command.__name__: command for command in commands}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--way", choices=WAYS, default="epoll", help="how the end that dialled reads")
    parser.add_argument("--far", choices=WAYS, default="epoll", help="how the other one does")
    parser.add_argument("--then", choices=WAYS, default="blocking")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--source", type=int, help="the port to dial from")
    parser.add_argument("--name", help="of a congestion control, or of upper-layer protocols")
    args = parser.parse_args()
    commands[args.command](args)


main()
