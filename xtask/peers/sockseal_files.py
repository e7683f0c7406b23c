"""Puts, gets and lists files, as the client and as the server (section 7.5 of PROTOCOL.md)."""

import os
import stat

from sockseal_encoding import Refused, blob, require, u32
from sockseal_files_messages import MAX_PATHS, is_good_path
from sockseal_files_receiver import Receiver, beneath
from sockseal_files_sender import (
    Sender, Stream, Unusable, children, code_of, report, shown, stream_entry, walk,
)

ACCESS = ["read", "add", "replace"]
SHARE_ACCESS = {"ro": "read only", "rw": "read write", "drop": "drop"}
PERMITTED = {"read only": ["read"], "read write": ACCESS, "drop": ["add"]}


class Incomplete(Refused):
    """Some entries have failed."""

    code = 1


def target(share, access):
    """Returns the fields of the target behind its number (7.1)."""
    return blob(share.encode()) + u32(ACCESS.index(access))


def part_of_option(text):
    index, count = (text or "0/1").split("/")
    return {"index": int(index), "count": int(count)}


def split(place):
    """Returns the share and the path of NAME:path."""
    share, _, path = place.partition(":")
    return share, os.fsencode(path).strip(b"/")


def choices(options):
    return {
        "existing": options.existing, "preserve": not options.no_preserve, "checksum": options.checksum,
        "verify_disk": options.verify_disk, "dry_run": options.dry_run,
    }


class Failed(Incomplete):
    """The server has refused the request."""

    code = 5


def expect_ready(answer, end):
    """Checks the answer to a request. `end` ends the stream where it is a refusal."""
    if answer.name == "Failed":
        end()
        raise Failed(f"failed: {answer.fields['code']}")
    require(answer.name == "Ready", f"{answer.name} in place of Ready")
    return answer.fields


def root_name(place):
    return os.path.basename(place.rstrip(b"/"))


def put(channel, options):
    """Sends files, the last of the arguments being NAME:destination."""
    *sources, goal = options.files
    share, destination = split(goal)
    part = part_of_option(options.part)
    access = "replace" if options.existing == "replace" else "add"
    channel.open_files(share, access)
    stream = Stream(channel)
    placement = options.placement
    stream.say("Put", destination=destination, placement=placement, options=choices(options), part=part)
    sender = Sender(stream, part, options, options.dry_run, not options.no_preserve)
    if sources == ["-"]:
        name = destination.rsplit(b"/", 1)[-1]
        found = [(name, None, stream_entry(name))]
    else:
        roots = [(root_name(place), place) for place in map(os.fsencode, sources)]
        found = (item for name, place in roots for item in walk(name, place, options.checksum))
    if options.eager_offers:
        sender.handle_first = lambda answer: expect_ready(answer, sender.end)
    else:
        expect_ready(sender.answer(), sender.end)
    sender.run(found, is_get=False)
    if sender.failures:
        raise Incomplete(f"{sender.failures} entries have failed")


def get(channel, options):
    """Fetches files, the last of the arguments being the directory that they come to."""
    *places, goal = options.files
    share = split(places[0])[0]
    paths = [split(place)[1] for place in places]
    part = part_of_option(options.part)
    channel.open_files(share, "read")
    stream = Stream(channel)
    for path in paths:
        stream.say("Path", path=path)
    stream.say("Get", checksum=options.checksum, part=part)
    is_large = expect_ready(stream.next(), stream.end)["is_large"]
    report("ready", b"large" if is_large else b"small")
    roots = None if b"" in paths else {path.rsplit(b"/", 1)[-1] for path in paths}
    receiver = Receiver(stream, os.fsencode(os.path.abspath(goal)), choices(options), options, roots=roots)
    receiver.run(is_get=True, is_first=part["index"] == 0)
    if receiver.failures:
        raise Incomplete(f"{receiver.failures} entries have failed")


def ls(channel, options):
    """Lists what is below NAME:path, or the shares. All that is below it, where the option says so."""
    if options.files:
        share, path = split(options.files[0])
        channel.open_files(share, "read")
    else:
        path = b""
        channel.open_shares()
    stream = Stream(channel)
    stream.say("List", path=path, is_recursive=options.recursive)
    lines = []
    while (message := stream.next()).name != "ListEnd":
        name, fields = message
        if name == "Failed":
            stream.end()
            raise Failed(f"failed: {fields['code']}")
        require(name == "Share" if not options.files else name in ("Listed", "Unreadable"), f"{name} in a listing")
        if name == "Share":
            lines.append(f"{fields['name']} {fields['access']}")
        elif name == "Unreadable":
            lines.append(f"{shown(fields['path'])} {fields['code']}")
        else:
            lines.append(listed(fields["entry"]))
    stream.end()
    print("\n".join(sorted(lines)))


def listed(entry):
    kind = entry["kind"]
    if kind == "directory":
        return f"{shown(entry['path'])}/"
    if "symlink" in kind:
        return f"{shown(entry['path'])} -> {shown(kind['symlink']['target'])}"
    require(kind["file"]["source"] == bytes(32) and kind["file"]["sha256"] is None, "a listing with hashes")
    return f"{shown(entry['path'])} {kind['file']['size']}"


# The server.


def read_shares(options):
    """Returns directory and access of each share, by its name, from arguments NAME=DIR[:ro|rw|drop]."""
    shares = {}
    for text in options:
        name, _, place = text.partition("=")
        place, _, access = place.rpartition(":") if place.endswith((":ro", ":rw", ":drop")) else (place, "", "ro")
        shares[name] = (os.fsencode(os.path.abspath(place)), SHARE_ACCESS[access])
    return shares


def may_open(shares, share, access):
    return share in shares and access in PERMITTED[shares[share][1]]


def serve_shares(channel, shares):
    stream = Stream(channel)
    asked = stream.expect("List")
    if asked.fields["path"]:
        stream.say("Failed", code="bad path")
    else:
        for name in sorted(shares):
            stream.say("Share", name=name, access=shares[name][1])
        stream.say("ListEnd")
    stream.end()


def serve(channel, options, directory, share_access, access):
    """Answers the one request of a stream to files."""
    stream = Stream(channel)
    name, fields = stream.expect("Put", "Path", "Get", "List")
    try:
        if name == "Put":
            serve_put(stream, options, directory, share_access, access, fields)
        elif name == "List":
            serve_list(stream, directory, access, fields)
        else:
            serve_get(stream, options, directory, access, name, fields)
    except Unusable as unusable:
        stream.say("Failed", code=unusable.code)
        channel.end_data()
        while channel.read_data() is not None:
            pass


def judge(condition, code):
    if not condition:
        raise Unusable(code)


def serve_put(stream, options, directory, share_access, access, fields):
    judge(access != "read", "denied")
    judge(access == "replace" or fields["options"]["existing"] != "replace", "denied")
    destination, placement = fields["destination"], fields["placement"]
    judge(not destination or is_good_path(destination), "bad path")
    judge(destination or placement != "as", "bad path")
    names = destination.split(b"/") if destination else []
    place = beneath(directory, names) if names else directory
    is_directory = os.path.isdir(place) and not os.path.islink(place)
    if placement == "automatic":
        placement = "into" if is_directory else "as"
    judge(placement == "as" or is_directory or not os.path.lexists(place), "not directory")
    base, renamed = (names[:-1], names[-1]) if placement == "as" else (names, None)
    receiver = Receiver(
        stream, directory, fields["options"], options, base, renamed, is_drop=share_access == "drop"
    )
    if placement == "into" and names:
        receiver.make(place)
    stream.say("Ready", is_directory=placement == "into", is_large=False)
    receiver.run(is_get=False, is_first=fields["part"]["index"] == 0)


def serve_get(stream, options, directory, access, name, fields):
    judge(access == "read", "denied")
    paths = []
    while name == "Path":
        paths.append(fields["path"])
        judge(len(paths) <= MAX_PATHS, "too many")
        name, fields = stream.expect("Path", "Get")
    judge(paths and (b"" not in paths or len(paths) == 1), "bad path")
    # All comes on the first stream.
    part = {"index": 0, "count": 1} if fields["part"]["index"] == 0 else fields["part"]
    stream.say("Ready", is_directory=False, is_large=False)
    options.checksum = fields["checksum"]
    sender = Sender(stream, part, options)
    sender.run(found_in(directory, paths, fields["checksum"]), is_get=True)


def found_in(directory, paths, checksum):
    for path in paths:
        name = path.rsplit(b"/", 1)[-1]
        if not path:
            yield from children(b"", directory, checksum)
        elif not is_good_path(path):
            yield name, None, "bad path"
        else:
            try:
                yield from walk(name, beneath(directory, path.split(b"/")), checksum)
            except Unusable as unusable:
                yield name, None, unusable.code


def serve_list(stream, directory, access, fields):
    judge(access == "read", "denied")
    path = fields["path"]
    judge(not path or is_good_path(path), "bad path")
    place = beneath(directory, path.split(b"/")) if path else directory
    try:
        is_directory = stat.S_ISDIR(os.lstat(place).st_mode)
        found = walk(path, place, is_listing=True)
        if is_directory:
            found = children(path, place, is_listing=True, is_recursive=fields["is_recursive"])
        for below, _, entry in found:
            if isinstance(entry, str):
                stream.say("Unreadable", path=below, code=entry)
            else:
                stream.say("Listed", entry=entry)
    except OSError as error:
        raise Unusable(code_of(error)) from error
    stream.say("ListEnd")
    stream.end()
