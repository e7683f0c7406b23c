"""Makes an RSA key in the form of another program: rsa_key.py BITS public-der|pkcs1|pkcs8"""

import sys

from Crypto.PublicKey import RSA

key = RSA.generate(int(sys.argv[1]))
form = sys.argv[2]
if form == "public-der":
    sys.stdout.buffer.write(key.publickey().export_key(format="DER"))
else:
    sys.stdout.buffer.write(key.export_key(pkcs={"pkcs1": 1, "pkcs8": 8}[form]) + b"\n")
