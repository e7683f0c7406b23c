"""The server of tunnels to TCP ports (sections 7.1 and 7.7 of PROTOCOL.md): it keeps streams without a channel until their client
takes them over, and answers wrongly where a fault was chosen.
"""

import socket
import threading

from sockseal_encoding import Failure, Truncated, u32
from sockseal_relay import LOST, SocketPlain, Stream, tell
from sockseal_resumable import GONE, MAX_HOLD, MAX_WINDOW, OPENED_RESUMABLE, RESUMED, Resumed, Terms

CONTROL = 2
OPENED, REFUSED, CLOSE = 1, 2, 8
TARGET_REFUSED, TARGET_UNREACHABLE = 3, 4
CONNECTING = 10


class Kept:
    """A resumable stream as the server knows it, whether it stands or is over."""

    def __init__(self, secret, client, stream, terms):
        self.secret, self.client, self.stream, self.terms = secret, client, stream, terms
        self.generation = 0
        self.taking_over = threading.Lock()
        self.timer = None

    @property
    def name(self):
        return self.secret.id.hex()[:8]


class Tunnels:
    """The streams of a server."""

    def __init__(self, options):
        self.options = options
        self.terms = Terms(options.window, options.hold)
        self.lock = threading.Lock()
        self.streams = {}
        self.is_closing = options.fault == "close-resume"

    # Opening.

    def open(self, channel, target, client, asked=None):
        """Serves a stream from its Open on, which asked for a resumable one where it named its terms."""
        secret = channel.next_stream() if asked else None
        refused, plain = self.connect(target) if self.options.fault != "refuse" else (TARGET_REFUSED, None)
        if plain is None:
            channel.say(REFUSED, u32(refused))
            while channel.read_data() is not None:
                pass
            return
        terms = self.terms.least(asked) if asked else self.terms
        stream = Stream(plain, terms, self.options.fault)
        if asked is None or self.options.fault == "opened":
            stream.do_not_resume()
            stream.start()
            stream.carry(stream.attach(channel), lambda: channel.say(OPENED))
            stream.finish()
            return tell(f"over        {stream.summary()}")
        kept = Kept(secret, client, stream, terms)
        tell(f"opened      {kept.name} window {terms.window} hold {terms.hold}")
        with self.lock:
            self.streams[secret.id] = kept
        said = Terms(asked.window + 1, terms.hold) if self.options.fault == "opened-more" else terms
        attachment = stream.attach(channel)
        stream.start()
        self.carry(kept, attachment, lambda: channel.say(OPENED_RESUMABLE, said.encode()))

    @staticmethod
    def connect(target):
        _, host, port = target
        try:
            stream = socket.create_connection((host, port), CONNECTING)
            stream.settimeout(None)
            return None, SocketPlain(stream)
        except ConnectionRefusedError:
            return TARGET_REFUSED, None
        except OSError:
            return TARGET_UNREACHABLE, None

    def carry(self, kept, attachment, say):
        """Runs a stream on a channel, and keeps it where the channel is lost."""
        try:
            kept.stream.carry(attachment, say)
        except LOST as lost:
            tell(f"lost        {kept.name} {lost}")
            with kept.stream.changed:
                if kept.stream.attachment is attachment:
                    self.hold(kept)
            raise
        except Failure as failure:
            tell(f"failed      {kept.name} {failure}")
            self.forget(kept)
            raise
        if not kept.stream.is_closed:
            kept.stream.finish()
            tell(f"over        {kept.name} {kept.stream.summary()}")
        self.hold(kept)

    def hold(self, kept):
        """Lets go of the stream, or of what is known of it, once it was held for as long as was agreed."""
        if kept.timer:
            kept.timer.cancel()
        kept.timer = threading.Timer(kept.terms.hold, self.expire, [kept])
        kept.timer.daemon = True
        kept.timer.start()

    def expire(self, kept):
        with kept.taking_over:
            if kept.stream.attachment is None or kept.stream.attachment.done.is_set():
                self.forget(kept)
                if not kept.stream.is_closed:
                    kept.stream.fail(Failure("nobody took the stream over"))
                    tell(f"expired     {kept.name}")

    def forget(self, kept):
        with self.lock:
            self.streams.pop(kept.secret.id, None)

    # Taking over.

    def resume(self, channel, client, resume):
        """Answers Resume, and serves the stream if the client has it."""
        if self.is_closing:
            self.is_closing = False
            channel.close()
            channel.expect((CONTROL, CLOSE))
            raise Truncated("closed in place of an answer")
        with self.lock:
            kept = self.streams.get(resume.id)
        reason = self.refusal(kept, client, resume, channel.t3)
        if reason is None:
            with kept.taking_over:
                attachment, resumed, reason = self.take_over(kept, channel, resume)
        if reason is not None:
            tell(f"gone        {resume.id.hex()[:8]} {reason}")
            # It does not remember for how long it has forgotten none.
            return channel.say(GONE, u32(0))
        tell(f"resumed     {kept.name} {resume.generation} from {resume.received} and {resumed.received}")
        self.carry(kept, attachment, lambda: channel.say(RESUMED, self.answer(kept, channel, resume, resumed)))

    def refusal(self, kept, client, resume, transcript):
        """Returns why the stream is not the client's, or None."""
        if kept is None or self.options.fault == "gone":
            return "unknown"
        if client != kept.client:
            return "another client"
        if resume.proof != kept.secret.resume_proof(transcript, resume.fields()):
            return "wrong proof"
        return None

    def take_over(self, kept, channel, resume):
        """Puts the stream on the channel. Returns its attachment and the answer, or why it is gone."""
        stream = kept.stream
        if resume.generation <= kept.generation:
            return None, None, "old generation"
        if stream.failure:
            return None, None, "failed"
        received = stream.let_go()
        if not stream.outgoing.is_in_range(resume.received):
            stream.fail(Failure("an offset out of range in Resume"))
            self.forget(kept)
            return None, None, "offset out of range"
        kept.generation = resume.generation
        kept.terms = kept.terms.least(resume.terms)
        stream.set_terms(kept.terms)
        if kept.timer:
            kept.timer.cancel()
        return stream.attach(channel, resume.received), Resumed(received, kept.terms), None

    def answer(self, kept, channel, resume, resumed):
        """Returns Resumed with its proof, or one that is wrong in one thing."""
        fault, transcript = self.options.fault, channel.t3
        if fault == "resumed-beyond":
            resumed = Resumed(resumed.received + 2**40, resumed.terms)
        elif fault == "resumed-back":
            resumed = Resumed(0, resumed.terms)
        elif fault == "resumed-more":
            resumed = Resumed(resumed.received, Terms(min(resume.terms.window + 1, MAX_WINDOW), min(resume.terms.hold + 1, MAX_HOLD)))
        elif fault == "resumed-t3":
            transcript = bytes(32)
        proof = kept.secret.resumed_proof(transcript, resume.fields(), resumed.fields())
        if fault == "resumed-proof":
            proof = proof[:-1] + bytes([proof[-1] ^ 1])
        elif fault == "resumed-side":
            proof = kept.secret.resume_proof(transcript, resume.fields() + resumed.fields())
        return resumed.fields() + proof
