#!/usr/bin/env bash
# PyCryptodome 3.23.0 offers protections for private keys in PKCS#8 that cryptography 50.0.2 (OpenSSL 4.0.3) does not read:
# PBKDF2 with HMAC-SHA-512/256 or any SHA-3, and AES in GCM under whichever derivation. PyCryptodome itself reads all of them.
# The `openssl pkcs8` of OpenSSL 3.0.19 reads the one with
# SHA-512/256 and none of the others.
#
# Seen: each line of EXPECTED. The script fails where that has changed.
set -euo pipefail

EXPECTED='PBKDF2WithHMAC-SHA512AndAES256-CBC: read
scryptAndAES256-CBC: read
PBKDF2WithHMAC-SHA512-256AndAES256-CBC: Unknown key encryption algorithm: 1.2.840.113549.2.13
PBKDF2WithHMAC-SHA3-256AndAES256-CBC: Unknown key encryption algorithm: 2.16.840.1.101.3.4.2.14
PBKDF2WithHMAC-SHA256AndAES128-GCM: Unknown key encryption algorithm: 2.16.840.1.101.3.4.1.6
PBKDF2WithHMAC-SHA256AndAES256-GCM: Unknown key encryption algorithm: 2.16.840.1.101.3.4.1.46
scryptAndAES256-GCM: Unknown key encryption algorithm: 2.16.840.1.101.3.4.1.46'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: pycryptodome==3.23.0 cryptography==50.0.2

cat > "$folder/protections.py" <<'END'
from Crypto.PublicKey import RSA
from cryptography.hazmat.primitives.serialization import load_pem_private_key

key = RSA.generate(2048)
for protection in (
    "PBKDF2WithHMAC-SHA512AndAES256-CBC",
    "scryptAndAES256-CBC",
    "PBKDF2WithHMAC-SHA512-256AndAES256-CBC",
    "PBKDF2WithHMAC-SHA3-256AndAES256-CBC",
    "PBKDF2WithHMAC-SHA256AndAES128-GCM",
    "PBKDF2WithHMAC-SHA256AndAES256-GCM",
    "scryptAndAES256-GCM",
):
    pem = key.export_key(passphrase="word", pkcs=8, protection=protection)
    assert RSA.import_key(pem, "word") == key
    try:
        load_pem_private_key(pem, b"word")
        print(f"{protection}: read")
    except ValueError as error:
        print(f"{protection}: {error}")
END
seen=$("$folder/venv/bin/python" "$folder/protections.py")
echo "$seen"
[ "$seen" = "$EXPECTED" ] || { echo "this has changed" >&2; exit 1; }
