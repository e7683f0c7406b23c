"""What every part of the second implementation uses: its failures, and the encoding of messages (section 2.1 of PROTOCOL.md)."""


class Failure(Exception):
    """A failed connection. `code` is the exit code, as with the two programs."""

    code = 4


class Truncated(Failure):
    """The connection ended without the peer's Close (section 7)."""


class Corrupted(Failure):
    """A record that no holder of the keys has sealed."""


class TimedOut(Failure):
    """The peer was silent for too long."""

    code = 6


class Distrusted(Failure):
    """The peer has not proven the expected identity."""

    code = 3


class Refused(Failure):
    """The peer answered with Abort, Denied or Refused."""

    code = 5


def require(condition, what):
    if not condition:
        raise Failure(what)


# Section 2.1: encoding.


def u8(number):
    return number.to_bytes(1, "big")


def u16(number):
    return number.to_bytes(2, "big")


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


def blob(content):
    return u64(len(content)) + content


class Reader:
    """Reads a message field by field. `end` checks that no bytes are left."""

    def __init__(self, message):
        require(len(message) <= 8192, "a message over the limit")
        self.rest = message

    def array(self, length):
        require(length <= len(self.rest), "a message that ends too early")
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def number(self, width):
        return int.from_bytes(self.array(width), "big")

    def blob(self):
        return self.array(self.number(8))

    def string(self):
        try:
            return self.blob().decode()
        except UnicodeDecodeError as error:
            raise Failure("a string that is not UTF-8") from error

    def choice(self, count):
        number = self.number(4)
        require(number < count, f"choice {number} of {count}")
        return number

    def optional(self):
        number = self.number(1)
        require(number < 2, "an optional that is neither there nor not there")
        return number == 1

    def end(self):
        require(not self.rest, "a message with something behind it")
