"""Sends one text under RSA: reads the other side's public key, and answers with one ciphertext.

rsa_sender.py (--listen | --connect HOST:PORT) [tampered] [sha256] < TEXT
"""

import sys

from Crypto.Cipher import PKCS1_OAEP
from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA

from peer_socket import connection

data = sys.stdin.buffer.read()
peer, options = connection(sys.argv[1:])
public_key = b""
while b"-----END PUBLIC KEY-----" not in public_key:
    piece = peer.recv(4096)
    if not piece:
        sys.exit("the connection ended inside the public key")
    public_key += piece
hash_algorithm = SHA256 if "sha256" in options else SHA1
encrypted = bytearray(PKCS1_OAEP.new(RSA.import_key(public_key), hashAlgo=hash_algorithm).encrypt(data))
if "tampered" in options:
    encrypted[len(encrypted) // 2] ^= 1
peer.sendall(encrypted)
peer.close()
