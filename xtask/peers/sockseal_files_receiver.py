"""The receiver of files (section 7.5 of PROTOCOL.md), which is the server in a put and the client in a get.

Whoever changes the directory at the same time could lead this one astray: it looks, and then acts.
"""

import hashlib
import json
import os
import stat

from blake3 import blake3
from sockseal_encoding import Failure, require
from sockseal_files_messages import (
    MAX_HASHES, MAX_OUTSTANDING, chunk_count, chunk_hash, chunk_len, file_hash, is_good_path, is_good_target,
)
from sockseal_files_sender import (
    ZEROS, Unusable, code_of, nanoseconds_of, report, sha256_of,
)


def beneath(directory, names):
    """Returns the place of names below a directory, none of which but the last may be anything but a directory."""
    place = directory
    for name in names[:-1]:
        place = os.path.join(place, name)
        if os.path.lexists(place) and (os.path.islink(place) or not os.path.isdir(place)):
            raise Unusable("not directory")
    return os.path.join(place, names[-1])


class Unfinished:
    """A file that is not complete: its content, and beside it the source that it is of and the hashes of its chunks."""

    def __init__(self, place):
        parent, name = os.path.split(place)
        digits = blake3(b"python\0" + name).hexdigest()[:16].encode()
        self.part = os.path.join(parent, b"." + name[:232] + b"." + digits + b".part")
        self.journal = os.path.join(parent, b"." + name[:229] + b"." + digits + b".journal")
        self.file = None
        self.source, self.hashes = None, []

    def remembered(self, offered, is_known):
        """Returns how many chunks are held, and the hashes of those behind them that may be compared. All are hashed anew."""
        size = offered["size"]
        if size is None or not os.path.isfile(self.part) or os.path.islink(self.part):
            return 0, []
        length = chunk_len(size)
        with open(self.part, "rb") as file:
            there = [chunk_hash(chunk) for chunk in iter(lambda: file.read(length), b"")]
        of_part = os.path.getsize(self.part)
        whole = chunk_count(size) if of_part == size else min(of_part // length, chunk_count(size))
        there = there[:whole]
        said = {}
        if os.path.exists(self.journal):
            with open(self.journal, encoding="ascii") as file:
                said = json.load(file)
        if is_known and offered["source"] != ZEROS and said.get("source") == offered["source"].hex():
            kept = [bytes.fromhex(chunk) for chunk in said["hashes"]]
            held = next((i for i, pair in enumerate(zip(kept, there)) if pair[0] != pair[1]), min(len(kept), len(there)))
            self.hashes = there[:held]
            return held, []
        return 0, there

    def begin(self, offered, at):
        self.source = offered["source"]
        self.file = os.fdopen(os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
        self.file.seek(at)

    def keep(self):
        """Writes down what has arrived, for the next time."""
        self.file.flush()
        os.fsync(self.file.fileno())
        with open(self.journal, "w", encoding="ascii") as file:
            json.dump({"source": self.source.hex(), "hashes": [chunk.hex() for chunk in self.hashes]}, file)

    def remove(self):
        for place in (self.part, self.journal):
            if os.path.lexists(place):
                os.remove(place)


class Wanted:
    """A file that the sender was asked for."""

    def __init__(self, path, place, entry, is_known):
        self.path, self.place, self.entry = path, place, entry
        self.offered = entry["kind"]["file"]
        self.unfinished = Unfinished(place)
        self.held, self.theirs = self.unfinished.remembered(self.offered, is_known)

    def needs_more_than(self, free):
        """Whether what the sender has of the file on its disk does not fit."""
        size, allocated = self.offered["size"], self.offered["allocated"]
        there = (self.held + len(self.theirs)) * chunk_len(size)
        return None not in (size, allocated) and min(size, allocated) - there > free


class Receiver:
    """Answers offers, and stores what comes."""

    def __init__(self, stream, directory, choices, options, base=(), renamed=None, roots=None, is_drop=False):
        self.stream, self.directory, self.choices, self.options = stream, directory, choices, options
        self.base, self.renamed, self.roots, self.is_drop = list(base), renamed, roots, is_drop
        self.wanted, self.made, self.number, self.failures = {}, set(), 0, 0
        self.left = options.stop_after

    def run(self, is_get, is_first):
        has_ended = has_asked = False
        while True:
            if is_get and is_first and has_ended and not self.wanted and not has_asked:
                self.stream.say("AskAttributes")
                has_asked = True
            message = self.stream.next()
            require(message is not None, "the end of the stream before Finish")
            name, fields = message
            if name == "Offer" and not has_ended:
                self.handle_offer(fields["entry"])
            elif name == "Unreadable" and not has_ended:
                report("unreadable", fields["path"], fields["code"])
                self.failures += 1
            elif name == "OffersEnd" and not has_ended:
                has_ended = True
            elif name == "Begin":
                require(fields["number"] in self.wanted, "Begin of what is not wanted")
                self.receive(fields["number"], self.wanted.pop(fields["number"]))
            elif name == "Attributes" and has_ended and not self.wanted and (has_asked or not is_get):
                self.apply(fields)
            elif name == "Finish" and has_ended and not self.wanted and (has_asked or not is_get or not is_first):
                self.stream.say("Finish")
                return self.stream.end()
            else:
                raise Failure(f"{name} where it may not come")

    def place_of(self, path):
        if not is_good_path(path):
            raise Unusable("bad path")
        names = path.split(b"/")
        if self.roots is not None and names[0] not in self.roots:
            raise Unusable("bad path")
        if self.renamed is not None:
            names[0] = self.renamed
        if not is_good_path(b"/".join(self.base + names)):
            raise Unusable("bad path")
        return beneath(self.directory, self.base + names)

    def handle_offer(self, entry):
        number, self.number = self.number, self.number + 1
        require(len(self.wanted) < MAX_OUTSTANDING, "too many offers without an answer")
        try:
            self.store(number, entry)
        except Unusable as unusable:
            self.reject(number, entry["path"], unusable.code)
        except OSError as error:
            self.reject(number, entry["path"], code_of(error))

    def reject(self, number, path, code):
        report("rejected", path, code)
        self.failures += 1
        self.stream.say("Rejected", number=number, code=code)

    def done(self, number, path, place=None, sha256=None):
        name = place and os.path.basename(place)
        report("done", path)
        self.stream.say("Done", number=number, sha256=sha256, stored_as=name)

    def have(self, number, path, sha256=None):
        report("have", path)
        self.stream.say("Have", number=number, sha256=sha256)

    def store(self, number, entry):
        path, kind = entry["path"], entry["kind"]
        place = self.place_of(path)
        there = os.lstat(place) if os.path.lexists(place) else None
        if kind == "directory":
            if there is not None and not stat.S_ISDIR(there.st_mode):
                raise Unusable("exists")
            if there is not None:
                return self.have(number, path)
            self.make(place)
            return self.done(number, path)
        is_file = "file" in kind
        if not is_file and not is_good_target(path, kind["symlink"]["target"]):
            raise Unusable("bad path")
        if there is not None and self.is_same(entry, place, there):
            wants_hash = is_file and self.choices["checksum"]
            return self.have(number, path, sha256_of(place) if wants_hash else None)
        if there is not None:
            if self.choices["existing"] == "refuse":
                raise Unusable("exists")
            if self.choices["existing"] == "rename":
                place = free_name(place)
            elif stat.S_ISDIR(there.st_mode):
                raise Unusable("is directory")
        if self.choices["dry_run"] and is_file:
            return self.stream.say("Want", number=number, held=0, compare=0)
        if self.choices["dry_run"]:
            return self.done(number, path)
        self.make(os.path.dirname(place))
        if is_file:
            return self.want(number, Wanted(path, place, entry, not self.options.compare))
        if os.path.lexists(place):
            os.remove(place)
        os.symlink(kind["symlink"]["target"], place)
        return self.done(number, path, place if place != self.place_of(path) else None)

    def is_same(self, entry, place, there):
        kind = entry["kind"]
        if "symlink" in kind:
            return stat.S_ISLNK(there.st_mode) and os.readlink(place) == kind["symlink"]["target"]
        if not stat.S_ISREG(there.st_mode) or there.st_size != kind["file"]["size"]:
            return False
        if self.choices["checksum"]:
            return kind["file"]["sha256"] == sha256_of(place)
        return self.choices["preserve"] and there.st_mtime_ns == nanoseconds_of(entry["modified"])

    def make(self, place):
        """Makes a directory, and those above it."""
        if self.choices["dry_run"] or os.path.isdir(place):
            return
        self.make(os.path.dirname(place))
        os.mkdir(place)
        self.made.add(place)

    def want(self, number, wanted):
        if wanted.needs_more_than(free_space(os.path.dirname(wanted.place))):
            raise Unusable("no space")
        self.wanted[number] = wanted
        report("want", wanted.path, wanted.held, len(wanted.theirs))
        self.stream.say("Want", number=number, held=wanted.held, compare=len(wanted.theirs))
        for start in range(0, len(wanted.theirs), MAX_HASHES):
            self.stream.say("Hashes", hashes=wanted.theirs[start:start + MAX_HASHES])

    def receive(self, number, wanted):
        size, unfinished = wanted.offered["size"], wanted.unfinished
        length = chunk_len(size)
        unfinished.begin(wanted.offered, wanted.held * length)
        try:
            code = self.receive_chunks(wanted, size, length)
        except Failure:
            unfinished.keep()
            raise
        if code is not None:
            unfinished.keep()
            return self.reject(number, wanted.path, code)
        unfinished.file.flush()
        os.fsync(unfinished.file.fileno())
        unfinished.file.close()
        sha256 = sha256_of(unfinished.part) if self.choices["checksum"] else None
        if sha256 != wanted.sha256:
            return self.reject(number, wanted.path, "mismatch")
        if self.choices["preserve"] and size is not None:
            os.chmod(unfinished.part, wanted.entry["mode"] & 0o777)
            modified = nanoseconds_of(wanted.entry["modified"])
            os.utime(unfinished.part, ns=(modified, modified))
        os.rename(unfinished.part, wanted.place)
        unfinished.remove()
        is_renamed = wanted.place != self.place_of(wanted.path)
        return self.done(number, wanted.path, wanted.place if is_renamed else None, sha256)

    def receive_chunks(self, wanted, size, length):
        """Takes the content of a file up to its End or Abandon. Returns why it has failed, or None."""
        unfinished, code = wanted.unfinished, None
        hashes, at, chunk = [], wanted.held * length, []
        while True:
            name, fields = self.stream.expect("Data", "Hole", "ChunkEnd", "Same", "End", "Abandon")
            here = sum(map(len, chunk))
            room = length - here if size is None else min(length - here, size - at - here)
            if name in ("Data", "Hole"):
                require(fields["length"] <= room, f"{name} beyond the end of the chunk")
                is_data = name == "Data"
                chunk.append(self.stream.content(fields["length"]) if is_data else bytes(fields["length"]))
                self.count(fields["length"] if is_data else 0)
            elif name == "Same":
                index = at // length - wanted.held
                require(not chunk and index < len(wanted.theirs), "Same for a chunk that was not compared")
                hashes.append(wanted.theirs[index])
                unfinished.hashes.append(hashes[-1])
                at += min(length, size - at)
                unfinished.file.seek(at)
            elif name == "ChunkEnd":
                require(here > 0 and (size is None or room == 0), "ChunkEnd in the middle of a chunk")
                content, chunk = b"".join(chunk), []
                hashes.append(chunk_hash(content))
                if hashes[-1] != fields["hash"]:
                    code = code or "mismatch"
                if code is None:
                    unfinished.file.write(content)
                    unfinished.hashes.append(hashes[-1])
                at += len(content)
            elif name == "End":
                require(not chunk and size in (None, at), "End in the middle")
                unfinished.file.truncate(at)
                wanted.sha256 = fields["sha256"] if size is None else wanted.offered["sha256"]
                return code or (None if fields["hash"] == file_hash(at, wanted.held, hashes) else "mismatch")
            else:
                return fields["code"]

    def count(self, received):
        if self.left is not None:
            self.left -= received
            if self.left <= 0:
                raise Failure("stopped, as it was told")

    def apply(self, fields):
        """Gives a directory its mode and time."""
        try:
            place = self.place_of(fields["path"])
        except Unusable:
            return
        if not self.choices["preserve"] or os.path.islink(place) or not os.path.isdir(place):
            return
        if self.is_drop and place not in self.made:
            return
        os.chmod(place, fields["mode"] & 0o777)
        modified = nanoseconds_of(fields["modified"])
        os.utime(place, ns=(modified, modified))


def free_space(directory):
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def free_name(place):
    parent, name = os.path.split(place)
    at = name.rfind(b".")
    stem, extension = (name[:at], name[at:]) if at > 0 else (name, b"")
    for number in range(1, 1000):
        free = os.path.join(parent, b"%s (%d)%s" % (stem, number, extension))
        if not os.path.lexists(free):
            return free
    raise Unusable("exists")
