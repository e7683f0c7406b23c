"""Computes record.json from PROTOCOL.md sections 5 and 6 alone: python3 record.py > record.json

AES comes from PyCryptodome (pip install pycryptodome), the key derivation from schedule.py beside this file.
"""

import json

from Crypto.Cipher import AES

from schedule import NO_CONTEXT, expand_label, mac

TYPES = {"handshake": 1, "control": 2, "data": 3}


def ctr(key, sequence, message):
    counter_block = sequence.to_bytes(8, "big") + bytes(8)
    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=counter_block).encrypt(message)


def seal(secret, sequence, payload, content_type, padding):
    plaintext = payload + bytes([TYPES[content_type]]) + bytes(padding)
    length = len(plaintext).to_bytes(2, "big")
    ciphertext = ctr(expand_label(secret, b"enc", NO_CONTEXT), sequence, plaintext)
    tag = mac(expand_label(secret, b"mac", NO_CONTEXT), sequence.to_bytes(8, "big") + length + ciphertext)
    return length + ciphertext + tag


def ticket(master, epoch, nonce, content):
    head = epoch.to_bytes(8, "big") + nonce
    key = expand_label(master, b"ticket key", head)
    body = head + ctr(expand_label(key, b"enc", NO_CONTEXT), 0, content)
    return body + mac(expand_label(key, b"mac", NO_CONTEXT), body)


def main():
    secret = bytes(range(32))
    contents = [
        ("empty", b"", "data", 0),
        ("one byte", b"x", "handshake", 0),
        ("ends in zeros and padding", b"ab\0\0", "control", 27),
        ("one block", bytes(range(15)), "data", 0),
        ("one block and a byte", bytes(range(16)), "data", 0),
        ("padding alone after the type", b"", "control", 255),
        ("a few blocks", bytes(range(200)), "data", 3),
    ]
    records = [
        {
            "name": name,
            "payload": payload.hex(),
            "type": content_type,
            "padding": padding,
            "record": seal(secret, sequence, payload, content_type, padding).hex(),
        }
        for sequence, (name, payload, content_type, padding) in enumerate(contents)
    ]
    master, nonce, epoch = bytes(range(32, 64)), bytes(range(16)), 40_000
    tickets = [
        {
            "master": master.hex(),
            "epoch": epoch,
            "nonce": nonce.hex(),
            "content": content.hex(),
            "ticket": ticket(master, epoch, nonce, content).hex(),
        }
        for content in (b"", b"content", bytes(range(100)))
    ]
    print(json.dumps({"secret": secret.hex(), "records": records, "tickets": tickets}, indent=2))


if __name__ == "__main__":
    main()
