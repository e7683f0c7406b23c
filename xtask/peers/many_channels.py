"""Opens many channels of one client with a pre-shared key, and puts unusual load on each of them.

many_channels.py HOST:PORT PSK_FILE COUNT

The program opens the channels one after the other and prints "open". Each line of its standard input names one of the
loads below, which it puts on every channel. Then it prints "done".

pings           400 Pings at once
padded-pings    sixteen Pings at once, each in a record of the greatest length
half-a-record   the same, and half of another record
pongs           400 Pongs without a Ping, for which the server may end the connection
message         an Open of a message, sixteen full records of it, and all but the last byte of one more
end             the last byte, and the end of the message
"""

import argparse
import itertools
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from sockseal import (
    CIPHERTEXT,
    CONTROL,
    DATA,
    END_OF_STREAM,
    MESSAGE,
    OPEN,
    OPENED,
    PAYLOAD,
    PING,
    PONG,
    ClientSide,
    Failure,
    connect,
    mac,
    read_psk,
    u8,
    u16,
    u32,
    u64,
)

MANY = 400
FULL = 16


def short_records(direction, count, plaintext):
    """Seals records with the same plaintext of at most one block, as `Direction.seal` does. The blocks of all records are
    encrypted at once, since one at a time would take longer than the rest of the scenario."""
    numbers = [u64(direction.sequence + index) for index in range(count)]
    direction.sequence += count
    blocks = Cipher(algorithms.AES(direction.encryption_key), modes.ECB()).encryptor()
    stream = blocks.update(b"".join(number + bytes(8) for number in numbers))
    length, text = u16(len(plaintext)), int.from_bytes(plaintext, "big")
    records = []
    for index, number in enumerate(numbers):
        block = stream[16 * index :][: len(plaintext)]
        ciphertext = (int.from_bytes(block, "big") ^ text).to_bytes(len(plaintext), "big")
        records += [length, ciphertext, mac(direction.mac_key, number + length + ciphertext)]
    return b"".join(records)


def padded_ping(channel):
    return channel.outgoing.seal(CONTROL, u32(PING) + u64(7), itertools.repeat(CIPHERTEXT))


def until_answered(channel):
    """Sends a Ping and waits for its Pong, so that the server has processed everything before it."""
    # The load has sent Pings of its own, of which any may be answered.
    channel.pings = [7] * MANY + [8]
    channel.say(PING, u64(8))
    while channel.expect((CONTROL, PONG))[1] != 8:
        pass


def pings(channel):
    channel.wire.write(short_records(channel.outgoing, MANY, u32(PING) + u64(7) + u8(CONTROL)))
    until_answered(channel)


def padded_pings(channel):
    channel.wire.write(b"".join(padded_ping(channel) for _ in range(FULL)))
    until_answered(channel)


def half_a_record(channel):
    padded_pings(channel)
    record = padded_ping(channel)
    channel.wire.write(record[: len(record) // 2])


def pongs(channel):
    try:
        channel.wire.write(short_records(channel.outgoing, MANY, u32(PONG) + u64(7) + u8(CONTROL)))
        channel.expect()
    except Failure:
        pass


def message(channel):
    channel.say(OPEN, u32(MESSAGE))
    channel.expect((CONTROL, OPENED))
    said = b"".join(channel.outgoing.seal(DATA, b"." * PAYLOAD) for _ in range(FULL + 1))
    channel.wire.write(said[:-1])
    channel.rest = said[-1:]


def end(channel):
    channel.wire.write(channel.rest)
    channel.say(END_OF_STREAM)
    channel.expect((CONTROL, END_OF_STREAM))


BURSTS = {
    "pings": pings,
    "padded-pings": padded_pings,
    "half-a-record": half_a_record,
    "pongs": pongs,
    "message": message,
    "end": end,
}


def opened(address, psk):
    side = ClientSide(
        connect(*address),
        argparse.Namespace(
            psk=psk, ticket=None, known_spki=None, invite=None, fault=None, every_padding=False, update_every=None,
            asks_reason=False,
        ),
    )
    side.handshake()
    channel = side.channel()
    side.welcome(channel)
    return channel


def main():
    address, psk, count = sys.argv[1].rsplit(":", 1), read_psk(sys.argv[2]), int(sys.argv[3])
    channels = [opened(address, psk) for _ in range(count)]
    print("open", flush=True)
    for line in sys.stdin:
        for channel in channels:
            BURSTS[line.strip()](channel)
        print("done", flush=True)


if __name__ == "__main__":
    main()
