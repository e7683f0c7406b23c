"""The messages and hashes of files (section 7.5 of PROTOCOL.md), written from that section alone.

sockseal_files_messages.py FILE    holds them against a vector file
"""

import collections
import itertools
import json
import re
import sys

from blake3 import blake3
from sockseal_encoding import Failure, Reader, blob, require, u16, u32, u64

MAX_DATA, MAX_HASHES, MAX_OUTSTANDING, MAX_PATHS, MAX_PARTS = 1 << 20, 128, 1024, 1024, 16

# Types are tuples: their kind, and what they are made of. A choice with fields in it is a dictionary with one key.

NUMBERS = {"u16": 2, "u32": 4, "u64": 8}
HASH = ("hash",)
MAYBE_HASH = ("optional", HASH)
CODE = ("choice", [
    "exists", "not found", "denied", "bad path", "not directory", "is directory", "unsupported kind", "no space", "quota",
    "busy", "changed", "mismatch", "too many", "io",
])
TIME = ("fields", [("seconds", ("i64",)), ("nanoseconds", ("u32",))])
PART = ("fields", [("index", ("u16",)), ("count", ("u16",))])
OPTIONS = ("fields", [
    ("existing", ("choice", ["refuse", "replace", "rename"])),
    ("preserve", ("bool",)), ("checksum", ("bool",)), ("verify_disk", ("bool",)), ("dry_run", ("bool",)),
])
KIND = ("variant", [
    ("file", [
        ("size", ("optional", ("u64",))), ("allocated", ("optional", ("u64",))), ("source", HASH), ("sha256", MAYBE_HASH),
    ]),
    ("directory", []),
    ("symlink", [("target", ("bytes",))]),
])
ENTRY = ("fields", [("path", ("bytes",)), ("kind", KIND), ("mode", ("u16",)), ("modified", TIME)])
NUMBER = ("number", ("u32",))
MESSAGE = [
    ("Put", [
        ("destination", ("bytes",)), ("placement", ("choice", ["into", "as", "automatic"])), ("options", OPTIONS),
        ("part", PART),
    ]),
    ("Path", [("path", ("bytes",))]),
    ("Get", [("checksum", ("bool",)), ("part", PART)]),
    ("List", [("path", ("bytes",)), ("is_recursive", ("bool",))]),
    ("Ready", [("is_directory", ("bool",)), ("is_large", ("bool",))]),
    ("Failed", [("code", CODE)]),
    ("Listed", [("entry", ENTRY)]),
    ("Share", [("name", ("string",)), ("access", ("choice", ["read only", "read write", "drop"]))]),
    ("ListEnd", []),
    ("Offer", [("entry", ENTRY)]),
    ("Unreadable", [("path", ("bytes",)), ("code", CODE)]),
    ("OffersEnd", []),
    ("Begin", [NUMBER]),
    ("Data", [("length", ("u32",))]),
    ("Hole", [("length", ("u64",))]),
    ("ChunkEnd", [("hash", HASH)]),
    ("Same", []),
    ("End", [("hash", HASH), ("sha256", MAYBE_HASH)]),
    ("Abandon", [("code", CODE)]),
    ("Attributes", [("path", ("bytes",)), ("mode", ("u16",)), ("modified", TIME)]),
    ("Finish", []),
    ("Have", [NUMBER, ("sha256", MAYBE_HASH)]),
    ("Want", [NUMBER, ("held", ("u32",)), ("compare", ("u32",))]),
    ("Hashes", [("hashes", ("list", HASH))]),
    ("Done", [NUMBER, ("sha256", MAYBE_HASH), ("stored_as", ("optional", ("bytes",)))]),
    ("Rejected", [NUMBER, ("code", CODE)]),
    ("AskAttributes", []),
]
NUMBER_OF = {name: number for number, (name, _) in enumerate(MESSAGE)}

Message = collections.namedtuple("Message", ["name", "fields"])


def write_value(kind, value):
    what = kind[0]
    if what in NUMBERS:
        return value.to_bytes(NUMBERS[what], "big")
    if what == "i64":
        return value.to_bytes(8, "big", signed=True)
    if what == "bool":
        return b"\1" if value else b"\0"
    if what == "hash":
        require(len(value) == 32, "a hash of another length")
        return value
    if what == "bytes":
        return blob(value)
    if what == "string":
        return blob(value.encode())
    if what == "optional":
        return b"\0" if value is None else b"\1" + write_value(kind[1], value)
    if what == "list":
        return u64(len(value)) + b"".join(write_value(kind[1], item) for item in value)
    if what == "choice":
        return u32(kind[1].index(value))
    if what == "fields":
        return write_fields(kind[1], value)
    name, fields = next(iter(value.items())) if isinstance(value, dict) else (value, {})
    names = [variant for variant, _ in kind[1]]
    return u32(names.index(name)) + write_fields(kind[1][names.index(name)][1], fields)


def write_fields(fields, values):
    return b"".join(write_value(kind, values[name]) for name, kind in fields)


def read_value(kind, reader):
    what = kind[0]
    if what in NUMBERS:
        return reader.number(NUMBERS[what])
    if what == "i64":
        return int.from_bytes(reader.array(8), "big", signed=True)
    if what in ("bool", "optional"):
        is_there = reader.optional()
        if what == "bool":
            return is_there
        return read_value(kind[1], reader) if is_there else None
    if what == "hash":
        return reader.array(32)
    if what == "bytes":
        return reader.blob()
    if what == "string":
        return reader.string()
    if what == "list":
        count = reader.number(8)
        require(count * 32 <= len(reader.rest), "a list that is longer than its message")
        return [read_value(kind[1], reader) for _ in range(count)]
    if what == "choice":
        return kind[1][reader.choice(len(kind[1]))]
    if what == "fields":
        return read_fields(kind[1], reader)
    name, fields = kind[1][reader.choice(len(kind[1]))]
    return {name: read_fields(fields, reader)} if fields else name


def read_fields(fields, reader):
    return {name: read_value(kind, reader) for name, kind in fields}


def encode(name, /, **fields):
    """Returns a message with its length in front."""
    number = NUMBER_OF[name]
    message = u32(number) + write_fields(MESSAGE[number][1], fields)
    require(len(message) <= 8192, "a message over the limit")
    return u16(len(message)) + message


def decode(message):
    """Reads a message without its length, and checks what is said of it whatever the state."""
    reader = Reader(message)
    name, kinds = MESSAGE[reader.choice(len(MESSAGE))]
    fields = read_fields(kinds, reader)
    reader.end()
    part = fields.get("part")
    require(part is None or part["index"] < part["count"] <= MAX_PARTS, "a part out of its range")
    for modified in (fields.get("modified"), fields.get("entry", {}).get("modified")):
        require(modified is None or modified["nanoseconds"] < 1_000_000_000, "a time out of its range")
    require(name != "Data" or 1 <= fields["length"] <= MAX_DATA, "Data of a length that may not be")
    require(name != "Hole" or fields["length"] >= 1, "a hole of no bytes")
    require(name != "Hashes" or 1 <= len(fields["hashes"]) <= MAX_HASHES, "too many hashes, or none")
    return Message(name, fields)


# Paths.

RESERVED = re.compile(rb"\..+\.[0-9a-f]{16}\.(part|journal)", re.DOTALL)


def is_reserved(name):
    return any(RESERVED.fullmatch(form) for form in (name, folded(name)))


def folded(name):
    """Returns a name as file systems may see it that tell no case, and leave out what is not seen."""
    plain = bytes(byte for byte in name.lower().replace(b"\xef\xac\x80", b"ff") if byte < 128).rstrip(b". ")
    return plain if name.isascii() else plain[:1] + b"x" + plain[1:]


def is_good_path(path):
    """Whether an entry may be called so."""
    names = path.split(b"/")
    return (
        1 <= len(path) <= 4000 and b"\0" not in path and len(names) <= 256
        and all(1 <= len(name) <= 255 and name not in (b".", b"..") and not is_reserved(name) for name in names)
    )


def is_good_target(path, target):
    return 1 <= len(target) <= 4000 and b"\0" not in target and len(path) + len(target) <= 7000


# Hashes.


def chunk_len(size):
    length = 1 << 20
    while size is not None and length * 4096 < size:
        length *= 2
    return length


def chunk_count(size):
    return -(-size // chunk_len(size))


def chunk_hash(content):
    return blake3(content).digest()


def file_hash(size, held, chunks):
    return blake3(b"sockseal v1 file\0" + u64(size) + u32(held) + b"".join(chunks)).digest()


def source(device, inode, size, mtime, ctime):
    numbers = [device, inode, size, mtime["seconds"], mtime["nanoseconds"], ctime["seconds"], ctime["nanoseconds"]]
    return blake3(b"sockseal v1 source\0" + b"".join(u64(number % 2**64) for number in numbers)).digest()


def part_of(path, count):
    return int.from_bytes(blake3(path).digest()[:8], "big") % count


# The vectors.


def plain(value):
    """Returns a value as it stands in a vector file."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def content(of):
    if "zeros" in of:
        return bytes(of["zeros"])
    return bytes(itertools.islice(itertools.cycle(range(251)), of["pattern"]))


def error_class(stream):
    """Returns the class of the error that bytes on a stream lead to."""
    if len(stream) < 2:
        return "truncated"
    length = int.from_bytes(stream[:2], "big")
    if length > 8192:
        return "too-long"
    if len(stream) < 2 + length:
        return "truncated"
    try:
        message = decode(stream[2:2 + length])
    except Failure:
        return "malformed"
    behind = len(stream) - 2 - length
    return "truncated" if message.name == "Data" and behind < message.fields["length"] else None


def check_message(said):
    framed = bytes.fromhex(said["bytes"])
    require(int.from_bytes(framed[:2], "big") == len(framed) - 2, "a wrong length")
    message = decode(framed[2:])
    require((message.name, plain(message.fields)) == (said["name"], said["fields"]), f"read as {message}")
    require(encode(message.name, **message.fields) == framed, "written differently")


def check_hashes(vectors):
    for row in vectors["chunk_lengths"]:
        require(chunk_len(row["size"]) == row["length"], f"another chunk length: {row}")
        require(row["size"] is None or chunk_count(row["size"]) == row["chunks"], f"other chunks: {row}")
    for row in vectors["chunk_hashes"]:
        require(chunk_hash(content(row["content"])).hex() == row["hash"], f"another hash: {row}")
    for row in vectors["file_hashes"]:
        chunks = [bytes.fromhex(chunk) for chunk in row["chunks"]]
        require(file_hash(row["size"], row["held"], chunks).hex() == row["hash"], f"another hash: {row}")
    for row in vectors["sources"]:
        expected = row.pop("source")
        require(source(**row).hex() == expected, f"another source: {row}")
    for row in vectors["parts"]:
        require(part_of(bytes.fromhex(row["path"]), row["count"]) == row["index"], f"another part: {row}")


def check(vectors):
    """Holds all that a second implementation can have in common with a vector file."""
    said = list(vectors["messages"])
    for exchange in vectors["exchanges"]:
        said += exchange["messages"]
    for message in said:
        check_message(message)
    check_hashes(vectors)
    for row in vectors["reserved_names"]:
        require(is_reserved(bytes.fromhex(row["name"])) == row["is_reserved"], f"a name: {row}")
    for row in vectors["paths"]:
        require(is_good_path(bytes.fromhex(row["path"])) == row["is_valid"], f"a path: {row}")
    for row in vectors["hostile"]:
        require(error_class(bytes.fromhex(row["bytes"])) == row["error"], f"bytes that are refused: {row}")
    return len(said)


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        print(f"{check(json.load(file))} messages")


if __name__ == "__main__":
    main()
