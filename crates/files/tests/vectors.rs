//! The test vectors of files (PROTOCOL.md, section 7.5), held against what this crate makes of paths, names and content.

use std::io::{self, BufRead, IoSliceMut, Read, Write};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use files::chunks::{ChunkHasher, FileHasher, chunk_count, chunk_len, part_of, source_identity};
use files::claims::Claims;
use files::control::{Unbounded, Unlimited};
use files::directory::{Directory, Kind, Status};
use files::error::Error;
use files::framing::{Input, MessageReader, MessageWriter, Output};
use files::path::{RelativePath, is_reserved, journal_name, part_name};
use files::serve::{Share, serve};
use serde_json::Value;
use wire_protocol::message::{FileTime, FilesAccess, FilesMessage, MAX_DATA_LEN, ShareAccess};

const FILES: &str = include_str!("../../wire-protocol/tests/vectors/files.json");

fn list(name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(FILES).expect("a vector file is JSON");
    let list = file[name].as_array().expect("a list of that name");
    assert!(!list.is_empty(), "an empty list tests nothing");
    list.clone()
}

#[track_caller]
fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hexadecimal")
}

#[track_caller]
fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("a hash has 32 bytes")
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn small<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(number(value)).ok().expect("a small number")
}

#[test]
fn files_are_cut_in_the_recorded_chunks() {
    for row in list("chunk_lengths") {
        let size = row["size"].as_u64();
        assert_eq!(chunk_len(size), number(&row["length"]), "{row}");
        if let Some(size) = size {
            assert_eq!(u64::from(chunk_count(size)), number(&row["chunks"]), "{row}");
        }
    }
}

#[test]
fn content_has_the_recorded_hashes() {
    for row in list("chunk_hashes") {
        let mut hasher = ChunkHasher::new();
        match row["content"]["pattern"].as_u64() {
            Some(length) => {
                let length = usize::try_from(length).unwrap();
                let content: Vec<u8> = (0..=250).cycle().take(length).collect();
                // As it comes: in pieces.
                content.chunks(10_000).for_each(|piece| hasher.update(piece));
            }
            None => hasher.update_zeros(number(&row["content"]["zeros"])),
        }
        assert_eq!(hasher.finish(), array(&row["hash"]), "{row}");
    }
    for row in list("file_hashes") {
        let mut hasher = FileHasher::new(number(&row["size"]), small(&row["held"]));
        row["chunks"].as_array().unwrap().iter().for_each(|chunk| hasher.add(&array(chunk)));
        assert_eq!(hasher.finish(), array(&row["hash"]), "{row}");
    }
}

#[test]
fn sources_and_parts_are_the_recorded_ones() {
    let time = |value: &Value| FileTime {
        seconds: value["seconds"].as_i64().unwrap(),
        nanoseconds: small(&value["nanoseconds"]),
    };
    for row in list("sources") {
        let status = Status {
            kind: Kind::File,
            size: number(&row["size"]),
            mode: 0o600,
            modified: time(&row["mtime"]),
            dev: number(&row["device"]),
            ino: number(&row["inode"]),
            ctime: time(&row["ctime"]),
            links: 1,
            allocated: 0,
        };
        assert_eq!(source_identity(&status), array(&row["source"]), "{row}");
    }
    for row in list("parts") {
        let index = part_of(&bytes(&row["path"]), small(&row["count"]));
        assert_eq!(u64::from(index), number(&row["index"]), "{row}");
    }
}

#[test]
fn names_and_paths_are_judged_as_recorded() {
    for row in list("unfinished_names") {
        let (owner, name) = (bytes(&row["owner"]), bytes(&row["name"]));
        assert_eq!(part_name(&owner, &name), bytes(&row["part"]), "{row}");
        assert_eq!(journal_name(&owner, &name), bytes(&row["journal"]), "{row}");
    }
    for row in list("reserved_names") {
        assert_eq!(Some(is_reserved(&bytes(&row["name"]))), row["is_reserved"].as_bool(), "{row}");
    }
    for row in list("paths") {
        let path = RelativePath::parse(&bytes(&row["path"]));
        let may_be_offered = path.is_ok_and(|path| !path.has_reserved_name());
        assert_eq!(Some(may_be_offered), row["is_valid"].as_bool(), "{row}");
    }
}

/// Bytes that have arrived, and then the end.
struct Arrived<'a>(&'a [u8]);

impl Read for Arrived<'_> {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        self.0.read(place)
    }
}

impl BufRead for Arrived<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.0)
    }

    fn consume(&mut self, len: usize) {
        self.0 = &self.0[len..];
    }
}

impl Input for Arrived<'_> {
    fn has_received(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn what_is_no_message_is_refused_for_the_reason_given() {
    for case in list("hostile") {
        let arrived = bytes(&case["bytes"]);
        let mut reader = MessageReader::new(Arrived(&arrived));
        let outcome = match reader.next() {
            Ok(Some(FilesMessage::Data { length })) => {
                reader.content(length, MAX_DATA_LEN, |_| Ok::<_, Error>(()))
            }
            other => other.map(drop),
        };
        let class = match outcome {
            Err(Error::Protocol(_)) => "protocol",
            Err(Error::Channel(error)) if error.kind() == io::ErrorKind::UnexpectedEof => "truncated",
            other => panic!("{case}: {other:?}"),
        };
        let expected = if case["error"] == "truncated" { "truncated" } else { "protocol" };
        assert_eq!(class, expected, "{case}");
    }
}

/// Takes all that is said, and gives it to nobody.
#[derive(Debug)]
struct Unheard;

impl Write for Unheard {
    fn write(&mut self, said: &[u8]) -> io::Result<usize> {
        Ok(said.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Unheard {
    fn write_with(
        &mut self,
        _most: usize,
        _fill: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        panic!("a receiver sends no content")
    }

    fn keep_alive(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a server makes of a client that says all this and then ends its stream.
fn served(said: &[u8]) -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let share = Share {
        directory: Directory::open_trusted(folder.path()).expect("a directory"),
        access: ShareAccess::ReadWrite,
        room: Arc::new(Unbounded),
        claims: Claims::new(),
        end: None,
    };
    let mut reader = MessageReader::new(Arrived(said));
    let writer = MessageWriter::new(Unheard);
    serve(&mut reader, &writer, &share, FilesAccess::Add, b"client", &Unlimited, &mut |_| {}).map(drop)
}

#[test]
fn what_a_client_may_not_say_ends_a_put_and_nothing_before_it_does() {
    for case in list("violations") {
        let said: Vec<Vec<u8>> = case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|said| {
                let content = said.get("content").map(bytes).unwrap_or_default();
                [bytes(&said["bytes"]), content].concat()
            })
            .collect();
        let (last, before) = said.split_last().unwrap();
        let before = before.concat();
        if !before.is_empty() {
            match served(&before) {
                Ok(()) | Err(Error::Channel(_)) => {}
                Err(Error::Protocol(text)) => {
                    assert!(text.contains("stream ends"), "{}: too early: {text}", case["name"]);
                }
                Err(other) => panic!("{}: too early: {other}", case["name"]),
            }
        }
        match served(&[&before[..], last].concat()) {
            Err(Error::Protocol(text)) => {
                assert!(!text.contains("stream ends"), "{}: too late: {text}", case["name"]);
            }
            other => panic!("{}: {other:?}", case["name"]),
        }
    }
}
