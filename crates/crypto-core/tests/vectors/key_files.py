"""Makes key_files.json: one key in the many forms that other programs write: python3 key_files.py > key_files.json

Needs OpenSSL 3.0 with its legacy provider, ssh-keygen, puttygen (Debian's putty-tools) and PyCryptodome 3.23. The key is
../fixtures/test-only-rsa-pkcs8.pem, which everybody knows. `expected` is what is said of the file, or null where it is read.
"""

import base64
import json
import pathlib
import subprocess
import tempfile

from Crypto.PublicKey import RSA

PASSPHRASE = "test only"
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
KEY = FIXTURES / "test-only-rsa-pkcs8.pem"
FILES = []


def run(*command, stdin=None):
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout


def openssl(*arguments, stdin=None):
    legacy = ("-provider", "legacy", "-provider", "default")
    return run("openssl", arguments[0], *legacy, *arguments[1:], stdin=stdin)


def add(name, content, expected=None):
    try:
        file = {"text": content.decode()}
    except UnicodeDecodeError:
        file = {"bytes": content.hex()}
    FILES.append({"name": name, **file, "expected": expected})


def pkcs8(expected, *options):
    out = openssl("pkcs8", "-topk8", "-in", str(KEY), "-passout", f"pass:{PASSPHRASE}", *options)
    add(f"openssl pkcs8 -topk8 {' '.join(options)}", out, expected and f"the key is encrypted with {expected}, which is not read")


def encrypted_pkcs8():
    for function in ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512"):
        pkcs8(None, "-v2", "aes-256-cbc", "-v2prf", f"hmacWith{function}", "-iter", "1000")
    for function in ("SHA512-224", "SHA512-256"):
        named = f"PBKDF2 with HMAC-{function.replace('SHA512-', 'SHA-512/')}"
        pkcs8(named, "-v2", "aes-256-cbc", "-v2prf", f"hmacWith{function}")
    for cipher in ("aes-128-cbc", "aes-192-cbc", "des3"):
        pkcs8(None, "-v2", cipher, "-iter", "1000")
    for cipher, named in (
        ("des", "DES-CBC"),
        ("rc2-cbc", "RC2-CBC"),
        ("bf-cbc", "Blowfish-CBC"),
        ("camellia-256-cbc", "Camellia-256-CBC"),
        ("aria-256-cbc", "ARIA-256-CBC"),
        ("sm4-cbc", "SM4-CBC"),
        ("aes-256-ofb", "AES-256-OFB"),
    ):
        pkcs8(named, "-v2", cipher)
    for scheme, named in (
        ("PBE-MD5-DES", "PBES1 (MD5 and DES)"),
        ("PBE-MD5-RC2-64", "PBES1 (MD5 and RC2)"),
        ("PBE-SHA1-DES", "PBES1 (SHA-1 and DES)"),
        ("PBE-SHA1-RC2-64", "PBES1 (SHA-1 and RC2)"),
        ("PBE-SHA1-RC4-128", "PKCS#12's PBE (SHA-1 and RC4)"),
        ("PBE-SHA1-RC4-40", "PKCS#12's PBE (SHA-1 and 40-bit RC4)"),
        ("PBE-SHA1-3DES", "PKCS#12's PBE (SHA-1 and triple DES)"),
        ("PBE-SHA1-2DES", "PKCS#12's PBE (SHA-1 and two-key triple DES)"),
        ("PBE-SHA1-RC2-128", "PKCS#12's PBE (SHA-1 and RC2)"),
        ("PBE-SHA1-RC2-40", "PKCS#12's PBE (SHA-1 and 40-bit RC2)"),
    ):
        pkcs8(named, "-v1", scheme)


OLD = "it is an RSA key with a passphrase in the encryption of old (DEK-Info), which is not read"


def encrypted_pkcs1():
    for cipher in ("des", "des3", "aes128", "aes256", "camellia256"):
        options = ("-traditional", f"-{cipher}", "-passout", f"pass:{PASSPHRASE}")
        add(f"openssl rsa -traditional -{cipher}", openssl("rsa", *options, "-in", str(KEY)), OLD)


def ssh_keygen(folder):
    for form, expected in (("PEM", OLD), ("PKCS8", None), ("RFC4716", "OpenSSH keys with a passphrase are not read")):
        path = folder / f"ssh-{form}"
        path.write_bytes(KEY.read_bytes())
        path.chmod(0o600)
        run("ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-m", form, "-f", str(path))
        add(f"ssh-keygen -p -m {form}", path.read_bytes(), expected)
    public = run("ssh-keygen", "-i", "-m", "PKCS8", "-f", str(FIXTURES / "test-only-rsa-public.pem"))
    add("ssh-keygen -i", public, "it is an SSH public key, not a key in PEM")
    rfc4716 = folder / "public"
    rfc4716.write_bytes(public)
    add(
        "ssh-keygen -e",
        run("ssh-keygen", "-e", "-m", "RFC4716", "-f", str(rfc4716)),
        "it is an SSH public key, not a key in PEM",
    )
    for kind, named in (("ecdsa", "elliptic curves"), ("ed25519", "Ed25519")):
        for passphrase in ("", PASSPHRASE):
            path = folder / f"{kind}-{len(passphrase)}"
            run("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test only", "-f", str(path))
            add(f"ssh-keygen -t {kind} {'with' if passphrase else 'without'} a passphrase", path.read_bytes(), f"not an RSA key but one for {named}")


def putty(folder):
    plain, word, out = folder / "plain", folder / "word", folder / "out"
    plain.write_bytes((FIXTURES / "test-only-rsa-openssh.pem").read_bytes())
    plain.chmod(0o600)
    word.write_text(PASSPHRASE)
    for options in ((), ("--new-passphrase", str(word)), ("--ppk-param", "version=2", "--new-passphrase", str(word))):
        run("puttygen", str(plain), *options, "-O", "private", "-o", str(out))
        shown = " ".join(options).replace(str(word), "FILE")
        add(f"puttygen {shown}".strip(), out.read_bytes(), "it is a PuTTY key (.ppk), which is not read")
    run("puttygen", str(plain), "-O", "private-sshcom", "-o", str(out))
    add("puttygen -O private-sshcom", out.read_bytes(), "it is a private key of SSH.com's programs, which is not read")


def pycryptodome():
    key = RSA.import_key(KEY.read_bytes())
    add("PyCryptodome, PKCS#1", key.export_key())
    add("PyCryptodome, PKCS#1 with a passphrase", key.export_key(passphrase=PASSPHRASE), OLD)
    # Without a `protection`, PyCryptodome encrypts PKCS#8 by its PEM headers, too.
    add("PyCryptodome, PKCS#8 with a passphrase", key.export_key(passphrase=PASSPHRASE, pkcs=8), OLD)
    few = {"iteration_count": 1000}
    for protection, expected in (
        ("PBKDF2WithHMAC-SHA512AndAES256-CBC", None),
        ("PBKDF2WithHMAC-SHA256AndAES128-GCM", None),
        ("PBKDF2WithHMAC-SHA512AndAES256-GCM", None),
        ("scryptAndAES256-CBC", None),
        ("scryptAndAES128-GCM", None),
        ("PBKDF2WithHMAC-SHA256AndAES192-GCM", "AES-192-GCM"),
        ("PBKDF2WithHMAC-SHA512-256AndAES256-CBC", "PBKDF2 with HMAC-SHA-512/256"),
        ("PBKDF2WithHMAC-SHA3-224AndAES256-CBC", "PBKDF2 with HMAC-SHA3-224"),
        ("PBKDF2WithHMAC-SHA3-256AndAES256-CBC", "PBKDF2 with HMAC-SHA3-256"),
        ("PBKDF2WithHMAC-SHA3-384AndDES-EDE3-CBC", "PBKDF2 with HMAC-SHA3-384"),
        ("PBKDF2WithHMAC-SHA3-512AndAES256-GCM", "PBKDF2 with HMAC-SHA3-512"),
    ):
        parameters = {} if protection.startswith("scrypt") else few
        out = key.export_key(passphrase=PASSPHRASE, pkcs=8, protection=protection, prot_params=parameters)
        add(f"PyCryptodome, {protection}", out, expected and f"the key is encrypted with {expected}, which is not read")


def other_forms(folder):
    for algorithm, options, expected in (
        ("RSA-PSS", ("rsa_keygen_bits:2048",), PSS),
        ("RSA-PSS", ("rsa_keygen_bits:2048", "rsa_pss_keygen_md:sha256", "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32"), PSS),
        ("RSA", ("rsa_keygen_bits:2048", "rsa_keygen_primes:3"), "it is an RSA key of more than two primes, which is not read"),
        ("EC", ("ec_paramgen_curve:P-256",), "not an RSA key but one for elliptic curves"),
        ("ED25519", (), "not an RSA key but one for Ed25519"),
        ("X25519", (), "not an RSA key but one for X25519"),
    ):
        pkeyopts = [part for option in options for part in ("-pkeyopt", option)]
        out = openssl("genpkey", "-algorithm", algorithm, *pkeyopts)
        add(f"openssl genpkey -algorithm {algorithm} {' '.join(options)}".strip(), out, expected)
        if algorithm == "RSA-PSS":
            add("openssl rsa -traditional, of an RSA-PSS key", openssl("rsa", "-traditional", stdin=out), PSS)
        if algorithm == "EC":
            add("openssl ec", openssl("ecparam", "-name", "prime256v1") + openssl("ec", stdin=out), expected)
    der = ("-outform", "DER")
    add("openssl pkey -outform DER", openssl("pkey", "-in", str(KEY), *der), "it is a key in DER, not in PEM")
    add("openssl rsa -traditional -outform DER", openssl("rsa", "-traditional", "-in", str(KEY), *der), "it is a key in DER, not in PEM")
    add("openssl pkey -pubout -outform DER", openssl("pkey", "-in", str(KEY), "-pubout", *der), "it is a public key in DER, not in PEM")
    encrypted = openssl("pkcs8", "-topk8", "-in", str(KEY), "-passout", f"pass:{PASSPHRASE}", *der)
    add("openssl pkcs8 -topk8 -outform DER", encrypted, "it is an encrypted key in DER, not in PEM")
    subject = ("-subj", "/CN=test only", "-days", "1")
    request = openssl("req", "-new", "-key", str(KEY), *subject[:2])
    certificate = openssl("req", "-x509", "-new", "-key", str(KEY), *subject)
    no_key = "it is a certificate or a request for one, not a key"
    add("openssl req", request, no_key)
    add("openssl req -x509", certificate, no_key)
    add("openssl x509 -outform DER", openssl("x509", *der, stdin=certificate), no_key)
    add("openssl req -x509, and the key behind it", certificate + KEY.read_bytes())
    add("openssl x509 -text, and the key behind it", openssl("x509", "-text", stdin=certificate) + KEY.read_bytes())
    crt = folder / "crt.pem"
    crt.write_bytes(certificate)
    store = openssl("pkcs12", "-export", "-inkey", str(KEY), "-in", str(crt), "-passout", f"pass:{PASSPHRASE}")
    add("openssl pkcs12 -export", store, "it is a PKCS#12 file, in which a key may be")
    words = ("-passin", f"pass:{PASSPHRASE}", "-passout", f"pass:{PASSPHRASE}")
    add("openssl pkcs12, with its bag attributes", openssl("pkcs12", *words, stdin=store))
    add("openssl pkey -pubout", openssl("pkey", "-in", str(KEY), "-pubout"), "it is a public key, and the private one is needed")
    add("openssl dhparam", run("openssl", "dhparam", "-dsaparam", "1024"), "it is PEM, but of something else than a key")
    body = openssl("pkey", "-in", str(KEY), *der)
    add("base64", base64.encodebytes(body), "it is a key without its BEGIN and END lines")
    add("JSON's line ends", KEY.read_text().replace("\n", "\\n").encode(), "its lines end in the two characters \\n instead of a line end")
    add("UTF-16", KEY.read_text().encode("utf-16"), "it is text in UTF-16, not in UTF-8")
    add("text in Latin-1 before it", "Schlüssel für den Rechner\n".encode("latin-1") + KEY.read_bytes())
    add("age-keygen", AGE, "it is an age key, not an RSA key")
    add("a JSON Web Key", json.dumps({"kty": "RSA", "n": "AQAB", "e": "AQAB"}).encode(), "it is a JSON Web Key, not a key in PEM")
    add("an OpenPGP key", PGP, "it is an OpenPGP key, not a key in PEM")
    add(".NET's XML", b"<RSAKeyValue><Modulus>AQAB</Modulus></RSAKeyValue>", "it is an RSA key in XML, not in PEM")
    add("a pre-shared key", b"# for the laptop\nsockseal-psk-v1 laptop AAAA AAAA\n", "it is a pre-shared key, not an RSA key")
    add("a fingerprint", b"SHA256:2m9cJc0DhoMXB1zTrsf2HSbCzIAe7DJ4zfXrgq3dgZs\n", "it is a fingerprint, not a key")
    add("nothing", b"", "the file is empty")


PSS = "it is an RSA-PSS key: one that is marked for PSS signatures alone, which is not read"
AGE = b"# created: 2026-01-01T00:00:00Z\n# public key: age1test\nAGE-SECRET-KEY-1TESTONLY\n"
PGP = b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n=AAAA\n-----END PGP PRIVATE KEY BLOCK-----\n"


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        encrypted_pkcs8()
        encrypted_pkcs1()
        ssh_keygen(folder)
        putty(folder)
        pycryptodome()
        other_forms(folder)
    print(json.dumps({"passphrase": PASSPHRASE, "files": FILES}, indent=2))


if __name__ == "__main__":
    main()
