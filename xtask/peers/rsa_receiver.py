"""Receives one text under RSA: sends its public key, decrypts the answer, and prints it.

rsa_receiver.py (--listen | --connect HOST:PORT) [sha256] [1024] [pkcs1 | one-line | columns-76 | jwk | ssh | der]
"""

import base64
import json
import sys
import textwrap

from Crypto.Cipher import PKCS1_OAEP
from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerSequence

from peer_socket import connection, read_to_end


def shown(public_key, options):
    der = public_key.export_key(format="DER")
    body = base64.b64encode(der).decode()
    label = "PUBLIC KEY"
    if "pkcs1" in options:
        label, body = "RSA PUBLIC KEY", base64.b64encode(DerSequence([public_key.n, public_key.e]).encode()).decode()
    if "columns-76" in options:
        body = "\r\n".join(textwrap.wrap(body, 76))
        return f"-----BEGIN {label}-----\r\n{body}\r\n-----END {label}-----\r\n".encode()
    if "one-line" in options or "pkcs1" in options:
        return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()
    if "jwk" in options:
        return json.dumps({"kty": "RSA", "e": "AQAB", "n": body}).encode()
    if "ssh" in options:
        return public_key.export_key(format="OpenSSH") + b"\n"
    return der if "der" in options else public_key.export_key()


peer, options = connection(sys.argv[1:])
key = RSA.generate(1024 if "1024" in options else 2048)
peer.sendall(shown(key.publickey(), options))
encrypted = read_to_end(peer)
peer.close()
if encrypted:
    hash_algorithm = SHA256 if "sha256" in options else SHA1
    sys.stdout.buffer.write(PKCS1_OAEP.new(key, hashAlgo=hash_algorithm).decrypt(encrypted))
else:
    sys.exit("nothing came")
