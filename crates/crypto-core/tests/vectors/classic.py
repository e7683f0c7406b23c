"""Makes classic.json with PyCryptodome, the way the two tutorials use it: python3 classic.py > classic.json

Needs PyCryptodome (pip install pycryptodome). OAEP is randomized: every run makes other ciphertexts.
"""

import json

from Crypto.Cipher import AES, PKCS1_OAEP
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA

MESSAGES = [b"", b"a", b"Hello, receiver!", "Zürich, Ελλάδα, 東京".encode(), bytes(range(16)), bytes(214)]


def oaep():
    key = RSA.generate(2048)
    cipher = PKCS1_OAEP.new(key.publickey())
    return {
        "private_key": key.export_key().decode(),
        "public_key": key.publickey().export_key().decode(),
        "messages": [
            {"message": message.hex(), "ciphertext": cipher.encrypt(message).hex()} for message in MESSAGES
        ],
    }


def eax(key_len):
    key = bytes(range(key_len))
    sealed = []
    for number, message in enumerate(MESSAGES + [bytes(range(256)) * 4]):
        nonce = bytes([number]) * 16
        cipher = AES.new(key, AES.MODE_EAX, nonce=nonce)
        ciphertext, tag = cipher.encrypt_and_digest(message)
        sealed.append({"message": message.hex(), "nonce": nonce.hex(), "sealed": (nonce + tag + ciphertext).hex()})
    return {"key": key.hex(), "messages": sealed}


def oaep_sha256(public_key):
    cipher = PKCS1_OAEP.new(RSA.import_key(public_key), hashAlgo=SHA256)
    messages = [message for message in MESSAGES if len(message) <= 190] + [bytes(190)]
    return [{"message": message.hex(), "ciphertext": cipher.encrypt(message).hex()} for message in messages]


def oaep_1024():
    """A key as the tutorials of old have it, which is only received with."""
    key = RSA.generate(1024)
    ciphertext = PKCS1_OAEP.new(key.publickey()).encrypt(b"Hello, receiver!")
    return {
        "private_key": key.export_key().decode(),
        "public_key": key.publickey().export_key().decode(),
        "message": b"Hello, receiver!".hex(),
        "ciphertext": ciphertext.hex(),
    }


def eax_lengths():
    sealed = []
    for key_len, nonce_len, tag_len in ((16, 1, 16), (16, 8, 2), (24, 12, 8), (32, 16, 4), (32, 17, 15), (32, 255, 16)):
        key, nonce, message = bytes(range(key_len)), bytes(range(nonce_len)), b"Hello, receiver!"
        cipher = AES.new(key, AES.MODE_EAX, nonce=nonce, mac_len=tag_len)
        ciphertext, tag = cipher.encrypt_and_digest(message)
        sealed.append(
            {
                "key": key.hex(),
                "nonce": nonce.hex(),
                "tag_len": tag_len,
                "message": message.hex(),
                "sealed": (nonce + tag + ciphertext).hex(),
            }
        )
    return sealed


def main():
    first = oaep()
    vectors = {"oaep": first, "eax": [eax(16), eax(24), eax(32)]}
    vectors |= {"oaep_sha256": oaep_sha256(first["public_key"]), "oaep_1024": oaep_1024(), "eax_lengths": eax_lengths()}
    print(json.dumps(vectors, indent=2))


if __name__ == "__main__":
    main()
