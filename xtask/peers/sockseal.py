"""A second implementation of version 1 of the Sockseal protocol, written from PROTOCOL.md alone, whose sections are named
below.

This peer is for the scenarios and not for real use: no operation takes constant time, and the server serves one
connection after the other, tunnels apart. `--fault` makes the peer break the protocol at one point, which only a peer with valid keys
can do.

sockseal.py client HOST:PORT send|pipe|ping [options]    sends its standard input
sockseal.py client HOST:PORT put PATH... NAME:[path]     sends files to a share, or `-` for its standard input
sockseal.py client HOST:PORT get NAME:path... DIR        fetches files from a share
sockseal.py client HOST:PORT ls [NAME:path]              lists a share, or the shares
sockseal.py client HOST:PORT diagnose client             asks the server about itself, or: diagnose listen ADDRESS:PORT
sockseal.py client HOST:PORT tunnel HOST:PORT [options]  a resumable stream to a port, over standard input and output
sockseal.py client HOST:PORT join [options]              joins with the invite whose line is on standard input
sockseal.py server [options]                             writes messages and a pipe's data to standard output
sockseal.py server --tunnels [options]                   connects to ports, and keeps streams whose channels are lost
"""

import argparse
import base64
import copy
import hmac
import itertools
import json
import os
import socket
import sys
import threading
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import sockseal_cuts
import sockseal_diagnosis
import sockseal_files
import sockseal_invite
import sockseal_relay
import sockseal_resumable
import sockseal_resumable_client
import sockseal_resumable_server
from sockseal_encoding import (
    Corrupted, Distrusted, Failure, Reader, Refused, TimedOut, Truncated, blob, require, u8, u16, u32, u64,
)
from sockseal_keys import expand_label, mac, sha256

# Section 2: primitives.

SUITE = 1
ZEROS = bytes(32)
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def aes_ctr(key, first_block, data):
    cipher = Cipher(algorithms.AES(key), modes.CTR(first_block)).encryptor()
    return cipher.update(data) + cipher.finalize()


def raw(public):
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def spki_of(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_spki(spki):
    """Parses and checks a public key, which must have the one encoding that its id is computed from."""
    try:
        key = serialization.load_der_public_key(spki)
    except ValueError as error:
        raise Failure("a key that is none") from error
    require(isinstance(key, rsa.RSAPublicKey), "a key that is not RSA")
    require(2048 <= key.key_size <= 8192 and key.public_numbers().e == 65537, "an RSA key out of bounds")
    require(spki_of(key) == spki, "a key in another encoding")
    return key


def read_private_key(path):
    with open(path, "rb") as file:
        return serialization.load_pem_private_key(file.read(), None)


def shown(key_id):
    return "SHA256:" + base64.b64encode(key_id).decode().rstrip("=")


def unpadded_base64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


# Section 3: frames.

KEY_REQUEST, KEY_OFFER, CLIENT_HELLO, SERVER_HELLO, ABORT = range(1, 6)
ABORT_CODES = ["busy", "version", "suite", "unknown psk", "psk only"]
UNKNOWN_PSK, PSK_ONLY = 3, 4
RSA, PSK, RESUMPTION = range(3)
MODES = ["rsa", "psk", "resumption"]


class Wire:
    """A socket that is read by exact lengths. It keeps the last record that arrived, which one fault sends back."""

    def __init__(self, stream):
        self.stream = stream
        self.last_record = b""
        self.cut = None
        self.is_patient = False
        stream.settimeout(30)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, length):
        pieces = []
        while length > 0:
            passing = self.cut.bounded("in", length) if self.cut else length
            pieces.append(self.receive(passing) if passing else sockseal_cuts.cut_off())
            length -= len(pieces[-1])
        return b"".join(pieces)

    def receive(self, length):
        """Reads exactly `length` bytes."""
        pieces = []
        while length > 0:
            try:
                piece = self.stream.recv(length)
            except TimeoutError as error:
                raise TimedOut("the peer is silent") from error
            except OSError:
                piece = b""
            if not piece:
                raise Truncated("the connection ended in the middle")
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def write(self, data):
        passing = self.cut.bounded("out", len(data)) if self.cut else len(data)
        rest = memoryview(data)[:passing]
        while rest:
            try:
                rest = rest[self.stream.send(rest):]
            except TimeoutError as error:
                # Whoever has a plain connection that takes nothing need not read.
                if not self.is_patient:
                    raise TimedOut("the peer reads nothing") from error
            except OSError as error:
                raise Truncated("the connection ended while it was written to") from error
        if passing < len(data):
            sockseal_cuts.cut_off()

    def wake(self):
        """Ends the wait of whoever reads, which the other side does not see."""
        try:
            self.stream.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def let_go(self):
        """Closes the connection, in the way in which it was cut if it was. One that is left stays open, and somebody has to keep it."""
        how = self.cut.how if self.cut else "end"
        if how != "leave":
            sockseal_cuts.let_go(self.stream, how)

    def read_frame(self):
        """Reads a frame, and returns its kind and all its bytes."""
        header = self.read(8)
        if header[:3] == b"SKS" and header[3] != 1:
            raise Refused("version")
        length = int.from_bytes(header[6:], "big")
        require(header[:3] == b"SKS" and header[5] == 0 and length <= 8192, "not a frame")
        require(KEY_REQUEST <= header[4] <= ABORT, "a frame of no kind")
        return header[4], header + self.read(length)

    def end(self):
        """Ends the connection after both sides' Close, and checks that no bytes follow."""
        try:
            self.stream.shutdown(socket.SHUT_WR)
            require(not self.stream.recv(1), "something behind Close")
        except OSError:
            pass


def frame(kind, body=b""):
    return b"SKS\x01" + u8(kind) + b"\0" + u16(len(body)) + body


# Section 4: key schedule.


def extract(salt, secret):
    return mac(salt, secret)


def derive(secret, label, transcript=b""):
    return expand_label(secret, label, sha256(transcript))


def binder_key(mode, secret):
    return derive(extract(ZEROS, secret), {PSK: "psk binder", RESUMPTION: "res binder"}[mode])


class Schedule:
    """The secrets of one handshake. The transcript grows with each message."""

    def __init__(self, shared, rsa_secret, exchange, hellos):
        s0 = extract(ZEROS, shared or ZEROS)
        s1 = extract(derive(s0, "derived"), rsa_secret or ZEROS)
        s2 = extract(derive(s1, "derived"), exchange)
        self.s3 = extract(derive(s2, "derived"), ZEROS)
        self.transcript = hellos
        self.client = derive(s2, "c hs", hellos)
        self.server = derive(s2, "s hs", hellos)

    def finished(self, sender):
        return mac(expand_label(sender, "finished", b""), sha256(self.transcript))

    def signed(self, key_id):
        """Returns the bytes that a client signs. The transcript must end with the server's Finished."""
        return b"sockseal v1 client auth\0" + sha256(self.transcript) + key_id

    def traffic(self):
        """Returns the first traffic secrets of client and server, and the resumption secret. The transcript must end with the
        client's Finished."""
        return [derive(self.s3, label, self.transcript) for label in ("c ap", "s ap", "res")]

    def exporter(self):
        """Returns T3 and the exporter secret, likewise."""
        return sha256(self.transcript), derive(self.s3, "exp", self.transcript)


# Section 6: records.

HANDSHAKE, CONTROL, DATA = 1, 2, 3
PAYLOAD, CIPHERTEXT = 16384, 16640


class Direction:
    """The secret of one direction, and the number of its next record."""

    def __init__(self, secret):
        self.secret = secret
        self.sequence = 0
        self.encryption_key = expand_label(secret, "enc", b"")
        self.mac_key = expand_label(secret, "mac", b"")

    def crypt(self, text):
        return aes_ctr(self.encryption_key, u64(self.sequence) + bytes(8), text)

    def tag(self, length, ciphertext):
        return mac(self.mac_key, u64(self.sequence) + length + ciphertext)

    def seal_plaintext(self, plaintext):
        ciphertext = self.crypt(plaintext)
        length = u16(len(ciphertext))
        record = length + ciphertext + self.tag(length, ciphertext)
        self.sequence += 1
        return record

    def seal(self, kind, payload, paddings=itertools.repeat(0)):
        plaintext = payload + u8(kind)
        return self.seal_plaintext(plaintext + bytes(min(next(paddings), CIPHERTEXT - len(plaintext))))

    def open(self, wire):
        """Reads the next record, checks its tag, and returns its type and payload."""
        length = wire.read(2)
        if not 1 <= int.from_bytes(length, "big") <= CIPHERTEXT:
            raise Corrupted("a record of a wrong length")
        ciphertext = wire.read(int.from_bytes(length, "big"))
        tag = wire.read(32)
        if not hmac.compare_digest(self.tag(length, ciphertext), tag):
            raise Corrupted("a record with a wrong tag")
        wire.last_record = length + ciphertext + tag
        plaintext = self.crypt(ciphertext).rstrip(b"\0")
        self.sequence += 1
        require(plaintext and plaintext[-1] in (HANDSHAKE, CONTROL, DATA), "a record without a type")
        require(len(plaintext) - 1 <= PAYLOAD, "a record with too much in it")
        return plaintext[-1], plaintext[:-1]

    def updated(self):
        return Direction(expand_label(self.secret, "update", b""))


def every_padding():
    """Returns lengths of padding: 0 to 255 bytes, then as many as fit, and again from 0."""
    return itertools.cycle([*range(256), CIPHERTEXT])


# Sections 3.1, 3.2 and 5: the handshake.

SERVER_READY, FINISHED, CLIENT_AUTH, ANONYMOUS, WELCOME, DENIED, INVITE, JOINED = range(8)
REQUIRED, OPTIONAL, SETTLED = range(3)
DENIED_CODES = ["client key required", "not allowed"]


class Side:
    """The code that client and server share in a handshake: the wire, its faults, and encrypted messages."""

    def __init__(self, wire, options):
        self.wire = wire
        self.fault = options.fault
        self.paddings = every_padding() if options.every_padding else itertools.repeat(0)

    def bend(self, fault, value):
        """Returns the value, with one bit of its last byte inverted where `fault` was chosen."""
        return value if self.fault != fault else value[:-1] + u8(value[-1] ^ 1)

    def share(self, public):
        """Returns the public value, or one with which every exchange gives zero where that fault was chosen."""
        return ZEROS if self.fault == "zero-share" else raw(public)

    def send(self, direction, number, fields=b"", keep=True):
        message = u32(number) + fields
        if keep:
            self.schedule.transcript += message
        self.wire.write(direction.seal(HANDSHAKE, message, self.paddings))

    def receive(self, direction, *numbers):
        """Reads the next handshake message, which must be one of `numbers`. The caller adds it to the transcript."""
        kind, message = direction.open(self.wire)
        require(kind == HANDSHAKE, "a record that is no handshake")
        reader = Reader(message)
        # Messages 6 and 7 are younger than the others: there are peers that do not know them.
        number = reader.choice(6 if self.fault == "no-invites" else 8)
        require(number in numbers, f"handshake message {number} out of order")
        return number, reader, message

    def receive_finished(self, direction, expected):
        _, reader, message = self.receive(direction, FINISHED)
        require(hmac.compare_digest(reader.array(32), expected), "a wrong Finished")
        reader.end()
        self.schedule.transcript += message

    def exchange(self, x25519_private, x25519_public, kem_secret):
        try:
            return x25519_private.exchange(x25519.X25519PublicKey.from_public_bytes(x25519_public)) + kem_secret
        except ValueError as error:
            raise Failure("an X25519 result of zeros") from error


class ClientSide(Side):
    """The client's side. `options` contain what it has: the server's key, a shared key, a ticket, and its own key."""

    def __init__(self, wire, options):
        super().__init__(wire, options)
        self.options = options
        self.spki = options.known_spki
        self.mode = PSK if options.psk else RESUMPTION if options.ticket else RSA

    def handshake(self):
        """Runs the handshake up to the client's own Finished, after which records may follow at once."""
        hello = None
        for _ in range(3):
            if self.mode == RSA and self.spki is None:
                hello = None
                self.wire.write(frame(KEY_REQUEST))
            else:
                hello = self.hello()
                self.wire.write(hello)
            kind, answer = self.wire.read_frame()
            if kind == SERVER_HELLO and hello is not None:
                break
            self.handle_refusal(kind, Reader(answer[8:]))
        else:
            raise Failure("one KeyOffer too many")
        self.handle_server_hello(hello, answer)
        self.authenticate()

    def hello(self):
        """Builds a ClientHello with fresh values (3.1)."""
        options = self.options
        self.x25519 = x25519.X25519PrivateKey.generate()
        self.kem = mlkem.MLKEM768PrivateKey.generate()
        encapsulation_key = raw(self.kem.public_key())
        if self.fault == "modulus":
            # The first coefficient has 12 bits. It is 4095 now, and valid ones are below 3329.
            encapsulation_key = b"\xff\xff" + encapsulation_key[2:]
        self.shared = self.rsa_secret = None
        if self.mode == RSA:
            server_id = sha256(self.spki)
            self.rsa_secret = os.urandom(31 if self.fault == "short-secret" else 32)
            sealed = self.bend("sealed", read_spki(self.spki).encrypt(self.rsa_secret, OAEP))
            auth = u32(RSA) + blob(sealed)
        elif self.mode == PSK:
            name, server_id, self.shared = options.psk
            auth = u32(PSK) + blob(name.encode())
        else:
            server_id, self.shared, ticket = options.ticket
            auth = u32(RESUMPTION) + blob(self.bend("ticket", ticket))
        if self.fault == "server-id":
            server_id, self.fault = self.bend("server-id", server_id), None
        body = os.urandom(32)
        suites = [7] if self.fault == "suite" else [0x1301, SUITE]
        if self.options.asks_reason:
            suites.append(sockseal_diagnosis.ASKS_REASON)
        body += u64(len(suites)) + b"".join(map(u16, suites))
        body += self.share(self.x25519.public_key()) + encapsulation_key + server_id + auth
        if self.mode == RSA:
            return frame(CLIENT_HELLO, body)
        # The length in the header includes the binder, which does not cover itself.
        hello = frame(CLIENT_HELLO, body + ZEROS)[:-32]
        return hello + self.bend("binder", mac(binder_key(self.mode, self.shared), hello))

    def handle_refusal(self, kind, reader):
        if kind == ABORT:
            code = reader.choice(len(ABORT_CODES))
            reader.end()
            raise Refused(f"abort: {ABORT_CODES[code]}")
        require(kind == KEY_OFFER, "a frame that no server sends now")
        spki = reader.blob()
        reader.end()
        read_spki(spki)
        print(f"offered     {shown(sha256(spki))}", file=sys.stderr, flush=True)
        if self.mode == PSK:
            raise Distrusted("a KeyOffer in answer to a pre-shared key")
        if self.options.server_key not in (None, shown(sha256(spki))):
            raise Distrusted(f"the server has the key {shown(sha256(spki))}")
        self.mode, self.spki = RSA, spki

    def handle_server_hello(self, hello, answer):
        reader = Reader(answer[8:])
        reader.array(32)
        suite, share, ciphertext = reader.number(2), reader.array(32), reader.array(1088)
        mode = reader.choice(len(MODES))
        reader.end()
        require(suite == SUITE and mode == self.mode, "a suite or mode that was not asked for")
        exchange = self.exchange(self.x25519, share, self.kem.decapsulate(ciphertext))
        self.schedule = Schedule(self.shared, self.rsa_secret, exchange, hello + answer)

    def authenticate(self):
        """Runs both encrypted flights up to the client's Finished (section 5)."""
        schedule = self.schedule
        incoming, outgoing = Direction(schedule.server), Direction(schedule.client)
        _, reader, message = self.receive(incoming, SERVER_READY)
        client_auth = reader.choice(3)
        self.idle_timeout = reader.number(4)
        reader.end()
        schedule.transcript += message
        self.receive_finished(incoming, schedule.finished(schedule.server))
        require((client_auth == SETTLED) == (self.mode != RSA), "client_auth does not fit the mode")
        if self.mode == RSA and self.options.client_key is None:
            self.send(outgoing, ANONYMOUS)
        elif self.mode == RSA:
            t2 = sha256(schedule.transcript)
            self.send(outgoing, CLIENT_AUTH, self.client_auth())
            self.say_invite(outgoing, t2)
        finished = self.bend("finished", schedule.finished(schedule.client))
        self.send(outgoing, FINISHED, finished)
        self.traffic = schedule.traffic()

    def say_invite(self, outgoing, t2):
        """Presents the client's invite, if it has one (5.1)."""
        if self.options.invite is None:
            return
        server_id, secret = self.options.invite
        secret = sockseal_invite.Secret(secret, server_id)
        proof = secret.proof(t2, sha256(spki_of(self.options.client_key.public_key())))
        invite = self.bend("invite-id", secret.id) + self.bend("invite-reveal", secret.reveal)
        invite += self.bend("invite-proof", proof)
        for _ in range(2 if self.fault == "invite-twice" else 1):
            self.send(outgoing, INVITE, invite)

    def client_auth(self):
        options = self.options
        if self.fault == "auth-replayed" and options.earlier_auth:
            return options.earlier_auth
        spki = spki_of(options.client_key.public_key())
        signature = options.client_key.sign(self.schedule.signed(sha256(spki)), PSS, hashes.SHA256())
        options.earlier_auth = blob(spki) + blob(self.bend("signature", signature))
        return options.earlier_auth

    def channel(self):
        client, server, _ = self.traffic
        return Channel(self, outgoing=Direction(client), incoming=Direction(server))

    def welcome(self, channel):
        """Reads the first record under the server's traffic secret. Returns the ticket and secret for a later resumption."""
        expected = WELCOME if self.options.invite is None else JOINED
        number, reader, _ = self.receive(channel.incoming, expected, DENIED)
        if number == DENIED:
            code = sockseal_diagnosis.denied(reader)
            reader.end()
            raise Refused(f"denied: {code}")
        if number == JOINED:
            outcome, name, grant = reader.choice(3), reader.string(), reader.string()
            require(len(name.encode()) <= sockseal_invite.MAX_NAME, "a name over the limit")
            require(len(grant.encode()) <= sockseal_invite.MAX_GRANT, "a grant over the limit")
            output(f"{sockseal_invite.OUTCOMES[outcome]}: {name}: {grant}\n".encode())
        if not reader.optional():
            return reader.end()
        require(self.mode != PSK, "a ticket for a pre-shared key")
        reader.number(4)
        secret = expand_label(self.traffic[2], "ticket", reader.array(16))
        ticket = reader.blob()
        reader.end()
        server_id = sha256(self.spki) if self.mode == RSA else self.options.ticket[0]
        return server_id, secret, ticket


class ServerSide(Side):
    """The server's side."""

    def __init__(self, wire, options):
        super().__init__(wire, options)
        self.options = options
        self.spki = spki_of(options.key.public_key()) if options.key else None

    def handshake(self):
        offers, seen = 0, set()
        while True:
            try:
                kind, hello = self.wire.read_frame()
            except Refused:
                self.abort(1)
            require(kind in (KEY_REQUEST, CLIENT_HELLO), "a frame that no client sends")
            if kind == KEY_REQUEST:
                require(len(hello) == 8, "a KeyRequest with a body")
            else:
                # A hello after a KeyOffer must have fresh values.
                require(hello[8:40] not in seen, "a random value a second time")
                seen.add(hello[8:40])
                if self.fault != "offers" and self.handle_client_hello(hello):
                    break
            if self.spki is None:
                self.abort(PSK_ONLY)
            offers += 1
            require(offers <= 2 or self.fault == "offers", "one KeyRequest too many")
            self.wire.write(frame(KEY_OFFER, blob(self.spki)))
        return self.authenticate()

    def abort(self, code):
        self.wire.write(frame(ABORT, u32(code)))
        raise Failure(f"aborted: {ABORT_CODES[code]}")

    def handle_client_hello(self, hello):
        """Answers with ServerHello. Returns false where the server has to answer with a KeyOffer (3.3)."""
        reader = Reader(hello[8:])
        reader.array(32)
        suites = [reader.number(2) for _ in range(min(reader.number(8), 8192))]
        share, encapsulation_key, server_id = reader.array(32), reader.array(1184), reader.array(32)
        self.mode = reader.choice(len(MODES))
        credential = reader.string() if self.mode == PSK else reader.blob()
        binder = reader.array(0 if self.mode == RSA else 32)
        reader.end()
        if SUITE not in suites:
            self.abort(2)
        self.asks_reason = sockseal_diagnosis.ASKS_REASON in suites
        if self.mode != PSK and (self.spki is None or server_id != sha256(self.spki)):
            return False
        self.shared = self.rsa_secret = self.ticket = None
        if self.mode == RSA:
            self.rsa_secret = self.unseal(credential)
        elif self.mode == PSK:
            key = self.options.psks.get(credential)
            self.name, expected_id, self.shared = key or ("", ZEROS, ZEROS)
            if not key or server_id != expected_id or not self.binds(hello, binder):
                self.abort(UNKNOWN_PSK)
        else:
            self.ticket = self.options.tickets.open(credential, sha256(self.spki))
            self.shared = self.ticket and self.ticket.secret
            if self.ticket is None or not self.binds(hello, binder):
                return False
        self.answer(hello, share, encapsulation_key)
        return True

    def binds(self, hello, binder):
        return hmac.compare_digest(mac(binder_key(self.mode, self.shared), hello[:-32]), binder)

    def unseal(self, sealed):
        try:
            secret = self.options.key.decrypt(sealed, OAEP)
        except ValueError:
            secret = b""
        return secret if len(secret) == 32 else mac(os.urandom(32), sealed)

    def answer(self, hello, share, encapsulation_key):
        try:
            kem_secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(encapsulation_key).encapsulate()
        except ValueError as error:
            raise Failure("an encapsulation key that fails the modulus check") from error
        private = x25519.X25519PrivateKey.generate()
        exchange = self.exchange(private, share, kem_secret)
        body = os.urandom(32) + u16(2 if self.fault == "suite" else SUITE) + self.share(private.public_key())
        body += self.bend("ciphertext", ciphertext) + u32((self.mode + (self.fault == "mode")) % 3)
        answer = frame(SERVER_HELLO, body)
        self.wire.write(answer)
        self.schedule = Schedule(self.shared, self.rsa_secret, exchange, hello + answer)

    def authenticate(self):
        """Runs the encrypted flights (section 5), and returns the channel and the client's name."""
        options, schedule = self.options, self.schedule
        incoming, outgoing = Direction(schedule.client), Direction(schedule.server)
        client_auth = SETTLED if self.mode != RSA else REQUIRED if options.allow else OPTIONAL
        if self.fault == "client-auth":
            client_auth = SETTLED if client_auth != SETTLED else OPTIONAL
        self.send(outgoing, SERVER_READY, u32(client_auth) + u32(60))
        self.send(outgoing, FINISHED, self.bend("finished", schedule.finished(schedule.server)))
        t2 = sha256(schedule.transcript)
        client = self.receive_client_auth(incoming) if self.mode == RSA else None
        invite = self.receive_to_finished(incoming, client is not None)
        client_secret, server_secret, resumption_secret = schedule.traffic()
        channel = Channel(self, outgoing=Direction(server_secret), incoming=Direction(client_secret))
        if self.mode == PSK:
            self.send(channel.outgoing, WELCOME, u8(0), keep=False)
            return channel, self.name
        client = self.ticket.client if self.ticket else client
        joined = invite and self.decide_on_invite(t2, client, *invite)
        if invite and joined is None:
            self.send(channel.outgoing, DENIED, u32(1), keep=False)
            raise Failure("denied: not allowed")
        if options.deny:
            reason = options.deny if self.asks_reason or self.fault == "reason" else "not allowed"
            self.send(channel.outgoing, DENIED, sockseal_diagnosis.denial(reason, now()), keep=False)
            raise Failure(f"denied: {reason}")
        if not invite and options.allow and (client is None or shown(client) not in options.allow):
            code = 0 if client is None else 1
            self.send(channel.outgoing, DENIED, u32(code), keep=False)
            raise Failure(f"denied: {DENIED_CODES[code]}")
        nonce = os.urandom(16)
        secret = expand_label(resumption_secret, "ticket", nonce)
        since = self.ticket.full_handshake_at if self.ticket else now()
        ticket = options.tickets.seal(Ticket(sha256(self.spki), secret, now(), since, client))
        lifetime = min(Ticket.LIFETIME, since + Ticket.CHAIN - now())
        fields = u8(1) + u32(lifetime) + nonce + blob(ticket)
        if (joined is not None) != (self.fault == "other-welcome"):
            told = joined or self.joined(sockseal_invite.KNOWN)
            self.send(channel.outgoing, JOINED, told + fields, keep=False)
        else:
            self.send(channel.outgoing, WELCOME, fields, keep=False)
        return channel, shown(client) if client else "anonymous"

    def receive_to_finished(self, incoming, may_invite):
        """Reads up to the client's Finished. Returns the invite that comes before it, if one does (5.1)."""
        expected = self.schedule.finished(self.schedule.client)
        number, reader, message = self.receive(incoming, FINISHED, *([INVITE] if may_invite else []))
        if number == INVITE:
            invite = reader.array(16), reader.array(32), reader.array(32)
            reader.end()
            self.schedule.transcript += message
            self.receive_finished(incoming, self.schedule.finished(self.schedule.client))
            return invite
        require(hmac.compare_digest(reader.array(32), expected), "a wrong Finished")
        reader.end()
        self.schedule.transcript += message
        return None

    def decide_on_invite(self, t2, client, invite_id, reveal, proof):
        """Enrols the client whose invite is right, once. Returns what it is told, or None where it is denied."""
        options = self.options
        if options.allow and shown(client) in options.allow:
            is_by_invite = options.enrolled.get(client) == invite_id
            return self.joined(sockseal_invite.ENROLLED_BEFORE if is_by_invite else sockseal_invite.KNOWN)
        kept = options.kept_invite
        if kept is None or not sockseal_invite.is_right(kept, t2, client, invite_id, reveal, proof):
            return None
        options.kept_invite = None
        options.allow = [*(options.allow or []), shown(client)]
        options.enrolled[client] = invite_id
        return self.joined(sockseal_invite.ENROLLED)

    def joined(self, outcome):
        grant = "g" * 2049 if self.fault == "long-grant" else "--message"
        return u32(outcome) + blob(b"guest") + blob(grant.encode())

    def receive_client_auth(self, incoming):
        """Returns the key id of a client that has proven it, or None for an anonymous client."""
        number, reader, message = self.receive(incoming, CLIENT_AUTH, ANONYMOUS)
        key_id = None
        if number == CLIENT_AUTH:
            spki, signature = reader.blob(), reader.blob()
            key_id = sha256(spki)
            try:
                read_spki(spki).verify(signature, self.schedule.signed(key_id), PSS, hashes.SHA256())
            except InvalidSignature as error:
                raise Failure("a wrong signature") from error
        reader.end()
        self.schedule.transcript += message
        return key_id


def now():
    return int(time.time())


class Ticket:
    """The content of a ticket, which a server needs to resume a client (section 5)."""

    LIFETIME = 24 * 3600
    CHAIN = 7 * 24 * 3600

    def __init__(self, server_id, secret, issued_at, full_handshake_at, client):
        self.server_id, self.secret, self.client = server_id, secret, client
        self.issued_at, self.full_handshake_at = issued_at, full_handshake_at

    def encode(self):
        client = u32(0) if self.client is None else u32(1) + self.client
        return self.server_id + self.secret + u64(self.issued_at) + u64(self.full_handshake_at) + client

    @classmethod
    def decode(cls, content):
        reader = Reader(content)
        fields = [reader.array(32), reader.array(32), reader.number(8), reader.number(8)]
        client = reader.array(32) if reader.choice(2) == 1 else None
        reader.end()
        return cls(*fields, client)

    def is_good(self, server_id):
        age, chain = now() - self.issued_at, now() - self.full_handshake_at
        return self.server_id == server_id and 0 <= age <= self.LIFETIME and 0 <= chain <= self.CHAIN


class TicketKeys:
    """Seals and opens tickets in the form that servers with one master key share (section 5)."""

    EPOCH = 43200

    def __init__(self, master):
        self.master = master

    def keys(self, head):
        key = expand_label(self.master, "ticket key", head)
        return expand_label(key, "enc", b""), expand_label(key, "mac", b"")

    def seal(self, ticket):
        head = u64(now() // self.EPOCH) + os.urandom(16)
        encryption_key, mac_key = self.keys(head)
        sealed = head + aes_ctr(encryption_key, bytes(16), ticket.encode())
        return sealed + mac(mac_key, sealed)

    def open(self, sealed, server_id):
        head, ciphertext, tag = sealed[:24], sealed[24:-32], sealed[-32:]
        encryption_key, mac_key = self.keys(head)
        age = now() // self.EPOCH - int.from_bytes(head[:8], "big")
        if not 0 <= age <= 2 or not hmac.compare_digest(mac(mac_key, head + ciphertext), tag):
            return None
        ticket = Ticket.decode(aes_ctr(encryption_key, bytes(16), ciphertext))
        return ticket if ticket.is_good(server_id) else None


# Section 7: the channel.

OPEN, OPENED, REFUSED, END_OF_STREAM, RESET, PING, PONG, KEY_UPDATE, CLOSE, LISTENING, PARK = range(11)
MESSAGE, PIPE, TCP = range(3)
FILES, SHARES = 8, 9
CODES = {REFUSED: 14, RESET: 7}
QUOTA_USED_UP = 13
NAMES = ["Open", "Opened", "Refused", "EndOfStream", "Reset", "Ping", "Pong", "KeyUpdate", "Close", "Listening", "Park"]
NAMES += sockseal_resumable.NAMES


class Channel:
    """A channel with one stream at a time. Its states in section 7 are the places where `expect` is called."""

    def __init__(self, side, outgoing, incoming):
        self.wire, self.options = side.wire, side.options
        self.outgoing, self.incoming = outgoing, incoming
        self.paddings = side.paddings
        self.sealed = threading.RLock()
        self.pings = []
        self.t3, self.exporter = side.schedule.exporter()
        self.resumable_opens = 0
        self.ended = threading.Event()
        self.failed = None

    def send(self, kind, payload):
        with self.sealed:
            if self.outgoing.sequence == self.options.update_every:
                self.update_key()
            self.wire.write(self.outgoing.seal(kind, payload, self.paddings))

    def say(self, number, fields=b""):
        self.send(*self.control(number, fields))

    @staticmethod
    def control(number, fields=b""):
        """Returns a control message's type and payload, for `send`."""
        return CONTROL, u32(number) + fields

    def ping(self):
        """Returns a Ping for `send`."""
        self.pings.append(int.from_bytes(os.urandom(8), "big"))
        return self.control(PING, u64(self.pings[-1]))

    def pong(self, nonce):
        return self.control(PONG, u64(nonce))

    def answer_ping(self, nonce):
        self.send(*self.pong(nonce))

    def next_stream(self):
        """Returns the secret of the stream that an OpenResumable opens, which each side counts."""
        self.resumable_opens += 1
        return sockseal_resumable.Secret(self.exporter, self.resumable_opens - 1)

    def update_key(self):
        self.wire.write(self.outgoing.seal(CONTROL, u32(KEY_UPDATE), self.paddings))
        self.outgoing = self.outgoing.updated()

    def expect(self, *allowed):
        """Returns the next record that does not concern the channel itself: DATA and its payload, or (CONTROL, number) and a
        value."""
        while True:
            kind, payload = self.incoming.open(self.wire)
            if kind == DATA:
                require(DATA in allowed, "data where none may come")
                return DATA, payload
            require(kind == CONTROL, "a handshake message behind the handshake")
            reader = Reader(payload)
            number = reader.choice(len(NAMES))
            value = None
            if number == OPEN:
                value = self.target(reader)
            elif number in CODES:
                value = reader.choice(CODES[number])
                if (number, value) == (REFUSED, QUOTA_USED_UP):
                    reader.number(4)
            elif number in (PING, PONG):
                value = reader.number(8)
            elif number > PARK:
                value = sockseal_resumable.read_fields(number, reader)
            reader.end()
            if number == PONG:
                # Where several Pings wait only the last needs an answer.
                require(value in self.pings, "a Pong that answers no Ping")
                del self.pings[:self.pings.index(value) + 1]
            if number == PING:
                self.answer_ping(value)
            elif number == KEY_UPDATE:
                self.incoming = self.incoming.updated()
            elif number == RESET:
                raise Failure(f"reset with code {value}")
            elif (CONTROL, number) in allowed:
                return (CONTROL, number), value
            elif number == PONG:
                pass
            elif number == CLOSE:
                raise Truncated("Close in the middle of a stream")
            else:
                raise Failure(f"{NAMES[number]} where it may not come")

    @staticmethod
    def target(reader):
        """Reads the target of an Open, as far as this server may be asked for it."""
        number = reader.choice(11)
        if number == sockseal_diagnosis.TARGET:
            return number, sockseal_diagnosis.read_question(reader)
        if number == TCP:
            return number, reader.string(), reader.number(2)
        require(number in (MESSAGE, PIPE, FILES, SHARES), "a target that is not asked for here")
        return (number, reader.string(), sockseal_files.ACCESS[reader.choice(3)]) if number == FILES else number

    def read_data(self):
        """Returns the next data of the stream, or None at its end."""
        kind, payload = self.expect(DATA, (CONTROL, END_OF_STREAM))
        return payload if kind == DATA else None

    def send_data(self, data):
        for start in range(0, len(data), PAYLOAD):
            self.send(DATA, data[start:start + PAYLOAD])

    def end_data(self):
        self.say(END_OF_STREAM)

    def open_files(self, share, access):
        self.open(u32(FILES) + sockseal_files.target(share, access))

    def open_shares(self):
        self.open(u32(SHARES))

    def open(self, target):
        self.say(OPEN, target)
        self.expect_opened()

    def round_trip(self):
        ping = self.ping()
        self.send(*ping)
        _, value = self.expect((CONTROL, PONG))
        require(ping == self.control(PING, u64(value)), "a Pong that answers another Ping")

    def pump(self, source):
        """Sends all of `source`, with the chosen fault in the middle, and then EndOfStream."""
        try:
            harm = HARM.get(self.options.fault)
            for count, piece in enumerate(source):
                if self.ended.is_set():
                    break
                if count % 64 == 5:
                    self.send(DATA, b"")
                self.send(DATA, piece)
                if harm and count == 2:
                    with self.sealed:
                        harm(self)
            self.say(END_OF_STREAM)
        except Failure as failure:
            self.failed = failure

    def stream(self, source, sink, *may_come):
        """Runs both directions at once, until both sides have sent EndOfStream."""
        self.ended.clear()
        pump = threading.Thread(target=self.pump, args=[source], daemon=True)
        pump.start()
        while (got := self.expect(*may_come, (CONTROL, END_OF_STREAM)))[0] == DATA:
            sink(got[1])
        pump.join()
        if self.failed:
            raise self.failed

    def close(self):
        """Sends Close, either first or as the answer to the peer's."""
        self.say(CLOSE)

    def client_stream(self, target, source, sink, opened=False):
        """Runs one stream from its Open on. `opened` means that the Open was sent already."""
        if not opened:
            self.say(OPEN, u32(target))
        self.expect_opened()
        self.stream(source, sink, *[DATA] if target == PIPE else [])

    def expect_opened(self):
        kind, value = self.expect((CONTROL, OPENED), (CONTROL, REFUSED), (CONTROL, CLOSE))
        if kind == (CONTROL, REFUSED):
            self.say(END_OF_STREAM)
            self.finish()
            raise Refused(f"refused with code {value}")
        require(kind == (CONTROL, OPENED), "the server closed instead of opening a stream")

    def finish(self):
        """Closes an idle channel from the client's side, where only Close may come from the server."""
        self.close()
        self.expect((CONTROL, CLOSE))
        self.wire.end()

    def serve(self, name):
        """Serves streams as the server, up to both sides' Close."""
        resumable = [(CONTROL, number) for number in (sockseal_resumable.OPEN_RESUMABLE, sockseal_resumable.RESUME)]
        while True:
            kind, target = self.expect((CONTROL, OPEN), (CONTROL, CLOSE), *resumable if self.options.tunnels else [])
            if kind == (CONTROL, CLOSE):
                self.close()
                self.wire.end()
                return
            if kind == resumable[0]:
                self.options.tunnels.open(self, target[0], name, target[1])
                continue
            if kind == resumable[1]:
                self.options.tunnels.resume(self, name, target)
                continue
            if isinstance(target, tuple) and target[0] == TCP and self.options.tunnels:
                self.options.tunnels.open(self, target, name)
                continue
            if isinstance(target, tuple) and target[0] == sockseal_diagnosis.TARGET:
                require(self.options.fault != "no-diagnosis", "a target of a later version")
                self.say(OPENED)
                clock = now() + self.options.clock
                self.send_data(sockseal_diagnosis.answer(target[1], self.options.told_name or name, clock, self.options.state))
                self.end_data()
                require(self.read_data() is None, "data where none may come")
                continue
            if isinstance(target, tuple) and target[0] == FILES and not sockseal_files.may_open(self.options.shares, *target[1:]):
                self.say(REFUSED, u32(1))
                while self.read_data() is not None:
                    pass
                continue
            if target == PIPE and self.options.message_only or isinstance(target, tuple) and target[0] == TCP:
                self.say(REFUSED, u32(0))
                while self.expect(DATA, (CONTROL, END_OF_STREAM))[0] == DATA:
                    pass
                continue
            if self.options.fault == "early-end":
                # Both records are sent in one piece, so that the client has both before it can answer.
                answers = [self.outgoing.seal(CONTROL, u32(number)) for number in (OPENED, END_OF_STREAM)]
                self.wire.write(b"".join(answers))
                raise Failure("a confirmation before there is a message")
            self.say(OPENED)
            if isinstance(target, tuple):
                directory, share_access = self.options.shares[target[1]]
                sockseal_files.serve(self, self.options, directory, share_access, target[2])
            elif target == SHARES:
                sockseal_files.serve_shares(self, self.options.shares)
            elif target == PIPE:
                self.stream(pieces(self.options), output, DATA)
            else:
                self.receive_message(name)

    def receive_message(self, name):
        message = []
        while (got := self.expect(DATA, (CONTROL, END_OF_STREAM)))[0] == DATA:
            message.append(got[1])
        output(f"[{name}] ".encode() + b"".join(message) + b"\n")
        harm = HARM.get(self.options.fault)
        if harm:
            harm(self)
        self.say(END_OF_STREAM)
        if self.options.fault == "no-close":
            raise Failure("gone without a Close")


# Faults in a stream that need valid keys. Each is sent between two records of data, and ends the channel.


def replay(channel):
    record = channel.outgoing.seal(DATA, b"twice")
    channel.wire.write(record + record)


def reorder(channel):
    first, second = channel.outgoing.seal(DATA, b"first"), channel.outgoing.seal(DATA, b"second")
    channel.wire.write(second + first)


def flip(channel):
    record = bytearray(channel.outgoing.seal(DATA, b"flipped"))
    record[5] ^= 1
    channel.wire.write(bytes(record))


def old_key(channel):
    old = copy.copy(channel.outgoing)
    channel.update_key()
    old.sequence += 1
    channel.wire.write(old.seal(DATA, b"under the old key"))


def cut(channel):
    channel.wire.stream.shutdown(socket.SHUT_RDWR)


def plaintext(content):
    """Returns a fault that sends a record which is invalid only in its plaintext."""
    return lambda channel: channel.wire.write(channel.outgoing.seal_plaintext(content))


def control(number, fields=b""):
    return lambda channel: channel.say(number, fields)


HARM = {
    "replay": replay,
    "reorder": reorder,
    "drop": lambda channel: channel.outgoing.seal(DATA, b"lost"),
    "reflect": lambda channel: channel.wire.write(channel.wire.last_record),
    "flip": flip,
    "old-key": old_key,
    "cut": cut,
    "no-type": plaintext(bytes(16)),
    "unknown-type": plaintext(b"four\x04"),
    "empty-record": lambda channel: channel.wire.write(bytes(34)),
    "long-payload": plaintext(bytes(PAYLOAD + 1) + u8(DATA)),
    "long-record": plaintext(b"x" + u8(DATA) + bytes(CIPHERTEXT - 1)),
    "handshake": plaintext(u32(ANONYMOUS) + u8(HANDSHAKE)),
    "close": control(CLOSE),
    "open": control(OPEN, u32(MESSAGE)),
    "opened": control(OPENED),
    "refused": control(REFUSED, u32(0)),
    "reset": control(RESET, u32(0)),
    "unknown-control": control(len(NAMES)),
    "unknown-code": control(RESET, u32(99)),
    "control-and-more": control(PING, bytes(9)),
    "half-a-control": control(PING, bytes(7)),
    "data": lambda channel: channel.send(DATA, b"some"),
    "empty-data": lambda channel: channel.send(DATA, b""),
    "end": control(END_OF_STREAM),
    "pong": control(PONG, u64(1)),
    "two-pings": lambda channel: [channel.say(PING, u64(1)), channel.say(PING, u64(2))],
    "update": Channel.update_key,
}


# The programs.


def pieces(options):
    """Reads standard input in pieces that are small enough to use every padding within a mebibyte."""
    while piece := os.read(0, options.piece):
        yield piece


def output(data):
    while data:
        data = data[os.write(1, data):]


def read_psk(path):
    """Reads the file of a pre-shared key (section 10)."""
    with open(path, encoding="ascii") as file:
        form, name, server_id, secret = file.read().split()
    if form != "sockseal-psk-v1":
        raise ValueError(f"{path} holds no pre-shared key")
    return name, unpadded_base64(server_id), unpadded_base64(secret)


def read_ticket_key(path):
    with open(path, encoding="ascii") as file:
        form, master = file.read().split()
    if form != "sockseal-ticket-key-v1":
        raise ValueError(f"{path} holds no ticket key")
    return unpadded_base64(master)


def take_ticket(path):
    """Reads a ticket and removes its file, since a ticket is used once."""
    if path is None or not os.path.exists(path):
        return None
    with open(path, encoding="ascii") as file:
        ticket = tuple(bytes.fromhex(field) for field in json.load(file))
    os.remove(path)
    return ticket


def keep_ticket(path, ticket):
    if path and ticket:
        with open(path, "w", encoding="ascii") as file:
            json.dump([field.hex() for field in ticket], file)


def connect(host, port):
    stream = socket.create_connection((host, int(port)))
    print("source      %s:%d" % stream.getsockname(), file=sys.stderr, flush=True)
    return Wire(stream)


def begin(options, host, port):
    """Connects, and does a handshake up to the client's Finished."""
    side = ClientSide(connect(host, port), options)
    side.handshake()
    print(f"mode        {MODES[side.mode]}", file=sys.stderr, flush=True)
    return side, side.channel()


def dialer(options, host, port):
    """Returns what makes the next channel of a client, with a ticket where it may and has one, or that of another client."""
    cuts = iter(sockseal_cuts.read_cuts(options.cuts))

    def dial(other_client_key=None):
        this = options
        if other_client_key:
            this = copy.copy(options)
            this.client_key, this.ticket = read_private_key(other_client_key), None
        side, channel = begin(this, host, port)
        ticket = side.welcome(channel)
        if not other_client_key:
            options.ticket = None if options.full_handshakes else ticket
            options.known_spki = side.spki or options.known_spki
            channel.wire.cut = next(cuts, None)
        return channel

    return dial


def client(options):
    host, port = options.address.rsplit(":", 1)
    options.psk = options.psk and read_psk(options.psk)
    options.client_key = options.client_key and read_private_key(options.client_key)
    options.invite = None
    if options.what == "join":
        server_id, secret, _, addresses = sockseal_invite.read_line(sys.stdin.read())
        print(f"invited to  {' '.join(addresses)}", file=sys.stderr, flush=True)
        options.server_key, options.invite = shown(server_id), (server_id, secret)
    options.ticket, options.known_spki, options.earlier_auth = take_ticket(options.tickets), None, None
    if options.known_key and os.path.exists(options.known_key):
        with open(options.known_key, "rb") as file:
            options.known_spki = file.read()
    if options.fault == "auth-replayed":
        side = ClientSide(connect(host, port), options)
        side.handshake()
        channel = side.channel()
        side.welcome(channel)
        channel.finish()

    if options.what == "tunnel":
        return sockseal_resumable_client.run(dialer(options, host, port), options)
    side, channel = begin(options, host, port)
    target = {"send": MESSAGE, "pipe": PIPE}.get(options.what)
    eager = options.eager and target is not None
    if eager:
        channel.say(OPEN, u32(target))
    keep_ticket(options.tickets, side.welcome(channel))
    if options.known_key and side.spki:
        with open(options.known_key, "wb") as file:
            file.write(side.spki)
    if options.what == "join":
        pass
    elif options.what == "ping":
        HARM.get(options.fault, lambda channel: None)(channel)
        for _ in range(3):
            channel.round_trip()
    elif options.what in JOBS:
        try:
            JOBS[options.what](channel, options)
        except sockseal_files.Incomplete:
            channel.finish()
            raise
    elif options.what == "pipe":
        channel.client_stream(PIPE, pieces(options), output, eager)
    else:
        text = list(pieces(options))
        for turn in range(options.times):
            channel.client_stream(MESSAGE, text, None, eager and turn == 0)
    channel.finish()


JOBS = {"diagnose": sockseal_diagnosis.ask, "put": sockseal_files.put, "get": sockseal_files.get, "ls": sockseal_files.ls}


def server(options):
    options.shares = sockseal_files.read_shares(options.share)
    options.key = options.key and read_private_key(options.key)
    options.psks = {psk[0]: psk for psk in map(read_psk, options.psk)}
    options.kept_invite, options.enrolled = None, {}
    options.tickets = TicketKeys(read_ticket_key(options.ticket_keys) if options.ticket_keys else os.urandom(32))
    listener = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    if options.invite:
        server_id = sha256(spki_of(options.key.public_key()))
        options.kept_invite, line = sockseal_invite.new_line(server_id, address, clock=now())
        with open(options.invite, "w", encoding="ascii") as file:
            file.write(line + "\n")
    print(f"listening on {address}", file=sys.stderr)
    identity = shown(sha256(spki_of(options.key.public_key()))) if options.key else None
    print(f"server key  {identity}" if identity else "server id   psk", file=sys.stderr, flush=True)
    if options.tunnels:
        serve_tunnels(options, listener)
    for _ in range(options.connections):
        stream, _ = listener.accept()
        side = ServerSide(Wire(stream), options)
        try:
            channel, name = side.handshake()
            print(f"mode        {MODES[side.mode]}", file=sys.stderr, flush=True)
            channel.serve(name)
        except Failure as failure:
            # A server with an invite goes on: others may have it too.
            if not options.invite:
                raise
            print(f"refused     {failure}", file=sys.stderr, flush=True)
        stream.close()


def serve_tunnels(options, listener):
    """Serves tunnels, of any number of clients at once and until this program is ended."""
    options.tunnels = sockseal_resumable_server.Tunnels(options)
    cuts = iter(sockseal_cuts.read_cuts(options.cuts))
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve_tunnel, args=[options, Wire(stream), cuts], daemon=True).start()


def serve_tunnel(options, wire, cuts):
    try:
        side = ServerSide(wire, options)
        channel, name = side.handshake()
        sockseal_relay.tell(f"mode        {MODES[side.mode]}")
        wire.cut = next(cuts, None)
        channel.serve(name)
    except Failure as failure:
        sockseal_relay.tell(f"ended       {failure}")
    wire.let_go()


def command_line():
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--fault")
    shared.add_argument("--every-padding", action="store_true", help="records with each padding in turn")
    shared.add_argument("--update-every", type=int, help="this many records under one traffic secret")
    shared.add_argument("--piece", type=int, default=4096, help="bytes in one record of data")
    shared.add_argument("--stop-after", type=int, help="end without a word behind so many bytes of files")
    shared.add_argument("--compare", action="store_true", help="compare what is there of a file, whatever its source")
    shared.add_argument("--window", type=int, default=4 * 1024 * 1024, help="bytes to keep of a resumable stream")
    shared.add_argument("--hold", type=int, default=300, help="seconds to keep one without a channel")
    shared.add_argument("--cuts", help="where connections are cut, one after the other, such as out:70000,none,in:0:end")
    parser = argparse.ArgumentParser()
    programs = parser.add_subparsers(required=True)

    program = programs.add_parser("client", parents=[shared])
    program.set_defaults(run=client)
    program.add_argument("address")
    program.add_argument("what", choices=["send", "pipe", "ping", "join", "tunnel", *JOBS])
    program.add_argument("files", nargs="*", help="what to put, get or list; the HOST:PORT of a tunnel")
    program.add_argument("--existing", choices=["refuse", "replace", "rename"], default="refuse")
    program.add_argument("--placement", choices=["into", "as", "automatic"], default="automatic")
    program.add_argument("--part", help="INDEX/COUNT: the part of a transfer over several channels")
    program.add_argument("--recursive", action="store_true", help="list what is in directories too")
    program.add_argument("--eager-offers", action="store_true", help="offers before Ready")
    program.add_argument("--no-preserve", action="store_true")
    program.add_argument("--checksum", action="store_true")
    program.add_argument("--verify-disk", action="store_true")
    program.add_argument("--dry-run", action="store_true")
    program.add_argument("--server-key", help="the only fingerprint to trust; any, unless given")
    program.add_argument("--known-key", help="the server's key in DER: not asked for if there, kept there")
    program.add_argument("--client-key")
    program.add_argument("--psk")
    program.add_argument("--tickets", help="where the next connection's ticket is kept")
    program.add_argument("--asks-reason", action="store_true", help="ask why where the server denies it")
    program.add_argument("--times", type=int, default=1, help="messages on one channel")
    program.add_argument("--eager", action="store_true", help="Open right behind Finished; in a tunnel, data right behind Open")
    program.add_argument("--plain", action="store_true", help="a tunnel that cannot be resumed")
    program.add_argument("--full-handshakes", action="store_true", help="take a stream over without a ticket")
    program.add_argument("--refused-before", type=int, default=0, help="streams that are refused before the tunnel's")
    program.add_argument("--most-takeovers", type=int, default=1000)
    program.add_argument("--other-client-key", help="whose client says Resume as a fault")

    program = programs.add_parser("server", parents=[shared])
    program.set_defaults(run=server)
    program.add_argument("--key")
    program.add_argument("--psk", action="append", default=[])
    program.add_argument("--ticket-keys")
    program.add_argument("--allow", action="append", help="a client's fingerprint; all may come in, unless given")
    program.add_argument("--deny", choices=sockseal_diagnosis.DENIED, help="deny all clients for this reason")
    program.add_argument("--clock", type=int, default=0, help="seconds by which the clock that it tells is ahead")
    program.add_argument("--state", choices=sockseal_diagnosis.STATES, default="free", help="of what is asked for to listen on")
    program.add_argument("--told-name", help="tell each client that it is called so")
    program.add_argument("--connections", type=int, default=1)
    program.add_argument("--invite", help="the file for the line of an invite")
    program.add_argument("--message-only", action="store_true")
    program.add_argument("--tunnels", action="store_true", help="serve tunnels, to many clients at once")
    program.add_argument("--share", action="append", default=[], help="NAME=DIR[:ro|rw|drop]")
    return parser.parse_args()


def main():
    options = command_line()
    try:
        options.run(options)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr, flush=True)
        sys.exit(failure.code)


if __name__ == "__main__":
    main()
