"""The sender of files (section 7.5 of PROTOCOL.md), which is the client in a put and the server in a get.

`--fault` makes it offer, or send, what may not be.
"""

import collections
import hashlib
import os
import queue
import stat
import sys
import threading

from sockseal_encoding import Failure, require
from sockseal_files_messages import (
    MAX_OUTSTANDING, chunk_count, chunk_hash, chunk_len, decode, encode, file_hash, is_reserved, part_of, source,
)

ZEROS = bytes(32)
PIECE = 1 << 16


class Unusable(Exception):
    """One entry has failed, and the rest goes on. `code` is a code of section 7.5."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def code_of(error):
    """Returns the code for an error of the system."""
    return {
        FileExistsError: "exists", FileNotFoundError: "not found", PermissionError: "denied",
        NotADirectoryError: "not directory", IsADirectoryError: "is directory",
    }.get(type(error), "io")


def shown(name):
    """Returns bytes as text of a line of its own."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in name)


def report(what, path, *more):
    words = [what, shown(path), *map(str, more)]
    print(*words, file=sys.stderr, flush=True)


class Stream:
    """The messages on a stream, and the content between them."""

    def __init__(self, channel):
        self.channel = channel
        self.received = bytearray()

    def fill(self, length):
        """Reads until so many bytes are there, or the stream has ended."""
        while len(self.received) < length:
            piece = self.channel.read_data()
            if piece is None:
                return False
            self.received += piece
        return True

    def content(self, length):
        require(self.fill(length), "the end of the stream within content")
        taken = bytes(self.received[:length])
        del self.received[:length]
        return taken

    def next(self):
        """Returns the next message, or None at the end of the stream."""
        if not self.fill(1):
            return None
        length = int.from_bytes(self.content(2), "big")
        require(length <= 8192, "a message over the limit")
        return decode(self.content(length))

    def expect(self, *names):
        message = self.next()
        require(message is not None and message.name in names, f"{message} in place of {names}")
        return message

    def say(self, name, /, **fields):
        self.channel.send_data(encode(name, **fields))

    def say_data(self, content):
        self.channel.send_data(encode("Data", length=len(content)) + content)

    def end(self):
        """Ends both directions, behind the last message."""
        self.channel.end_data()
        require(self.next() is None, "something behind the last message")


def time_of(nanoseconds):
    return {"seconds": nanoseconds // 10**9, "nanoseconds": nanoseconds % 10**9}


def nanoseconds_of(modified):
    return modified["seconds"] * 10**9 + modified["nanoseconds"]


def source_of(status):
    return source(
        status.st_dev, status.st_ino, status.st_size, time_of(status.st_mtime_ns), time_of(status.st_ctime_ns)
    )


def sha256_of(place):
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def entry_of(path, place, checksum=False, is_listing=False):
    """Returns the entry for what is at a place."""
    status = os.lstat(place)
    if stat.S_ISREG(status.st_mode):
        kind = {"file": {
            "size": status.st_size, "allocated": None if is_listing else min(status.st_blocks * 512, status.st_size),
            "source": ZEROS if is_listing else source_of(status),
            "sha256": sha256_of(place) if checksum else None,
        }}
    elif stat.S_ISDIR(status.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(status.st_mode):
        kind = {"symlink": {"target": os.readlink(place)}}
    else:
        raise Unusable("unsupported kind")
    return {"path": path, "kind": kind, "mode": status.st_mode & 0o777, "modified": time_of(status.st_mtime_ns)}


def walk(path, place, checksum=False, is_listing=False, is_recursive=True):
    """Yields an entry, or a code, for what is at a place and in it, with its path and place. A path of no bytes has no entry of its own."""
    try:
        entry = entry_of(path, place, checksum, is_listing)
        if path:
            yield path, place, entry
        if entry["kind"] == "directory" and is_recursive:
            yield from children(path, place, checksum, is_listing)
    except OSError as error:
        yield path, place, code_of(error)
    except Unusable as unusable:
        yield path, place, unusable.code


def children(path, place, checksum=False, is_listing=False, is_recursive=True):
    for name in sorted(os.listdir(place)):
        if not is_reserved(name):
            below = path + b"/" + name if path else name
            yield from walk(below, os.path.join(place, name), checksum, is_listing, is_recursive)


class Sender:
    """Offers what was found, and sends what is wanted. A thread of its own reads the answers meanwhile."""

    def __init__(self, stream, part, options, is_dry_run=False, preserve=True):
        self.stream, self.part, self.options = stream, part, options
        self.is_dry_run, self.preserve = is_dry_run, preserve
        self.pending, self.number, self.left = {}, 0, options.stop_after
        self.directories, self.failures = [], 0
        # For the answer to a request that offers have followed at once.
        self.handle_first = None
        self.read, self.kept = queue.Queue(), collections.deque()
        threading.Thread(target=self.read_answers, daemon=True).start()

    def read_answers(self):
        try:
            while (message := self.stream.next()) is not None:
                self.read.put(message)
            self.read.put(None)
        except Failure as failure:
            self.read.put(failure)

    def answer(self, wait=True):
        """Returns the next answer; None where there is none yet and none is waited for."""
        if self.kept:
            return self.kept.popleft()
        try:
            answer = self.read.get(wait)
        except queue.Empty:
            return None
        if isinstance(answer, Failure):
            raise answer
        require(answer is not None, "the end of the stream before Finish")
        return answer

    def run(self, found, is_get):
        above = []
        for path, place, entry in found:
            is_file = isinstance(entry, dict) and isinstance(entry["kind"], dict) and "file" in entry["kind"]
            if self.part["index"] != (part_of(path, self.part["count"]) if is_file else 0):
                if isinstance(entry, dict) and entry["kind"] == "directory":
                    above.append((path, place, entry))
                continue
            # On another stream than the first, directories come only before what is in them.
            above = [directory for directory in above if path.startswith(directory[0] + b"/")]
            for directory in above:
                self.wait_for_answers()
                self.offer(*directory)
            above = []
            if isinstance(entry, str):
                report("unreadable", path, entry)
                self.failures += 1
                self.stream.say("Unreadable", path=path, code=entry)
                continue
            self.wait_for_answers()
            self.offer(path, place, entry)
            # Once a file is whole, the end would not be early.
            while self.options.fault != "files-early-finish" and (answer := self.answer(wait=False)):
                self.handle(answer)
        for entry in bad_entries(self.options.fault):
            self.offer(entry["path"], None, entry)
        self.stream.say("OffersEnd")
        if self.options.fault == "files-early-finish":
            self.stream.say("Finish")
        while self.pending or self.handle_first:
            self.handle(self.answer())
        if self.part["index"] == 0:
            self.say_attributes(is_get)
        self.stream.say("Finish")
        require(self.answer().name == "Finish", "something in place of Finish")
        self.end()

    def end(self):
        """Ends both directions, behind the last message."""
        self.stream.channel.end_data()
        require(self.read.get() is None, "something behind the last message")

    def wait_for_answers(self):
        while len(self.pending) >= MAX_OUTSTANDING:
            self.handle(self.answer())

    def say_attributes(self, is_get):
        if is_get:
            require(self.answer().name == "AskAttributes", "something in place of AskAttributes")
        elif self.is_dry_run or not self.preserve:
            return
        for entry in reversed(self.directories):
            self.stream.say("Attributes", path=entry["path"], mode=entry["mode"], modified=entry["modified"])

    def offer(self, path, place, entry):
        if entry["kind"] == "directory":
            self.directories.append(entry)
        if self.options.fault == "files-allocated" and "file" in entry["kind"]:
            entry["kind"]["file"]["allocated"] = 2**64 - 1
        self.pending[self.number] = (path, place, entry)
        self.number += 1
        self.stream.say("Offer", entry=entry)

    def handle(self, message):
        if self.handle_first:
            self.handle_first(message)
            self.handle_first = None
            return
        name, fields = message
        require(name in ("Have", "Want", "Done", "Rejected"), f"{name} from a receiver")
        number = fields["number"]
        require(number in self.pending, "an answer to no offer")
        path, _, entry = self.pending[number]
        if name == "Want":
            require("file" in entry["kind"], "Want for what is no file")
            size = entry["kind"]["file"]["size"]
            chunks = 0 if size is None else chunk_count(size)
            require(fields["held"] + fields["compare"] <= chunks, "more chunks than the file has")
            report("want", path, fields["held"], fields["compare"])
            theirs = []
            while len(theirs) < fields["compare"]:
                hashes = self.answer()
                require(hashes.name == "Hashes", f"{hashes.name} in place of Hashes")
                theirs += hashes.fields["hashes"]
            require(len(theirs) == fields["compare"], "too many hashes")
            if self.is_dry_run:
                del self.pending[number]
            else:
                self.send(number, fields["held"], theirs)
            return
        del self.pending[number]
        if name == "Rejected":
            self.failures += 1
            report("rejected", path, fields["code"])
        elif name == "Done":
            stored_as = fields["stored_as"]
            report("done", path, *[shown(stored_as)] if stored_as else [])
        else:
            report("have", path)

    def send(self, number, held, theirs):
        """Sends the content of a file from its first chunk that is not held."""
        _, place, entry = self.pending[number]
        offered = entry["kind"]["file"]
        self.stream.say("Begin", number=number)
        try:
            if place is None:
                self.send_chunks(number, sys.stdin.buffer, None, held, theirs)
            else:
                with open(place, "rb") as file:
                    if source_of(os.fstat(file.fileno())) != offered["source"]:
                        raise Unusable("changed")
                    self.send_chunks(number, file, offered, held, theirs)
        except OSError as error:
            self.stream.say("Abandon", code=code_of(error))
        except Unusable as unusable:
            self.stream.say("Abandon", code=unusable.code)

    def send_chunks(self, number, file, offered, held, theirs):
        size = offered and offered["size"]
        length = chunk_len(size)
        file_sha256 = hashlib.sha256()
        hashes, sent = [], held * length
        if held:
            file.seek(sent)
        while content := file.read(length):
            file_sha256.update(content)
            sent += len(content)
            hashes.append(chunk_hash(content))
            self.send_chunk(content, hashes[-1], theirs[len(hashes) - 1:len(hashes)])
            self.look_for_rejection(number)
        if offered and (sent != size or source_of(os.fstat(file.fileno())) != offered["source"]):
            raise Unusable("changed")
        digest = self.harm("files-end", file_hash(sent, held, hashes))
        sha256 = file_sha256.digest() if offered is None and self.options.checksum else None
        self.stream.say("End", hash=digest, sha256=sha256)

    def send_chunk(self, content, digest, theirs):
        if theirs == [digest]:
            return self.stream.say("Same")
        if not any(content) and self.options.fault != "files-more":
            self.stream.say("Hole", length=len(content))
        else:
            for start in range(0, len(content), PIECE):
                piece = content[start:start + PIECE]
                self.stream.say_data(piece)
                if self.left is not None:
                    self.left -= len(piece)
                    if self.left <= 0:
                        raise Failure("stopped, as it was told")
        if self.options.fault == "files-more":
            self.stream.say_data(b"more")
        self.stream.say("ChunkEnd", hash=self.harm("files-chunk", digest))

    def harm(self, fault, digest):
        return bytes([digest[0] ^ 1]) + digest[1:] if self.options.fault == fault else digest

    def look_for_rejection(self, number):
        while not self.read.empty():
            answer = self.read.get()
            if isinstance(answer, Failure):
                raise answer
            require(answer is not None, "the end of the stream before Finish")
            self.kept.append(answer)
            if answer.name == "Rejected" and answer.fields["number"] == number:
                raise Unusable(answer.fields["code"])


def bad_entries(fault):
    """Entries that a receiver has to reject, and to do nothing for."""
    entry = {"mode": 0o4777, "modified": time_of(0)}
    empty = {"file": {"size": 0, "allocated": 0, "source": ZEROS, "sha256": None}}
    if fault == "files-paths":
        paths = [
            b"", b"/", b"/tmp/escaped", b"../escaped", b"root/../../escaped", b"root//escaped", b"root/./escaped",
            b"root/escaped/", b"root/\0escaped", b"root/" + b"n" * 256, b"root/" + b"d/" * 300 + b"escaped",
            b"root/.escaped.0123456789abcdef.part", b"root/.escaped.0123456789abcdef.journal",
        ]
        for path in paths:
            for kind in (empty, "directory", {"symlink": {"target": b"/"}}):
                yield {**entry, "path": path, "kind": kind}
    elif fault == "files-links":
        for target in (b"..", b"/tmp", b"../.."):
            link = b"root/link " + target.replace(b"/", b"|")
            yield {**entry, "path": link, "kind": {"symlink": {"target": target}}}
            yield {**entry, "path": link + b"/escaped", "kind": empty}
            yield {**entry, "path": link + b"/escaped too", "kind": "directory"}
    elif fault == "files-unasked":
        yield {**entry, "path": b"unasked", "kind": empty}
        yield {**entry, "path": b"unasked too", "kind": "directory"}
        yield {**entry, "path": b"unasked too/escaped", "kind": empty}


def stream_entry(name):
    """Returns the entry for what is read from standard input."""
    kind = {"file": {"size": None, "allocated": None, "source": ZEROS, "sha256": None}}
    return {"path": name, "kind": kind, "mode": 0, "modified": time_of(0)}
