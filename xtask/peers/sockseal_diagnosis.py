"""Sections 5 and 7.6 of PROTOCOL.md: the reasons for which a client is denied, and its questions about itself."""

import ipaddress

from sockseal_encoding import Reader, require, u8, u16, u32, u64, blob

ASKS_REASON = 0xFF01
TARGET = 10
CLIENT, LISTEN = range(2)
STATES = ["free", "own", "own other", "refused"]
DENIED = ["client key required", "not allowed", "too many channels", "expired", "elsewhere", "revoked"]
EXPIRED, ELSEWHERE, REVOKED = 3, 4, 5


def denied(reader):
    """Reads the code of a Denied with its fields, and returns it in words."""
    code = reader.choice(len(DENIED))
    words = [DENIED[code]]
    if code == EXPIRED:
        words += [str(reader.number(8)), str(reader.number(8))]
    elif code == ELSEWHERE:
        words.append(shown_source(reader.array(16)))
    return " ".join(words)


def denial(reason, now):
    """Encodes the code of a Denied with the reason of this name."""
    code = DENIED.index(reason)
    fields = {EXPIRED: u64(now - 60) + u64(now), ELSEWHERE: source("192.0.2.7")}
    return u32(code) + fields.get(code, b"")


def source(text):
    return ipaddress.ip_address("::ffff:" + text).packed


def shown_source(octets):
    address = ipaddress.ip_address(octets)
    return str(address.ipv4_mapped or address)


def question(words):
    """Encodes the target with the question `client`, or `listen HOST:PORT`."""
    if words == ["client"]:
        return u32(TARGET) + u32(CLIENT)
    host, port = words[1].rsplit(":", 1)
    return u32(TARGET) + u32(LISTEN) + u32(0) + blob(host.encode()) + u16(int(port)) + u32(0)


def read_question(reader):
    """Reads the question of a target. Returns None for one about the client, else the address to listen on."""
    if reader.choice(2) == CLIENT:
        return None
    address = reader.string() if reader.choice(2) else (reader.string(), reader.number(2))
    reader.choice(3)
    return address


def ask(channel, options):
    """Asks, and prints the answer."""
    channel.open(question(options.files))
    answer = b""
    while (data := channel.read_data()) is not None:
        answer += data
        require(len(answer) <= 8192, "an answer over the limit")
    channel.end_data()
    reader = Reader(answer)
    if reader.choice(2) == CLIENT:
        now, name = reader.number(8), reader.string()
        expires = reader.number(8) if reader.optional() else "never"
        words = ["client", name, str(now), str(expires), shown_source(reader.array(16))]
    else:
        state = reader.choice(len(STATES))
        words = ["listen", STATES[state]]
        if STATES[state] == "refused":
            words.append(str(reader.choice(13)))
    reader.end()
    print(" ".join(words), flush=True)


def answer(asked, name, now, state):
    """Encodes the answer to the question that `read_question` has read."""
    if asked is None:
        return u32(CLIENT) + u64(now) + blob(name.encode()) + u8(0) + source("192.0.2.7")
    number = STATES.index(state)
    return u32(LISTEN) + u32(number) + (u32(8) if state == "refused" else b"")
