"""Receives one text under RSA: sends its public key, opens what comes back, prints it.

rsa_receiver.py (--listen | --connect HOST:PORT)
"""

import sys

from Crypto.Cipher import PKCS1_OAEP
from Crypto.PublicKey import RSA

from peer_socket import connection, read_to_end

key = RSA.generate(2048)
peer, _ = connection(sys.argv[1:])
peer.sendall(key.publickey().export_key())
encrypted = read_to_end(peer)
peer.close()
sys.stdout.buffer.write(PKCS1_OAEP.new(key).decrypt(encrypted))
