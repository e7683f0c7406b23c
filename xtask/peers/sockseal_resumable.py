"""Resumable streams (section 7.7 of PROTOCOL.md): their secrets, the messages that only they use, and what each side keeps.

Needs nothing but the standard library: `stream_vectors.py` makes test vectors with it.
"""

import collections
import hashlib

from sockseal_encoding import Reader, require, u32, u64
from sockseal_keys import expand_label, mac

OPEN_RESUMABLE, OPENED_RESUMABLE, ACKNOWLEDGE, RESUME, RESUMED, GONE = range(11, 17)
NAMES = ["OpenResumable", "OpenedResumable", "Acknowledge", "Resume", "Resumed", "Gone"]
MIN_WINDOW, MAX_WINDOW, MAX_HOLD = 65_536, 67_108_864, 86_400
TCP = 2
PIECE = 16384


class Secret:
    """The secret of a stream, which both sides derive from the channel on which the stream was opened."""

    def __init__(self, exporter, number):
        self.stream = expand_label(exporter, "stream", u64(number))
        self.id = expand_label(self.stream, "stream id", b"", 16)
        self.client = expand_label(self.stream, "resume c", b"")
        self.server = expand_label(self.stream, "resume s", b"")

    def resume_proof(self, transcript, resume):
        return mac(self.client, b"sockseal v1 resume\0" + transcript + resume)

    def resumed_proof(self, transcript, resume, resumed):
        return mac(self.server, b"sockseal v1 resumed\0" + transcript + resume + resumed)


class Terms(collections.namedtuple("Terms", ["window", "hold"])):
    """How many bytes each side keeps, and for how many seconds a stream stays without a channel."""

    def encode(self):
        return u32(self.window) + u32(self.hold)

    @classmethod
    def read(cls, reader):
        terms = cls(reader.number(4), reader.number(4))
        require(MIN_WINDOW <= terms.window <= MAX_WINDOW, "a window out of range")
        require(1 <= terms.hold <= MAX_HOLD, "a hold out of range")
        return terms

    def least(self, other):
        return Terms(min(self.window, other.window), min(self.hold, other.hold))

    def require_within(self, asked):
        require(self.least(asked) == self, "more than was asked for")


class Resume:
    """Resume, whose fields before the proof are what both proofs are about."""

    def __init__(self, stream_id, generation, received, terms, proof=None):
        self.id, self.generation, self.received, self.terms, self.proof = stream_id, generation, received, terms, proof

    def fields(self):
        return self.id + u32(self.generation) + u64(self.received) + self.terms.encode()

    @classmethod
    def read(cls, reader):
        return cls(reader.array(16), reader.number(4), reader.number(8), Terms.read(reader), reader.array(32))


class Resumed:
    """Resumed, likewise."""

    def __init__(self, received, terms, proof=None):
        self.received, self.terms, self.proof = received, terms, proof

    def fields(self):
        return u64(self.received) + self.terms.encode()

    @classmethod
    def read(cls, reader):
        return cls(reader.number(8), Terms.read(reader), reader.array(32))


def read_target(reader):
    """Reads the target of a stream that may be resumable, as far as this server may be asked for it."""
    require(reader.choice(11) == TCP, "a target that is not asked for here, or cannot be resumed")
    return TCP, reader.string(), reader.number(2)


def read_fields(number, reader):
    """Reads the fields of a control message that only resumable streams use."""
    if number == OPEN_RESUMABLE:
        return read_target(reader), Terms.read(reader)
    if number == OPENED_RESUMABLE:
        return Terms.read(reader)
    if number == ACKNOWLEDGE:
        return reader.number(8)
    if number == RESUME:
        return Resume.read(reader)
    if number == RESUMED:
        return Resumed.read(reader)
    # Gone: for how many seconds the server has forgotten no stream.
    return reader.number(4)


class Outgoing:
    """What this side says: all of it from the last acknowledged offset on, the end included."""

    def __init__(self, window):
        self.window = window
        self.start = 0
        """The last offset that was acknowledged."""
        self.next = 0
        """The offset of what is said next on the present channel."""
        self.sent = 0
        """The offset behind all that was said on any channel."""
        self.length = 0
        """The number of bytes that the plain connection has given."""
        self.ended = False
        self.kept = bytearray()
        self.hash = hashlib.sha256()
        self.may_forget = False
        """What was sent need not be kept: the stream is not resumable."""

    @property
    def end(self):
        return self.length + self.ended

    def room(self):
        return 0 if self.ended else self.window - (self.end - self.start)

    def add(self, piece):
        """Takes what the plain connection gives. No bytes are its end."""
        self.hash.update(piece)
        self.length += len(piece)
        self.kept += piece
        self.ended = not piece

    def has_more(self):
        return self.next < self.end

    def take(self):
        """Returns what has to be sent next: a piece of data, or no bytes for the end."""
        begin = min(self.next, self.length) - self.start
        piece = bytes(self.kept[begin:begin + PIECE]) if self.next < self.length else b""
        self.next += len(piece) or 1
        self.sent = max(self.sent, self.next)
        if self.may_forget:
            self.acknowledge(self.next)
        return piece

    def is_in_range(self, received):
        return self.start <= received <= self.sent

    def acknowledge(self, received):
        require(self.is_in_range(received), f"{received} acknowledged, of {self.start} to {self.sent}")
        del self.kept[:min(received, self.length) - min(self.start, self.length)]
        self.start = received

    def has_arrived(self):
        """Whether all of it was acknowledged, the end included."""
        return self.ended and self.start == self.end


class Incoming:
    """What the other side says: what the plain connection has taken of it, and what waits for that.

    An offset counts as received once its byte was handed on. What waits is read from the channel, so that an Acknowledge behind it
    arrives, but not acknowledged: so there is never more of it than a window, and where the channel is lost the other
    side still has it.
    """

    def __init__(self):
        self.received = self.told = 0
        self.waiting = collections.deque()
        self.held = 0
        self.ended = self.is_over = False
        self.untold_since = None
        self.hash = hashlib.sha256()

    def add(self, piece):
        """Takes a piece from the channel. None is the end."""
        if piece != b"":
            self.waiting.append(piece)
            self.held += len(piece or b"")
            self.ended = piece is None

    def take(self, clock):
        """Hands the next piece on. None is the end."""
        piece = self.waiting.popleft()
        self.is_over = piece is None
        self.hash.update(piece or b"")
        self.held -= len(piece or b"")
        self.received += 1 if piece is None else len(piece)
        self.untold_since = self.untold_since or clock
        return piece

    def tell(self):
        """Returns what there is to acknowledge, which then counts as acknowledged."""
        self.told, self.untold_since = self.received, None
        return self.received

    def has_news(self):
        return self.told < self.received

    def fix(self):
        """Forgets what came on a channel that is lost and was not handed on."""
        self.waiting.clear()
        self.held, self.ended = 0, self.is_over
        return self.tell()

    def is_due(self, window, clock):
        """Whether it is time for an Acknowledge."""
        if not self.has_news():
            return False
        return self.is_over or self.received - self.told >= window // 4 or clock - self.untold_since >= 1
