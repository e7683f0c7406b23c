//! The receiver's end of an exchange, said and heard message by message.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use files::control::Unlimited;
use files::error::Error;
use files::event::Event;
use files::filter::Filter;
use files::framing::{MessageReader, MessageWriter};
use files::root::Root;
use files::sender::{Ending, Sender, Sources};
use wire_protocol::message::*;

use super::memory_stream::{MemoryInput, MemoryOutput, pair};

/// The receiver's end.
pub(super) struct Peer {
    reader: MessageReader<MemoryInput>,
    writer: MessageWriter<MemoryOutput>,
}

/// Content as it has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) number: u32,
    /// Byte by byte, with what was the same left out.
    pub(super) bytes: Vec<u8>,
    pub(super) chunks: Vec<[u8; HASH_LEN]>,
    pub(super) same: Vec<usize>,
    pub(super) holes: u64,
    pub(super) end: Option<[u8; HASH_LEN]>,
    pub(super) sha256: Option<[u8; HASH_LEN]>,
    pub(super) abandoned: Option<FilesCode>,
}

impl Peer {
    pub(super) fn say(&self, message: FilesMessage) {
        self.writer.say(&message).unwrap();
        self.writer.flush().unwrap();
    }

    pub(super) fn next(&mut self) -> FilesMessage {
        self.reader.next().unwrap().expect("the sender goes on")
    }

    /// The offers, with their numbers, and what is unreadable, until there are no more.
    pub(super) fn offers(&mut self) -> (BTreeMap<String, (u32, Entry)>, BTreeMap<String, FilesCode>) {
        let (mut offers, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        let mut number = 0;
        loop {
            match self.next() {
                FilesMessage::Offer { entry } => {
                    let path = String::from_utf8_lossy(&entry.path).into_owned();
                    assert!(offers.insert(path, (number, entry)).is_none());
                    number += 1;
                }
                FilesMessage::Unreadable { path, code } => {
                    unreadable.insert(String::from_utf8_lossy(&path).into_owned(), code);
                }
                FilesMessage::OffersEnd => return (offers, unreadable),
                other => panic!("{other:?} among the offers"),
            }
        }
    }

    pub(super) fn want(&self, number: u32) {
        self.say(FilesMessage::Want { number, held: 0, compare: 0 });
    }

    pub(super) fn have(&self, number: u32) {
        self.say(FilesMessage::Have { number, sha256: None });
    }

    pub(super) fn done(&self, number: u32) {
        self.say(FilesMessage::Done { number, sha256: None, stored_as: None });
    }

    pub(super) fn reject(&self, number: u32, code: FilesCode) {
        self.say(FilesMessage::Rejected { number, code });
    }

    /// The content of a file, with each chunk's hash checked.
    pub(super) fn content(&mut self) -> Content {
        match self.next() {
            FilesMessage::Begin { number } => self.rest_of_content(number),
            other => panic!("{other:?} in place of content"),
        }
    }

    pub(super) fn rest_of_content(&mut self, number: u32) -> Content {
        let mut content = Content { number, ..Content::default() };
        let mut start = 0;
        loop {
            match self.next() {
                FilesMessage::Data { length } => {
                    let bytes = &mut content.bytes;
                    let sink = |pieces: &[&[u8]]| {
                        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
                        Ok::<_, Error>(())
                    };
                    self.reader.content(length, MAX_DATA_LEN, sink).unwrap();
                }
                FilesMessage::Hole { length } => {
                    assert!(length > 0);
                    content.holes += length;
                    content.bytes.resize(content.bytes.len() + usize::try_from(length).unwrap(), 0);
                }
                FilesMessage::ChunkEnd { hash } => {
                    assert_eq!(hash, *blake3::hash(&content.bytes[start..]).as_bytes());
                    start = content.bytes.len();
                    content.chunks.push(hash);
                }
                FilesMessage::Same => content.same.push(content.chunks.len() + content.same.len()),
                FilesMessage::End { hash, sha256 } => {
                    assert_eq!(start, content.bytes.len(), "the last chunk has ended");
                    (content.end, content.sha256) = (Some(hash), sha256);
                    return content;
                }
                FilesMessage::Abandon { code } => {
                    content.abandoned = Some(code);
                    return content;
                }
                other => panic!("{other:?} within content"),
            }
        }
    }

    /// Asks for the attributes of directories and ends: gives their paths in the order in which they came.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.say(FilesMessage::AskAttributes);
        let attributes = self.attributes();
        self.end();
        attributes
    }

    /// What comes until Finish.
    pub(super) fn attributes(&mut self) -> Vec<String> {
        let mut attributes = Vec::new();
        loop {
            match self.next() {
                FilesMessage::Attributes { path, .. } => {
                    attributes.push(String::from_utf8_lossy(&path).into_owned());
                }
                FilesMessage::Finish => return attributes,
                other => panic!("{other:?} at the end"),
            }
        }
    }

    /// Ends behind the sender's Finish.
    pub(super) fn end(mut self) {
        self.say(FilesMessage::Finish);
        self.writer.shutdown().unwrap();
        assert_eq!(self.reader.next().unwrap(), None);
    }

    /// Ends early.
    pub(super) fn leave(self) {
        self.writer.shutdown().unwrap();
    }

    pub(super) fn reader(&mut self) -> &mut MessageReader<MemoryInput> {
        &mut self.reader
    }
}

/// The hash of a file with these chunks.
pub(super) fn file_hash(size: u64, held: u32, chunks: &[[u8; HASH_LEN]]) -> [u8; HASH_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sockseal v1 file\0").update(&size.to_be_bytes()).update(&held.to_be_bytes());
    for chunk in chunks {
        hasher.update(chunk);
    }
    *hasher.finalize().as_bytes()
}

/// A sender of `path` as in a Get.
pub(super) fn sender<'a>(path: &Path, filter: &'a Filter) -> Sender<'a> {
    Sender {
        sources: Sources::Roots(vec![Root::new(path).unwrap()]),
        filter,
        part: Part::WHOLE,
        has_checksums: false,
        is_dry_run: false,
        ending: Ending::Asked,
    }
}

/// Runs `sender` against what `script` does at the other end.
pub(super) fn run(sender: Sender<'_>, script: impl FnOnce(Peer) + Send) -> (Result<(), Error>, Vec<Event>) {
    let ((mut reader, writer), (their_reader, their_writer)) = pair();
    let events = Mutex::new(Vec::new());
    let result = thread::scope(|scope| {
        let peer = Peer { reader: their_reader, writer: their_writer };
        scope.spawn(move || script(peer));
        let mut tell = |event| events.lock().unwrap().push(event);
        let result = sender.run(&mut reader, &writer, None, &Unlimited, &mut tell);
        // Nothing that the script waits for comes any more.
        drop((reader, writer));
        result
    });
    (result, events.into_inner().unwrap())
}
