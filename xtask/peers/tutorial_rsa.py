"""The tutorial's RSA program: listens, sends a public key, and then sends a text encrypted to that same key.

tutorial_rsa.py PRIVATE_KEY_FILE < TEXT
"""

import os
import sys

from Crypto.Cipher import PKCS1_OAEP
from Crypto.PublicKey import RSA

from peer_socket import connection

data = sys.stdin.buffer.read()
key = RSA.generate(2048)
with os.fdopen(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
    file.write(key.export_key())
public_key = key.publickey().export_key()

peer, _ = connection(["--listen"])
peer.sendall(public_key)
peer.sendall(PKCS1_OAEP.new(RSA.import_key(public_key)).encrypt(data))
peer.close()
