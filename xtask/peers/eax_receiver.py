"""Receives nonce, tag and ciphertext under a key that both sides have, and prints the text.

eax_receiver.py (--listen | --connect HOST:PORT) KEY_FILE [lengths NONCE TAG]
"""

import sys

from Crypto.Cipher import AES

from peer_socket import connection, read_to_end

peer, options = connection(sys.argv[1:])
with open(options[0], "rb") as file:
    key = file.read()
message = read_to_end(peer)
peer.close()
nonce_len, tag_len = map(int, options[2:4]) if options[1:2] == ["lengths"] else (16, 16)
nonce, tag, encrypted_data = message[:nonce_len], message[nonce_len:][:tag_len], message[nonce_len + tag_len :]
cipher = AES.new(key, AES.MODE_EAX, nonce=nonce, mac_len=tag_len)
sys.stdout.buffer.write(cipher.decrypt_and_verify(encrypted_data, tag))
