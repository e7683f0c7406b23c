"""Computes the test vectors of resumable streams from PROTOCOL.md alone:

    python3 xtask/peers/stream_vectors.py > crates/crypto-core/tests/vectors/streams.json

Standard library only, and nothing shared with the Rust code, which has to come to the same bytes. Everything is derived from its
name, so that the file is the same each time.
"""

import json

from sockseal_encoding import blob, u16, u32, u64
from sockseal_keys import sha256
from sockseal_resumable import (
    ACKNOWLEDGE, GONE, MAX_HOLD, MAX_WINDOW, MIN_WINDOW, OPEN_RESUMABLE, OPENED_RESUMABLE, RESUME, RESUMED, Resume, Resumed, Secret,
    Terms,
)

NUMBERS = [0, 1, 2**32]


def drawn(name):
    return sha256(b"sockseal test vectors|stream|" + name.encode())


FIRST, SECOND = drawn("first exporter secret"), drawn("second exporter secret")


def derivations():
    for exporter in [FIRST, SECOND]:
        for number in NUMBERS:
            secret = Secret(exporter, number)
            yield {
                "exporter_secret": exporter.hex(), "number": number, "stream_secret": secret.stream.hex(),
                "id": secret.id.hex(), "client_proof_key": secret.client.hex(), "server_proof_key": secret.server.hex(),
            }


def takeovers():
    """Yields takeovers with the smallest, usual and largest fields, each on a channel of its own."""
    usual = Terms(4 * 1024 * 1024, 300)
    least, most = Terms(MIN_WINDOW, 1), Terms(MAX_WINDOW, MAX_HOLD)
    cases = [
        ("the first takeover of a stream that said nothing", FIRST, 0, 1, 0, usual, 0, usual),
        ("a later takeover, of less than was asked", FIRST, 1, 7, 70_001, usual, 12_345_678_901, Terms(1_048_576, 60)),
        ("the smallest window and hold", SECOND, 2**32, 2, 1, least, 2, least),
        ("the largest fields", SECOND, 1, 2**32 - 1, 2**64 - 1, most, 2**64 - 2, most),
    ]
    for name, exporter, number, generation, client_received, asked, server_received, agreed in cases:
        secret, transcript = Secret(exporter, number), drawn("t3 of " + name)
        resume, resumed = Resume(secret.id, generation, client_received, asked), Resumed(server_received, agreed)
        resume_proof = secret.resume_proof(transcript, resume.fields())
        resumed_proof = secret.resumed_proof(transcript, resume.fields(), resumed.fields())
        yield {
            "name": name, "stream_secret": secret.stream.hex(), "t3": transcript.hex(),
            "resume": {
                "id": secret.id.hex(), "generation": generation, "received": client_received,
                "window": asked.window, "hold_seconds": asked.hold,
                "fields": resume.fields().hex(), "proof": resume_proof.hex(),
                "message": (u32(RESUME) + resume.fields() + resume_proof).hex(),
            },
            "resumed": {
                "received": server_received, "window": agreed.window, "hold_seconds": agreed.hold,
                "fields": resumed.fields().hex(), "proof": resumed_proof.hex(),
                "message": (u32(RESUMED) + resumed.fields() + resumed_proof).hex(),
            },
        }


def refused():
    """Yields proofs that are each wrong in one thing, for the stream, channel and fields that they are shown for."""
    secret, neighbor = Secret(FIRST, 0), Secret(FIRST, 1)
    elsewhere = Secret(SECOND, 0)
    t3, other_t3 = drawn("t3"), drawn("other t3")
    terms = Terms(4 * 1024 * 1024, 300)
    resume = Resume(secret.id, 3, 1000, terms).fields()
    resumed = Resumed(2000, terms).fields()
    changed = {
        "another generation": Resume(secret.id, 4, 1000, terms).fields(),
        "another offset": Resume(secret.id, 3, 1001, terms).fields(),
        "another window": Resume(secret.id, 3, 1000, Terms(MIN_WINDOW, 300)).fields(),
        "another hold": Resume(secret.id, 3, 1000, Terms(terms.window, 301)).fields(),
        "another id": Resume(neighbor.id, 3, 1000, terms).fields(),
    }
    right = {"client": secret.resume_proof(t3, resume), "server": secret.resumed_proof(t3, resume, resumed)}

    def case(name, side, proof):
        assert proof != right[side], name
        return {
            "name": name, "side": side, "stream_secret": secret.stream.hex(), "t3": t3.hex(),
            "resume_fields": resume.hex(), "resumed_fields": resumed.hex() if side == "server" else "", "proof": proof.hex(),
        }

    yield case("the server's proof as the client's", "client", right["server"])
    yield case("the client's proof as the server's", "server", right["client"])
    yield case("over T3 of another channel", "client", secret.resume_proof(other_t3, resume))
    yield case("over T3 of another channel", "server", secret.resumed_proof(other_t3, resume, resumed))
    for name, fields in changed.items():
        yield case(f"over {name}", "client", secret.resume_proof(t3, fields))
        yield case(f"over {name} in the Resume", "server", secret.resumed_proof(t3, fields, resumed))
    yield case("over another offset in the Resumed", "server", secret.resumed_proof(t3, resume, Resumed(2001, terms).fields()))
    yield case("over Resumed alone", "server", secret.resumed_proof(t3, b"", resumed))
    yield case("over Resumed before Resume", "server", secret.resumed_proof(t3, resumed, resume))
    for name, other in [("the next stream of the channel", neighbor), ("a stream of another channel", elsewhere)]:
        yield case(f"with the secret of {name}", "client", other.resume_proof(t3, resume))
        yield case(f"with the secret of {name}", "server", other.resumed_proof(t3, resume, resumed))
    # Each is under the right context with the key of the other side.
    swapped = Secret(FIRST, 0)
    swapped.client, swapped.server = swapped.server, swapped.client
    yield case("under the server's key", "client", swapped.resume_proof(t3, resume))
    yield case("under the client's key", "server", swapped.resumed_proof(t3, resume, resumed))
    yield case("with the number of the message in the fields", "client", secret.resume_proof(t3, u32(RESUME) + resume))
    yield case("nothing", "client", bytes(32))
    yield case("nothing", "server", bytes(32))


def messages():
    """Yields the other control messages of resumable streams, each as it is encoded."""
    usual = Terms(4 * 1024 * 1024, 300)
    for kind, target, fields in [
        ("tcp", {"host": "db.example.org", "port": 5432}, u32(2) + blob(b"db.example.org") + u16(5432)),
        ("unix", {"path": "/run/db.sock"}, u32(3) + blob(b"/run/db.sock")),
        ("service", {"name": "db"}, u32(5) + blob(b"db")),
        (
            "forwarded", {"origin": "192.0.2.1:4711", "destination": "192.0.2.2:80"},
            u32(7) + blob(b"192.0.2.1:4711") + blob(b"192.0.2.2:80"),
        ),
    ]:
        yield {
            "name": "OpenResumable", "target": {kind: target}, "window": usual.window, "hold_seconds": usual.hold,
            "message": (u32(OPEN_RESUMABLE) + fields + usual.encode()).hex(),
        }
    for terms in [usual, Terms(MIN_WINDOW, 1), Terms(MAX_WINDOW, MAX_HOLD)]:
        yield {
            "name": "OpenedResumable", "window": terms.window, "hold_seconds": terms.hold,
            "message": (u32(OPENED_RESUMABLE) + terms.encode()).hex(),
        }
    for received in [1, 2**32, 2**64 - 1]:
        yield {"name": "Acknowledge", "received": received, "message": (u32(ACKNOWLEDGE) + u64(received)).hex()}
    for remembers in [0, 3600, MAX_HOLD]:
        yield {"name": "Gone", "remembers_seconds": remembers, "message": (u32(GONE) + u32(remembers)).hex()}


print(json.dumps({
    "derivations": list(derivations()), "takeovers": list(takeovers()), "refused": list(refused()), "messages": list(messages()),
}, indent=2))
