"""Carries a plain connection over one channel after the other (section 7.7 of PROTOCOL.md), in either role.

Two threads read and write the plain connection as long as the stream stands. The caller of `carry` reads the channel, and a thread
of its own writes to it: so who waits for room to write keeps nobody from reading.
"""

import os
import socket
import struct
import threading
import time

from sockseal_encoding import Corrupted, Failure, TimedOut, Truncated, require, u64
from sockseal_resumable import ACKNOWLEDGE, Incoming, Outgoing

DATA = 3
CONTROL, END_OF_STREAM, RESET, PING = 2, 3, 4, 5
SIGN_OF_LIFE = 10
# A stream that cannot be resumed keeps nothing: this is what may wait for its channel or its plain connection.
RELAYED = 65_536

LOST = (Truncated, TimedOut, Corrupted)


def tell(text):
    """Prints a line by one write, which lines of other threads do not mix with."""
    os.write(2, f"{text}\n".encode())


class StandardPlain:
    """Standard input and output as a plain connection."""

    def read(self, length):
        return os.read(0, length)

    def write(self, data):
        while data:
            data = data[os.write(1, data):]

    def end(self):
        # The number is not set free, since a socket would get it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def reset(self):
        """There is nothing to reset: the exit code tells that the output is not all."""

    def close(self):
        pass


class SocketPlain:
    """A socket as a plain connection."""

    def __init__(self, stream):
        self.stream = stream
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, length):
        return self.stream.recv(length)

    def write(self, data):
        self.stream.sendall(data)

    def end(self):
        self.stream.shutdown(socket.SHUT_WR)

    def reset(self):
        # Behind SO_LINGER with a time of 0 the close is a reset. The shutdown wakes who waits for bytes.
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            self.stream.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self.stream.close()

    def close(self):
        self.stream.close()


class Attachment:
    """A stream's stay on one channel."""

    def __init__(self, channel):
        self.channel = channel
        self.is_stopped = False
        self.failure = None
        self.pongs = []
        self.has_asked = self.has_reset = False
        self.done = threading.Event()


class Stream:
    """A stream with both its ends, whatever channel it is on."""

    def __init__(self, plain, terms, fault=None):
        self.plain, self.terms, self.fault = plain, terms, fault
        self.outgoing, self.incoming = Outgoing(terms.window), Incoming()
        self.changed = threading.Condition()
        self.is_resumable = True
        self.failure = None
        self.is_closed = False
        self.attachment = None
        self.threads = []

    def start(self):
        """Begins to serve the plain connection."""
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.read_plain, self.write_plain)]
        for thread in self.threads:
            thread.start()

    def set_terms(self, terms):
        with self.changed:
            self.terms, self.outgoing.window = terms, terms.window
            self.changed.notify_all()

    def do_not_resume(self):
        """Keeps nothing from now on: the other side has answered Opened."""
        with self.changed:
            self.is_resumable, self.outgoing.may_forget, self.outgoing.window = False, True, RELAYED
            self.outgoing.acknowledge(self.outgoing.next)
            self.changed.notify_all()

    # The plain connection.

    def read_plain(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.failure or self.outgoing.room() > 0 or self.outgoing.ended)
                if self.failure or self.outgoing.ended:
                    return
                room = self.outgoing.room()
            try:
                piece = self.plain.read(min(room, RELAYED))
            except (OSError, ValueError) as error:
                return self.fail(PlainFailure(f"the plain connection failed: {error}"))
            with self.changed:
                self.outgoing.add(piece)
                self.changed.notify_all()

    def write_plain(self):
        is_over = False
        while not is_over:
            with self.changed:
                self.changed.wait_for(lambda: self.failure or self.incoming.waiting)
                if self.failure:
                    return
                piece = self.incoming.take(time.monotonic())
                self.changed.notify_all()
            is_over = piece is None
            try:
                self.plain.end() if is_over else self.plain.write(piece)
            except (OSError, ValueError) as error:
                return self.fail(PlainFailure(f"the plain connection failed: {error}"))

    def fail(self, failure):
        """Ends the stream for good, and resets its plain connection."""
        with self.changed:
            if self.failure is None:
                self.failure = failure
                self.plain.reset()
            self.changed.notify_all()

    # A channel.

    def attach(self, channel, received=None):
        """Puts the stream on a channel, on which the other side has `received` so much."""
        with self.changed:
            if received is not None:
                self.outgoing.acknowledge(received)
                self.outgoing.next = received
            self.attachment = Attachment(channel)
            return self.attachment

    def let_go(self):
        """Takes the stream off its channel, and then returns how much was received."""
        attachment = self.attachment
        if attachment is not None:
            self.stop(attachment, Truncated("the stream was taken over"))
            attachment.done.wait()
        with self.changed:
            return self.incoming.fix()

    def stop(self, attachment, failure):
        with self.changed:
            attachment.failure = attachment.failure or failure
            attachment.is_stopped = True
            self.changed.notify_all()
        attachment.channel.wire.wake()

    def carry(self, attachment, say=None, answer=None, is_eager=False):
        """Runs the stream on the channel that it was attached to, until both sides have said all. `say` says what puts the stream
        there, and `answer` reads what the other side says to that, behind which data goes out, or before it where `is_eager`.

        Raises one of `LOST` where the channel is lost, and another Failure where the stream has ended for good.
        """
        channel = attachment.channel
        channel.wire.is_patient = True
        channel.answer_ping = lambda nonce: self.queue_pong(attachment, nonce)
        writer = threading.Thread(target=self.write_channel, args=[attachment], daemon=True)
        try:
            if say:
                say()
            if answer and not is_eager:
                answer()
            writer.start()
            if answer and is_eager:
                answer()
            while allowed := self.still_to_come(attachment):
                self.handle(attachment, *channel.expect(*allowed))
            writer.join()
            if attachment.failure:
                raise attachment.failure
        except Failure as failure:
            failure = self.failure or attachment.failure or failure
            self.stop(attachment, failure)
            if not isinstance(failure, LOST):
                self.fail(failure)
                if writer.is_alive():
                    writer.join(SIGN_OF_LIFE)
            channel.wire.let_go()
            raise failure from None
        finally:
            del channel.answer_ping
            attachment.done.set()

    def still_to_come(self, attachment):
        """Returns what the other side may say now, and nothing once it has said all. Waits until there is room for it."""
        bound = self.terms.window if self.is_resumable else RELAYED
        with self.changed:
            self.changed.wait_for(lambda: attachment.is_stopped or self.failure or self.incoming.held <= bound)
            if self.failure:
                raise self.failure
            if attachment.is_stopped:
                raise attachment.failure
            acknowledge = [(CONTROL, ACKNOWLEDGE)] if self.is_resumable else []
            if not self.incoming.ended:
                return [DATA, (CONTROL, END_OF_STREAM), *acknowledge]
            return [] if self.outgoing.has_arrived() else acknowledge

    def handle(self, attachment, kind, value):
        with self.changed:
            if kind == (CONTROL, ACKNOWLEDGE):
                self.outgoing.acknowledge(value)
                attachment.has_asked = False
            else:
                self.incoming.add(value if kind == DATA else None)
            self.changed.notify_all()

    def queue_pong(self, attachment, nonce):
        with self.changed:
            if self.fault == "never-acknowledge":
                tell(f"asked       {self.incoming.received}")
            attachment.pongs.append(nonce)
            self.changed.notify_all()

    def write_channel(self, attachment):
        """Says all that there is to say, until this side has said all or the channel is lost."""
        try:
            while (said := self.next_to_say(attachment)) is not None:
                attachment.channel.send(*said)
        except Failure as failure:
            self.stop(attachment, failure)

    def next_to_say(self, attachment):
        """Waits for what has to be said next, and returns its type and payload. None means that nothing is left to say."""
        outgoing, incoming, last = self.outgoing, self.incoming, time.monotonic()
        channel = attachment.channel
        with self.changed:
            while True:
                clock = time.monotonic()
                if isinstance(self.failure, PlainFailure) and not attachment.has_reset:
                    attachment.has_reset = True
                    return channel.control(RESET, bytes(4))
                if self.failure:
                    raise self.failure
                if attachment.is_stopped:
                    return None
                acknowledges = self.is_resumable and incoming.has_news() and self.fault != "never-acknowledge"
                if acknowledges and (attachment.pongs or incoming.is_due(self.terms.window, clock)):
                    return channel.control(ACKNOWLEDGE, u64(self.bent(incoming.told, incoming.tell())))
                if attachment.pongs:
                    return channel.pong(attachment.pongs.pop(0))
                if outgoing.has_more():
                    piece = outgoing.take()
                    self.changed.notify_all()
                    return (DATA, piece) if piece else channel.control(END_OF_STREAM)
                if self.has_said_all():
                    return None
                is_full = self.is_resumable and outgoing.room() == 0 and not outgoing.ended
                if is_full and not attachment.has_asked or clock - last >= SIGN_OF_LIFE:
                    attachment.has_asked = True
                    return channel.ping()
                due = [last + SIGN_OF_LIFE] + ([incoming.untold_since + 1] if acknowledges else [])
                self.changed.wait(max(min(due) - clock, 0.001))

    def bent(self, told, received):
        """Returns what this side acknowledges behind `told`, which is wrong where a fault was chosen."""
        if self.fault == "acknowledge-back" and told > 0:
            return told - 1
        return received + 1 if self.fault == "acknowledge-beyond" else received

    def has_said_all(self):
        if not self.outgoing.ended or self.outgoing.has_more():
            return False
        return self.incoming.is_over and (not self.incoming.has_news() or not self.is_resumable)

    def finish(self):
        """Closes the plain connection of a stream that is over."""
        for thread in self.threads:
            thread.join()
        self.plain.close()
        self.is_closed = True

    def summary(self):
        up, down = self.outgoing, self.incoming
        return f"said {up.length} {up.hash.hexdigest()} heard {down.received - 1} {down.hash.hexdigest()}"


class PlainFailure(Failure):
    """The plain connection has failed."""
