//! A sender that a test writes message by message, and a receiver on the other end of a stream in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use files::chunks::{ChunkHasher, FileHasher, chunk_len};
use files::control::Unlimited;
use files::directory::Directory;
use files::error::Error;
use files::event::Event;
use files::framing::{MessageReader, MessageWriter};
use files::path::RelativePath;
use files::receiver::{Placed, Receiver};
use wire_protocol::message::{
    Entry, EntryKind, Existing, FileTime, FilesCode, FilesMessage, TransferOptions,
};

use super::memory_stream::{MemoryInput, MemoryOutput, pair};

/// The chunk of a file that is not large.
pub(super) const CHUNK: usize = 1 << 20;

pub(super) const OPTIONS: TransferOptions = TransferOptions {
    existing: Existing::Refuse,
    preserve: true,
    checksum: false,
    verify_disk: false,
    dry_run: false,
};

pub(super) const MODIFIED: FileTime = FileTime { seconds: 1_600_000_000, nanoseconds: 123_456_789 };

pub(super) type Hash = [u8; 32];

/// A file that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentFile {
    pub(super) path: Vec<u8>,
    pub(super) content: Vec<u8>,
    /// Stands for its source.
    pub(super) source: Hash,
}

impl SentFile {
    pub(super) fn new(path: &str, content: Vec<u8>) -> Self {
        let source = *blake3::hash(&content).as_bytes();
        Self { path: path.into(), content, source }
    }

    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.content.len()).unwrap()
    }

    pub(super) fn entry(&self) -> Entry {
        entry(&self.path, file(Some(self.size()), self.source))
    }
}

pub(super) fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o640, modified: MODIFIED }
}

pub(super) fn file(size: Option<u64>, source: Hash) -> EntryKind {
    EntryKind::File { size, allocated: None, source, sha256: None }
}

/// Content that differs from place to place.
pub(super) fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut content = vec![0; length];
    random.fill(&mut content);
    content
}

pub(super) fn chunk_hash(content: &[u8]) -> Hash {
    let mut hasher = ChunkHasher::new();
    hasher.update(content);
    hasher.finish()
}

/// The hash of a file of which the receiver has the first `held` chunks.
pub(super) fn file_hash(content: &[u8], held: u32) -> Hash {
    let size = u64::try_from(content.len()).unwrap();
    let chunk = usize::try_from(chunk_len(Some(size))).unwrap();
    let mut hasher = FileHasher::new(size, held);
    for chunk in content.chunks(chunk).skip(usize::try_from(held).unwrap()) {
        hasher.add(&chunk_hash(chunk));
    }
    hasher.finish()
}

/// The sender's end of a stream.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) reader: MessageReader<MemoryInput>,
    pub(super) writer: MessageWriter<MemoryOutput>,
}

impl Peer {
    pub(super) fn say(&self, message: &FilesMessage) -> Result<(), Error> {
        self.writer.say(message)?;
        self.writer.flush()
    }

    /// Says something that the receiver may not live to read.
    pub(super) fn try_say(&self, message: &FilesMessage) {
        let _ = self.say(message);
    }

    pub(super) fn offer(&self, entry: Entry) {
        self.say(&FilesMessage::Offer { entry }).unwrap();
    }

    pub(super) fn next(&mut self) -> FilesMessage {
        self.reader.next().unwrap().expect("the receiver says something")
    }

    /// Sends a piece of content, and waits for nothing.
    pub(super) fn data(&self, content: &[u8]) {
        let _ = self.writer.say_content(content).and_then(|()| self.writer.flush());
    }

    /// Sends the chunks of a file, from the one that is wanted on.
    pub(super) fn chunks(&self, content: &[u8], held: u32, theirs: &[Hash]) -> Result<(), Error> {
        let mut theirs = theirs.iter();
        let size = u64::try_from(content.len()).unwrap();
        let chunk = usize::try_from(chunk_len(Some(size))).unwrap();
        for chunk in content.chunks(chunk).skip(usize::try_from(held).unwrap()) {
            let hash = chunk_hash(chunk);
            if theirs.next() == Some(&hash) {
                self.writer.say(&FilesMessage::Same)?;
                continue;
            }
            for piece in chunk.chunks(300_000) {
                self.writer.say_content(piece)?;
            }
            self.writer.say(&FilesMessage::ChunkEnd { hash })?;
        }
        self.writer.flush()
    }

    /// Sends all of a file that is wanted.
    pub(super) fn content(
        &self,
        number: u32,
        content: &[u8],
        held: u32,
        theirs: &[Hash],
    ) -> Result<(), Error> {
        self.writer.say(&FilesMessage::Begin { number })?;
        self.chunks(content, held, theirs)?;
        self.say(&FilesMessage::End { hash: file_hash(content, held), sha256: None })
    }

    /// What follows a Want.
    pub(super) fn hashes(&mut self, compare: u32) -> Result<Vec<Hash>, Error> {
        let mut all = Vec::new();
        while all.len() < usize::try_from(compare).unwrap() {
            match self.reader.next()? {
                Some(FilesMessage::Hashes { hashes }) => all.extend(hashes),
                other => panic!("hashes are due, not {other:?}"),
            }
        }
        Ok(all)
    }

    /// Sends all of these as a sender should, from offer to Finish, and gives the answer to each.
    pub(super) fn send(&mut self, files: &[SentFile]) -> Result<BTreeMap<u32, Answer>, Error> {
        let mut answers = BTreeMap::new();
        for file in files {
            self.writer.say(&FilesMessage::Offer { entry: file.entry() })?;
        }
        self.say(&FilesMessage::OffersEnd)?;
        while answers.values().filter(|answer| !matches!(answer, Answer::Wanted { .. })).count() < files.len()
        {
            let Some(message) = self.reader.next()? else { return Err(Error::Protocol("it has ended")) };
            match message {
                FilesMessage::Have { number, .. } => assert_eq!(answers.insert(number, Answer::Have), None),
                FilesMessage::Done { number, stored_as, .. } => {
                    answers.insert(number, Answer::Done(stored_as));
                }
                FilesMessage::Rejected { number, code } => {
                    answers.insert(number, Answer::Rejected(code));
                }
                FilesMessage::Want { number, held, compare } => {
                    answers.insert(number, Answer::Wanted { held, compare });
                    let theirs = self.hashes(compare)?;
                    let file = &files[usize::try_from(number).unwrap()];
                    self.content(number, &file.content, held, &theirs)?;
                }
                other => panic!("{other:?} is no answer"),
            }
        }
        self.finish()?;
        Ok(answers)
    }

    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.say(&FilesMessage::Finish)?;
        match self.reader.next()? {
            Some(FilesMessage::Finish) => Ok(()),
            other => panic!("Finish is due, not {other:?}"),
        }
    }
}

/// What the receiver has said of an offer last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Have,
    Done(Option<Box<[u8]>>),
    Rejected(FilesCode),
    Wanted { held: u32, compare: u32 },
}

/// A receiver into `directory`.
pub(super) fn receiver(directory: &Path, options: TransferOptions) -> Receiver {
    let directory = Directory::open_trusted(directory).unwrap();
    Receiver::new(directory, RelativePath::root(), Placed::Into, options, b"owner")
}

/// Runs a receiver against what `script` says; where it ends, so does the stream. What gets from the sender to the receiver is cut
/// behind so many bytes.
pub(super) fn exchange_cut<T>(
    receiver: Receiver,
    cut: Option<usize>,
    script: impl FnOnce(&mut Peer) -> T,
) -> (Result<(), Error>, Vec<Event>, T) {
    exchange_observed(receiver, cut, &mut || (), script)
}

/// As [`exchange_cut`]; `observe` looks at each event, while the receiver stands still.
pub(super) fn exchange_observed<T>(
    receiver: Receiver,
    cut: Option<usize>,
    observe: &mut (dyn FnMut() + Send),
    script: impl FnOnce(&mut Peer) -> T,
) -> (Result<(), Error>, Vec<Event>, T) {
    let ((mut from_sender, answers), (reader, writer)) = pair();
    if let Some(cut) = cut {
        writer.with_output(|output| output.cut_after(cut));
    }
    let mut peer = Peer { reader, writer };
    thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let mut events = Vec::new();
            let mut note = |event| {
                events.push(event);
                observe();
            };
            let received = receiver.run(&mut from_sender, &answers, &Unlimited, &mut note);
            let _ = answers.shutdown();
            (received, events)
        });
        let said = script(&mut peer);
        drop(peer);
        let (received, events) = receiving.join().unwrap();
        (received, events, said)
    })
}

/// As [`exchange_cut`], without a cut.
pub(super) fn exchange<T>(
    receiver: Receiver,
    script: impl FnOnce(&mut Peer) -> T,
) -> (Result<(), Error>, Vec<Event>, T) {
    exchange_cut(receiver, None, script)
}

/// The names in a directory, unfinished files among them.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
