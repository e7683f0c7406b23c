"""The tutorial's AES program: sends nonce, tag and ciphertext under a key that both sides have.

eax_sender.py (--listen | --connect HOST:PORT) KEY_FILE [flip OFFSET | keep COUNT | lengths NONCE TAG] < TEXT
"""

import os
import sys

from Crypto.Cipher import AES

from peer_socket import connection

data = sys.stdin.buffer.read()
peer, options = connection(sys.argv[1:])
with open(options[0], "rb") as file:
    key = file.read()
nonce_len, tag_len = map(int, options[2:4]) if options[1:2] == ["lengths"] else (16, 16)
cipher = AES.new(key, AES.MODE_EAX, nonce=os.urandom(nonce_len), mac_len=tag_len)
encrypted_data, tag = cipher.encrypt_and_digest(data)
message = bytearray(cipher.nonce + tag + encrypted_data)
if options[1:2] == ["flip"]:
    message[int(options[2])] ^= 1
if options[1:2] == ["keep"]:
    del message[int(options[2]):]
peer.sendall(message)
peer.close()
