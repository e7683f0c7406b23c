"""Makes classic.json with PyCryptodome, the way the two tutorials use it: python3 classic.py > classic.json

Needs PyCryptodome (pip install pycryptodome). OAEP is randomized: every run makes other ciphertexts.
"""

import json

from Crypto.Cipher import AES, PKCS1_OAEP
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


def main():
    print(json.dumps({"oaep": oaep(), "eax": [eax(16), eax(24), eax(32)]}, indent=2))


if __name__ == "__main__":
    main()
