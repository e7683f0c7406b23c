"""The hashes of the second implementation, and Expand-Label (sections 2 and 4 of PROTOCOL.md)."""

import hashlib
import hmac

from sockseal_encoding import u8, u16


def sha256(data):
    return hashlib.sha256(data).digest()


def mac(key, data):
    return hmac.digest(key, data, "sha256")


def expand_label(secret, label, context, length=32):
    label = b"sockseal1 " + label.encode()
    info = u16(length) + u8(len(label)) + label + u8(len(context)) + context
    # No output is longer than one block of HKDF-Expand.
    return mac(secret, info + b"\x01")[:length]
