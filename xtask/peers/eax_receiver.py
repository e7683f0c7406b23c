"""Receives nonce, tag and ciphertext under a key that both sides have, and prints the text.

eax_receiver.py (--listen | --connect HOST:PORT) KEY_FILE
"""

import sys

from Crypto.Cipher import AES

from peer_socket import connection, read_to_end

peer, options = connection(sys.argv[1:])
with open(options[0], "rb") as file:
    key = file.read()
message = read_to_end(peer)
peer.close()
nonce, tag, encrypted_data = message[:16], message[16:32], message[32:]
sys.stdout.buffer.write(AES.new(key, AES.MODE_EAX, nonce=nonce).decrypt_and_verify(encrypted_data, tag))
