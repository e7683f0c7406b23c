"""The client of a tunnel to a TCP port, over standard input and output: it takes its stream over where its channel is lost
(section 7.7 of PROTOCOL.md), and abuses that where a fault was chosen.
"""

import os
import time

from sockseal_encoding import Corrupted, Failure, Refused, Truncated, blob, require, u16, u32, u64
from sockseal_relay import LOST, StandardPlain, Stream, tell
from sockseal_resumable import (
    ACKNOWLEDGE, GONE, MAX_HOLD, MAX_WINDOW, MIN_WINDOW, OPEN_RESUMABLE, OPENED_RESUMABLE, RESUME, RESUMED, TCP, Resume, Secret,
    Terms,
)

CONTROL, DATA = 2, 3
OPEN, OPENED, REFUSED, END_OF_STREAM, CLOSE = 0, 1, 2, 3, 8
PIPE, UDP = 1, 4
PAUSE = 0.05

# What an OpenResumable may not ask for: the whole of its fields, for a target and terms that would be right.
WRONG_OPENS = {
    "open-window-low": lambda target, terms: target + Terms(MIN_WINDOW - 1, terms.hold).encode(),
    "open-window-high": lambda target, terms: target + Terms(MAX_WINDOW + 1, terms.hold).encode(),
    "open-hold-low": lambda target, terms: target + Terms(terms.window, 0).encode(),
    "open-hold-high": lambda target, terms: target + Terms(terms.window, MAX_HOLD + 1).encode(),
    "open-pipe": lambda target, terms: u32(PIPE) + terms.encode(),
    "open-udp": lambda target, terms: u32(UDP) + target[4:] + terms.encode(),
}

# Resumes that a server answers with Gone, and that change nothing: each is said before the right one.
GONE_TO = ["resume-secret", "resume-number", "resume-proof", "resume-t3", "resume-generation", "resume-id", "resume-identity"]
# Resumes with a right proof that end the stream.
ENDED_BY = ["resume-beyond", "resume-back"]
# Resumes that no client says, so that the channel ends.
OUT_OF_TURN = ["resume-window", "resume-hold"]


def target(address):
    host, port = address.rsplit(":", 1)
    return u32(TCP) + blob(host.strip("[]").encode()) + u16(int(port))


class Tunnel:
    """One stream, and the channels that it goes over. `dial` makes a channel, for another client where it is given its key."""

    def __init__(self, dial, options):
        self.dial, self.options, self.fault = dial, options, options.fault
        self.target = target(options.files[0])
        self.terms = Terms(options.window, options.hold)
        self.stream = Stream(StandardPlain(), self.terms, options.fault)
        self.generation = 0
        self.left = []

    def run(self):
        """Runs the stream to its end, and returns the idle channel that it ends on."""
        channel = self.dial()
        for _ in range(self.options.refused_before):
            self.open_refused(channel)
        self.say_wrong_open(channel)
        self.secret = channel.next_stream() if not self.options.plain else None
        attachment = self.stream.attach(channel)
        self.stream.start()
        try:
            self.stream.carry(attachment, lambda: self.say_open(channel), lambda: self.read_answer(channel), self.options.eager)
        except LOST as lost:
            channel = self.go_on(channel, lost)
        self.stream.finish()
        tell(f"takeovers   {self.generation}")
        tell(f"stream      {self.stream.summary()}")
        self.expect_left_to_be_closed()
        return channel

    def open_refused(self, channel):
        """Asks for a port at which nothing listens."""
        channel.next_stream()
        channel.say(OPEN_RESUMABLE, target("127.0.0.1:1") + self.terms.encode())
        channel.expect((CONTROL, REFUSED))
        channel.say(END_OF_STREAM)

    def say_wrong_open(self, channel):
        if self.fault in WRONG_OPENS:
            channel.say(OPEN_RESUMABLE, WRONG_OPENS[self.fault](self.target, self.terms))
            channel.expect((CONTROL, OPENED), (CONTROL, OPENED_RESUMABLE), (CONTROL, REFUSED))
            raise AssertionError(f"{self.fault} was answered")

    def say_open(self, channel):
        if self.options.plain:
            channel.say(OPEN, self.target)
        else:
            channel.say(OPEN_RESUMABLE, self.target + self.terms.encode())

    def read_answer(self, channel):
        answers = [OPENED, REFUSED, CLOSE] + ([] if self.options.plain else [OPENED_RESUMABLE])
        (_, number), value = channel.expect(*[(CONTROL, answer) for answer in answers])
        if number == REFUSED:
            raise Refused(f"refused with code {value}")
        if number == CLOSE:
            raise Failure("the server closed instead of opening a stream")
        if number == OPENED:
            tell("opened      cannot be resumed")
            self.stream.do_not_resume()
            if self.fault == "acknowledge-plain":
                channel.say(ACKNOWLEDGE, u64(0))
            return
        value.require_within(self.terms)
        self.terms = value
        self.stream.set_terms(value)
        tell(f"opened      window {value.window} hold {value.hold}")

    # Taking over.

    def go_on(self, channel, lost):
        """Takes the stream over, as often as its channel is lost. Returns the channel on which it ends."""
        try:
            while True:
                if not self.stream.is_resumable:
                    raise Failure("the channel of a stream that cannot be resumed was lost")
                deadline = time.monotonic() + self.terms.hold
                if channel.wire.cut and channel.wire.cut.how == "leave":
                    self.left.append(channel)
                while True:
                    tell(f"lost        {lost}")
                    channel, lost = self.try_to_take_over(deadline)
                    if lost is None:
                        break
                try:
                    self.stream.carry(self.stream.attachment)
                    return channel
                except LOST as failure:
                    lost = failure
        except Failure as failure:
            self.stream.fail(failure)
            raise

    def try_to_take_over(self, deadline):
        """Says Resume on a new channel. Returns the channel, and why the channel was lost before there was an answer."""
        received = self.stream.let_go()
        self.generation += 1
        require(self.generation <= self.options.most_takeovers, "too many takeovers")
        channel = self.dial_until(deadline)
        try:
            fault, self.fault = self.fault, self.fault if self.fault == "late-data" else None
            self.misuse(fault, channel, received)
            if fault == "resume-race":
                channel = self.race(channel, received, deadline)
            else:
                self.take_over(channel, self.resume(received))
            if fault == "late-data":
                self.send_late_data()
            return channel, None
        except LOST as lost:
            channel.wire.let_go()
            if channel.wire.cut and channel.wire.cut.how == "leave":
                self.left.append(channel)
            return channel, lost

    def dial_until(self, deadline):
        while True:
            try:
                return self.dial()
            except (OSError, *LOST) as error:
                if time.monotonic() > deadline:
                    raise Failure(f"no channel for as long as the stream is held: {error}") from error
                time.sleep(PAUSE)

    def resume(self, received):
        return Resume(self.secret.id, self.generation, received, self.terms)

    def say_resume(self, channel, resume, secret=None, transcript=None, bits=0):
        """Says Resume with its proof, or with one that is wrong in what was given. Returns the answer's number and value."""
        proof = (secret or self.secret).resume_proof(transcript or channel.t3, resume.fields())
        proof = proof[:-1] + bytes([proof[-1] ^ bits])
        channel.say(RESUME, resume.fields() + proof)
        (_, number), value = channel.expect((CONTROL, RESUMED), (CONTROL, GONE), (CONTROL, CLOSE))
        return number, value

    def take_over(self, channel, resume):
        number, resumed = self.say_resume(channel, resume)
        if number == CLOSE:
            channel.close()
            raise Truncated("closed in place of an answer")
        if number == GONE:
            channel.finish()
            raise Failure("the stream is gone")
        expected = self.secret.resumed_proof(channel.t3, resume.fields(), resumed.fields())
        require(resumed.proof == expected, "a wrong proof in Resumed")
        resumed.terms.require_within(resume.terms)
        require(self.stream.outgoing.is_in_range(resumed.received), "an offset out of range in Resumed")
        self.terms = resumed.terms
        self.stream.set_terms(resumed.terms)
        tell(f"resumed     {self.generation} from {resume.received} and {resumed.received}")
        self.stream.attach(channel, resumed.received)

    # Faults.

    def misuse(self, fault, channel, received):
        """Says the Resume that was chosen as a fault, and returns where the stream still stands."""
        right = self.resume(received)
        if fault in GONE_TO:
            self.expect_gone(*self.wrong_resume(fault, channel, right))
            if fault == "resume-generation":
                return
        elif fault in ENDED_BY:
            offset = received + 2**40 if fault == "resume-beyond" else 0
            require(fault != "resume-back" or received > self.terms.window, "too little was received to go back")
            self.expect_gone(channel, *self.say_resume(channel, Resume(right.id, right.generation, offset, right.terms)))
            self.generation += 1
        elif fault in OUT_OF_TURN:
            terms = Terms(0, right.terms.hold) if fault == "resume-window" else Terms(right.terms.window, 0)
            number, _ = self.say_resume(channel, Resume(right.id, right.generation, received, terms))
            raise AssertionError(f"{fault} was answered with {number}")

    def wrong_resume(self, fault, channel, right):
        """Says a Resume that is wrong in one thing. Returns the channel that it was said on, and the answer."""
        if fault == "resume-identity":
            channel = self.dial(self.options.other_client_key)
        elsewhere = Secret(os.urandom(32), 0)
        changed = {"resume-generation": (right.id, right.generation - 1), "resume-id": (elsewhere.id, right.generation)}
        resume = Resume(*changed.get(fault, (right.id, right.generation)), right.received, right.terms)
        how = {
            "resume-secret": {"secret": elsewhere},
            "resume-number": {"secret": channel.next_stream()},
            "resume-proof": {"bits": 1},
            "resume-t3": {"transcript": bytes(32)},
        }
        answer = self.say_resume(channel, resume, **how.get(fault, {}))
        if fault == "resume-identity":
            channel.finish()
        return channel, *answer

    @staticmethod
    def expect_gone(_channel, number, _value):
        require(number == GONE, "a wrong Resume was answered with Resumed")
        tell("gone")

    def race(self, first, received, deadline):
        """Takes the stream over on two channels at once. The lower generation comes first, and once more behind the higher one."""
        second = self.dial_until(deadline)
        low = self.resume(received)
        number, _ = self.say_resume(first, low)
        require(number == RESUMED, "the first of two Resumes was refused")
        self.generation += 1
        self.take_over(second, self.resume(received))
        self.left.append(first)
        third = self.dial_until(deadline)
        self.expect_gone(third, *self.say_resume(third, low))
        third.finish()
        return second

    def send_late_data(self):
        """Goes on with the channels that were left, as if the stream were still there."""
        for channel in self.left:
            try:
                channel.wire.cut = None
                channel.send(DATA, b"late data on an old channel")
            except LOST:
                pass

    def expect_left_to_be_closed(self):
        """Checks that the server has closed the channels from which the stream was taken away."""
        deadline = time.monotonic() + 30
        for channel in self.left:
            try:
                channel.wire.cut = None
                while time.monotonic() < deadline:
                    channel.say(END_OF_STREAM)
                    time.sleep(PAUSE)
            except (Truncated, Corrupted):
                continue
            raise Failure("an old channel is still open")


def run(dial, options):
    channel = Tunnel(dial, options).run()
    try:
        channel.finish()
    except LOST as lost:
        # The stream is over, whatever becomes of its channel.
        tell(f"not closed  {lost}")
