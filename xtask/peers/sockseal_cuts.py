"""Connections that end at a chosen byte."""

import socket
import struct

from sockseal_encoding import Truncated

HOW = ["reset", "end", "leave"]


class Cut:
    """The place where a connection is cut: behind so many bytes that were written ("out") or read ("in") on its channel.

    With "reset" unread and unsent bytes are lost; "end" sends what is on its way; "leave" says nothing to the other side, for whom the connection
    stands on.
    """

    def __init__(self, text):
        self.way, count, *how = text.split(":")
        self.left = int(count)
        self.how = how[0] if how else "reset"
        if self.way not in ("in", "out") or self.how not in HOW:
            raise ValueError(f"{text} is no place to cut")

    def bounded(self, way, length):
        """Returns how many of `length` bytes may still pass, which is less than `length` where the connection has to end there."""
        if way != self.way:
            return length
        passing = min(length, self.left)
        self.left -= passing
        return passing


def read_cuts(text):
    """Reads a list such as `out:70000,none,in:0:end`, one for each connection. There are no cuts behind its end."""
    return [None if cut == "none" else Cut(cut) for cut in text.split(",")] if text else []


def let_go(stream, how):
    """Closes a connection in this way, and wakes who reads from it or writes to it."""
    try:
        if how == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    stream.close()


def cut_off():
    raise Truncated("cut here")
