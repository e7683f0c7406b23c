"""Computes the test vectors of invites from PROTOCOL.md alone:

    python3 xtask/peers/invite_vectors.py > crates/wire-protocol/tests/vectors/invites.json

Standard library only, and nothing shared with the Rust code, which has to come to the same bytes. Everything is derived from its
name, so that the file is the same each time.
"""

import json

from sockseal_encoding import u8, u64
from sockseal_invite import (
    LineError, Secret, encode_content, encode_line, proof, read_line, verifier,
)
from sockseal_keys import sha256

EXPIRES_AT = 1_700_086_400
ONE = ["gate.example.org:7117"]
EIGHT = ["192.0.2.1:7117", "[2001:db8::1]:7117", "gate:1", "gate.example.org:65535"] + [
    f"host-{number}.example.org:{7000 + number}" for number in range(4)
]


def drawn(name):
    return sha256(b"sockseal test vectors|invite|" + name.encode())


SERVER, OTHER_SERVER = drawn("server id"), drawn("other server id")


def derivations():
    for name, server_id in [("first secret", SERVER), ("second secret", SERVER), ("first secret", OTHER_SERVER)]:
        secret = Secret(drawn(name), server_id)
        yield {
            "secret": secret.secret.hex(), "server_id": server_id.hex(), "id": secret.id.hex(),
            "reveal": secret.reveal.hex(), "bind": secret.bind.hex(), "verifier": secret.verifier.hex(),
        }


def proofs():
    """Says what a server that keeps the first invite makes of what a client presents."""
    first, second = Secret(drawn("first secret"), SERVER), Secret(drawn("second secret"), SERVER)
    elsewhere = Secret(drawn("first secret"), OTHER_SERVER)
    t2, client = drawn("t2"), drawn("client id")
    right = first.proof(t2, client)
    cases = [
        ("the invite", first.id, first.reveal, right, "right"),
        ("a proof over another T2", first.id, first.reveal, first.proof(drawn("other t2"), client), "wrong-proof"),
        ("a proof for another key", first.id, first.reveal, first.proof(t2, drawn("other client id")), "wrong-proof"),
        ("a proof for another server", first.id, first.reveal, proof(first.bind, t2, OTHER_SERVER, client, first.id), "wrong-proof"),
        ("a proof for another id", first.id, first.reveal, proof(first.bind, t2, SERVER, client, second.id), "wrong-proof"),
        ("a proof under the half that is shown", first.id, first.reveal, proof(first.reveal, t2, SERVER, client, first.id), "wrong-proof"),
        ("no proof", first.id, first.reveal, bytes(32), "wrong-proof"),
        ("the half of another invite", first.id, second.reveal, right, "wrong"),
        ("the half for another server", first.id, elsewhere.reveal, right, "wrong"),
        ("the verifier in place of the half", first.id, first.verifier, right, "wrong"),
        ("another invite under this id", first.id, second.reveal, second.proof(t2, client), "wrong"),
    ]
    for name, invite_id, reveal, presented, verdict in cases:
        assert (verdict != "wrong") == (verifier(reveal) == first.verifier)
        yield {
            "name": name, "t2": t2.hex(), "client_id": client.hex(), "id": invite_id.hex(),
            "reveal": reveal.hex(), "proof": presented.hex(), "verdict": verdict,
        }


def line(addresses):
    return encode_line(encode_content(SERVER, drawn("first secret"), EXPIRES_AT, addresses))


def chunks(text, length):
    return [text[start:start + length] for start in range(0, len(text), length)]


def lines():
    """Yields lines, and the same lines as they come out of mail programs."""
    for addresses in [ONE, EIGHT]:
        plain = line(addresses)
        forms = [
            ("plain", plain),
            ("with a line end", plain + "\r\n"),
            ("in capitals", plain.upper()),
            ("wrapped", "\n".join(chunks(plain, 76))),
            ("quoted", "\n".join("> " + part for part in chunks(plain, 70))),
            ("quoted twice", "\n".join(">> " + part for part in chunks(plain, 70))),
            ("in angle brackets", f"<{plain}>"),
            ("in quotation marks", f'"{plain}"'),
            ("in bold", f"**{plain}**"),
            ("as code", f"```\n{plain}\n```\n"),
            ("with soft hyphens", "\xad".join(chunks(plain, 30))),
            ("with invisible characters", "\ufeff" + "\u200b\u200c\u200d\u2060".join(chunks(plain, 11))),
            ("with every white space", "\t\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000".join(chunks(plain, 50))),
        ]
        for name, text in forms:
            assert read_line(text) == (SERVER, drawn("first secret"), EXPIRES_AT, addresses)
            yield {
                "name": name, "text": text, "server_id": SERVER.hex(), "secret": drawn("first secret").hex(),
                "expires_at": EXPIRES_AT, "addresses": addresses,
            }


def refused():
    plain = line(ONE)
    content = encode_content(SERVER, drawn("first secret"), EXPIRES_AT, ONE)

    def of(addresses):
        return encode_line(encode_content(SERVER, drawn("first secret"), EXPIRES_AT, addresses))

    cases = [
        ("no text", "", "not-an-invite"),
        ("another text", "hello", "not-an-invite"),
        ("text before it", "Your invite: " + plain, "not-an-invite"),
        ("a prefix without a number", plain.replace("-1:", "-:", 1), "not-an-invite"),
        ("a prefix with a letter that looks alike", plain.replace("k", "\u212a", 1), "not-an-invite"),
        ("a prefix of tomorrow", plain.replace("-1:", "-2:", 1), "newer"),
        ("a content of tomorrow", encode_line(u8(2) + b"in another form"), "newer"),
        ("a content of version 0", encode_line(u8(0) + content[1:]), "newer"),
        ("text behind it", plain + ".", "damaged"),
        ("a digit that base32 does not have", plain[:40] + "0" + plain[41:], "damaged"),
        ("a mark in the middle", plain[:40] + "=" + plain[40:], "damaged"),
        ("twice", plain + plain.removeprefix("sockseal-invite-1:"), "damaged"),
        ("no content", encode_line(b""), "newer"),
        ("an empty content", "sockseal-invite-1:", "damaged"),
        ("a byte left over", encode_line(content + b"\0"), "malformed"),
        ("a byte too few", encode_line(content[:-1]), "malformed"),
        ("addresses beyond the end", encode_line(content[:73] + u64(2**64 - 1) + content[81:]), "malformed"),
        ("an address that is not UTF-8", encode_line(content[:-1] + b"\xff"), "malformed"),
        ("no address", of([]), "address-count"),
        ("nine addresses", of(EIGHT + ONE), "address-count"),
        ("an empty address", of([""]), "address"),
        ("no port", of(["gate"]), "address"),
        ("no host", of([":7117"]), "address"),
        ("port 0", of(["gate:0"]), "address"),
        ("port 65536", of(["gate:65536"]), "address"),
        ("a sign before the port", of(["gate:+1"]), "address"),
        ("a space in a host", of(["ga te:1"]), "address"),
        ("a control character in a host", of(["gate\x1b[2J:1"]), "address"),
        ("IPv6 without brackets", of(["2001:db8::1:7117"]), "address"),
        ("an address of 256 bytes", of(["h" * 254 + ":1"]), "address"),
        ("2049 characters", "sockseal-invite-1:" + "a" * 2031, "too-long"),
    ]
    # The last character of this line has unused bits.
    last = "abcdefghijklmnopqrstuvwxyz234567".index(plain[-1])
    assert len(plain.removeprefix("sockseal-invite-1:")) % 8 != 0 and last % 2 == 0
    cases.append(("an unused bit that is set", plain[:-1] + "abcdefghijklmnopqrstuvwxyz234567"[last + 1], "damaged"))
    cases += [(f"cut to {length} characters", plain[:length], "damaged") for length in range(1, len(plain))]
    for place in range(len(plain)):
        changed = "q" if plain[place] != "q" else "r"
        text = plain[:place] + changed + plain[place + 1:]
        cases.append((f"character {place} changed", text, read_error(text)))
    cases += [(f"{letter} behind it", plain + letter, "damaged") for letter in "abcdefghijklmnopqrstuvwxyz234567"]
    for name, text, error in cases:
        assert read_error(text) == error, (name, read_error(text), error)
        yield {"name": name, "text": text, "error": error}


def read_error(text):
    try:
        read_line(text)
    except LineError as error:
        return error.kind
    raise AssertionError(f"{text} was read")


print(json.dumps({
    "derivations": list(derivations()), "proofs": list(proofs()), "lines": list(lines()), "refused": list(refused()),
}, indent=2))
