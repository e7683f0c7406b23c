//! All that can be done in a directory with a name.

use std::io::{self, Read as _, Write as _};

use files::directory::Directory;
use wire_protocol::message::FileTime;

/// An operation with its name.
pub(crate) type Operation = (&'static str, fn(&Directory, &[u8]) -> io::Result<()>);

/// A time that nothing else has.
pub(crate) const TIME: FileTime = FileTime { seconds: 1_000_000_007, nanoseconds: 123_456_789 };

pub(crate) const OPERATIONS: [Operation; 15] = [
    ("open_directory", |directory, name| directory.open_directory(name).map(drop)),
    ("stat", |directory, name| directory.stat(name).map(drop)),
    ("open_file", |directory, name| {
        let mut content = String::new();
        directory.open_file(name)?.read_to_string(&mut content).map(drop)
    }),
    ("open_partial", |directory, name| directory.open_partial(name)?.write_all(b"written")),
    ("create_new", |directory, name| directory.create_new(name, 0o666)?.write_all(b"written")),
    ("make_directory", Directory::make_directory),
    ("read_link", |directory, name| directory.read_link(name).map(drop)),
    ("make_link", |directory, name| directory.make_link(b"target", name)),
    ("rename to", |directory, name| directory.rename(b"source", name)),
    ("rename_new to", |directory, name| directory.rename_new(b"source", name)),
    ("rename from", |directory, name| directory.rename(name, b"renamed")),
    ("rename_new from", |directory, name| directory.rename_new(name, b"renamed")),
    ("remove", Directory::remove),
    ("set_attributes", |directory, name| directory.set_attributes(name, 0o700, TIME)),
    ("set_link_time", |directory, name| directory.set_link_time(name, TIME)),
];
