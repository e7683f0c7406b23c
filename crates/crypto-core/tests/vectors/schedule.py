"""Computes schedule.json from PROTOCOL.md sections 4 and 7.7 alone: python3 schedule.py > schedule.json

Standard library only, and nothing shared with the Rust code, which has to come to the same bytes.
"""

import hashlib
import hmac
import json

ZEROS = bytes(32)
NO_CONTEXT = b""
EMPTY_HASH = hashlib.sha256(b"").digest()


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def extract(salt, input_key):
    return mac(salt, input_key)


def expand(key, info, length):
    output, block = b"", b""
    while len(output) < length:
        block = mac(key, block + info + bytes([len(output) // 32 + 1]))
        output += block
    return output[:length]


def expand_label(secret, label, context, length=32):
    label = b"sockseal1 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    return expand(secret, info, length)


def derived(secret):
    return expand_label(secret, b"derived", EMPTY_HASH)


def traffic(secret, transcript):
    following = expand_label(secret, b"update", NO_CONTEXT)
    return {
        "secret": secret.hex(),
        "enc": expand_label(secret, b"enc", NO_CONTEXT).hex(),
        "mac": expand_label(secret, b"mac", NO_CONTEXT).hex(),
        "finished": mac(expand_label(secret, b"finished", NO_CONTEXT), transcript).hex(),
        "next": following.hex(),
        "next_but_one": expand_label(following, b"update", NO_CONTEXT).hex(),
    }


def stream(exporter, number):
    secret = expand_label(exporter, b"stream", number.to_bytes(8, "big"))
    return {
        "number": number,
        "secret": secret.hex(),
        "id": expand_label(secret, b"stream id", NO_CONTEXT, 16).hex(),
    }


def schedule(name, psk, rsa):
    x25519, ml_kem = bytes(range(32)), bytes(range(0x80, 0xA0))
    t1, t2, t3 = (hashlib.sha256(text).digest() for text in (b"T1", b"T2", b"T3"))
    hello = b"the hello up to its binder"

    s0 = extract(ZEROS, psk or ZEROS)
    s1 = extract(derived(s0), rsa or ZEROS)
    s2 = extract(derived(s1), x25519 + ml_kem)
    s3 = extract(derived(s2), ZEROS)
    resumption = expand_label(s3, b"res", t3)
    exporter = expand_label(s3, b"exp", t3)
    return {
        "name": name,
        "psk": psk and psk.hex(),
        "rsa": rsa and rsa.hex(),
        "shared": (x25519 + ml_kem).hex(),
        "t1": t1.hex(),
        "t2": t2.hex(),
        "t3": t3.hex(),
        "hello": hello.hex(),
        "psk_binder": mac(expand_label(s0, b"psk binder", EMPTY_HASH), hello).hex(),
        "res_binder": mac(expand_label(s0, b"res binder", EMPTY_HASH), hello).hex(),
        "client_handshake": traffic(expand_label(s2, b"c hs", t1), t2),
        "server_handshake": traffic(expand_label(s2, b"s hs", t1), t2),
        "client_application": traffic(expand_label(s3, b"c ap", t3), t3),
        "server_application": traffic(expand_label(s3, b"s ap", t3), t3),
        "resumption": resumption.hex(),
        "exporter": exporter.hex(),
        "streams": [stream(exporter, number) for number in (0, 1, 2**32)],
        "ticket_nonce": b"ticket nonce".hex(),
        "ticket_secret": expand_label(resumption, b"ticket", b"ticket nonce").hex(),
    }


def main():
    psk, rsa = bytes(range(0x40, 0x60)), bytes(range(0x60, 0x80))
    schedules = [
        schedule("neither", None, None),
        schedule("psk", psk, None),
        schedule("rsa", None, rsa),
        schedule("both", psk, rsa),
    ]
    print(json.dumps(schedules, indent=2))


if __name__ == "__main__":
    main()
