"""Invites (sections 5.1 and 5.2 of PROTOCOL.md): what comes of an invite's secret, and the line that carries it.

Needs nothing but the standard library: `invite_vectors.py` makes test vectors with it.
"""

import base64
import hmac
import os
import re

from sockseal_encoding import Failure, Reader, blob, u8, u64
from sockseal_keys import expand_label, mac, sha256

PREFIX = "sockseal-invite-1:"
ENROLLED, ENROLLED_BEFORE, KNOWN = range(3)
OUTCOMES = ["enrolled", "enrolled before", "known already"]
MAX_LINE, MAX_ADDRESSES, MAX_ADDRESS = 2048, 8, 255
MAX_NAME, MAX_GRANT = 256, 2048


class Secret:
    """The secret of an invite, as it is used with one server."""

    def __init__(self, secret, server_id):
        self.secret, self.server_id = secret, server_id
        self.id = expand_label(secret, "invite id", server_id, 16)
        self.reveal = expand_label(secret, "invite reveal", server_id)
        self.bind = expand_label(secret, "invite bind", server_id)
        self.verifier = verifier(self.reveal)

    def proof(self, transcript, client_id):
        return proof(self.bind, transcript, self.server_id, client_id, self.id)


def verifier(reveal):
    return sha256(b"sockseal v1 invite verifier\0" + reveal)


def proof(bind, transcript, server_id, client_id, invite_id):
    return mac(bind, b"sockseal v1 invite proof\0" + transcript + server_id + client_id + invite_id)


def is_right(kept, transcript, client_id, invite_id, reveal, presented):
    """Judges what a client has presented by what the server keeps of an invite."""
    expected = proof(kept.bind, transcript, kept.server_id, client_id, invite_id)
    both = [hmac.compare_digest(verifier(reveal), kept.verifier), hmac.compare_digest(expected, presented)]
    return all(both) and invite_id == kept.id


class LineError(Failure):
    """The text is not the line of an invite that can be used. `kind` is one of the classes in the test vectors."""

    code = 2

    def __init__(self, kind):
        super().__init__(f"the line is {kind}")
        self.kind = kind


def encode_content(server_id, secret, expires_at, addresses, version=1):
    listed = b"".join(blob(address.encode()) for address in addresses)
    return u8(version) + server_id + secret + u64(expires_at) + u64(len(addresses)) + listed


def encode_line(content):
    checked = content + sha256(b"sockseal v1 invite line\0" + content)[:4]
    return PREFIX + base64.b32encode(checked).decode().rstrip("=").lower()


def new_line(server_id, address, lifetime=24 * 3600, clock=0):
    """Makes an invite. Returns what the server keeps of it, and the line."""
    secret = os.urandom(32)
    return Secret(secret, server_id), encode_line(encode_content(server_id, secret, clock + lifetime, [address]))


# White space as Unicode has it, the invisible characters and the marks that section 5.2 lists.
DROPPED = re.compile(
    "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    "\xad\u200b\u200c\u200d\u2060\ufeff><\"'*`]"
)


def read_line(text):
    """Returns the server id, the secret, the end and the addresses of a line."""
    line = DROPPED.sub("", text)
    if len(line) > MAX_LINE:
        raise LineError("too-long")
    # Only the letters of ASCII have a second case here: other ones lower to them too.
    line = re.sub("[A-Z]", lambda letter: letter[0].lower(), line)
    if not line.startswith(PREFIX):
        if line and PREFIX.startswith(line):
            raise LineError("damaged")
        raise LineError("newer" if re.match("sockseal-invite-[0-9]+:", line) else "not-an-invite")
    checked = decode_base32(line[len(PREFIX):])
    if checked[:1] not in (b"", b"\x01"):
        raise LineError("newer")
    content, checksum = checked[:-4], checked[-4:]
    if len(checked) < 4 or sha256(b"sockseal v1 invite line\0" + content)[:4] != checksum:
        raise LineError("damaged")
    return read_content(content)


def decode_base32(text):
    if re.search("[^a-z2-7]", text) or len(text) % 8 in (1, 3, 6):
        raise LineError("damaged")
    decoded = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    # Python does not look at the unused bits of the last character.
    if base64.b32encode(decoded).decode().rstrip("=").lower() != text:
        raise LineError("damaged")
    return decoded


def read_content(content):
    reader = Reader(content)
    try:
        reader.array(1)
        server_id, secret, expires_at = reader.array(32), reader.array(32), reader.number(8)
        count = reader.number(8)
        addresses = []
        while len(addresses) < count:
            addresses.append(reader.string())
        reader.end()
    except Failure as failure:
        raise LineError("malformed") from failure
    if not 1 <= count <= MAX_ADDRESSES:
        raise LineError("address-count")
    if not all(map(is_address, addresses)):
        raise LineError("address")
    return server_id, secret, expires_at, addresses


def is_address(address):
    host, colon, port = address.rpartition(":")
    is_port = re.fullmatch("[0-9]+", port) is not None and 1 <= int(port) <= 65535
    is_host = re.fullmatch(r"\[.*\]|[^:]+", host) is not None and not re.search(r"[\s\x00-\x1f\x7f-\x9f]", host)
    return bool(colon) and is_port and is_host and len(address.encode()) <= MAX_ADDRESS
