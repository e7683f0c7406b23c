//! Whole exchanges of files (section 7.5), message by message, in an order in which they can be said.

use crypto_core::hash::sha256;
use serde_json::{Value, json};
use wire_protocol::message::{
    Entry, EntryKind, Existing, FileTime, FilesCode, FilesMessage, HASH_LEN, Part, Placement, ShareAccess,
    TransferOptions,
};

use super::files::{chunk_hash, content, file_hash, framed, shown, source};
use super::format::hex;

pub(crate) fn all() -> Vec<Value> {
    vec![put_that_resumes(), get_with_checksums(), listing(), shares()]
}

/// What two sides say, in order.
#[derive(Default)]
pub(crate) struct Script(Vec<Value>);

impl Script {
    pub(crate) fn client(&mut self, message: &FilesMessage) {
        self.said("client", message, None);
    }

    pub(crate) fn server(&mut self, message: &FilesMessage) {
        self.said("server", message, None);
    }

    /// Data, and the content behind it.
    pub(crate) fn data(&mut self, from: &'static str, content: &[u8]) {
        let length = u32::try_from(content.len()).expect("it is short");
        self.said(from, &FilesMessage::Data { length }, Some(content));
    }

    fn said(&mut self, from: &'static str, message: &FilesMessage, content: Option<&[u8]>) {
        let (name, fields) = shown(message);
        let mut said = json!({ "from": from, "name": name, "fields": fields, "bytes": hex(framed(message)) });
        if let Some(content) = content {
            said["content"] = hex(content).into();
        }
        self.0.push(said);
    }

    pub(crate) fn into_messages(self) -> Vec<Value> {
        self.0
    }
}

const TIME: FileTime = FileTime { seconds: 1_790_000_000, nanoseconds: 123_456_789 };

pub(crate) fn entry(path: &str, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    Entry { path: path.as_bytes().into(), kind, mode, modified: TIME }
}

pub(crate) fn file(path: &str, size: u64) -> Entry {
    let source = source([64769, 4711, size, 1_790_000_000, 123_456_789, 1_790_000_000, 123_456_789]);
    entry(path, EntryKind::File { size: Some(size), allocated: Some(size), source, sha256: None })
}

pub(crate) fn put(placement: Placement) -> FilesMessage {
    FilesMessage::Put {
        destination: b"2026".as_slice().into(),
        placement,
        options: TransferOptions {
            existing: Existing::Refuse,
            preserve: true,
            checksum: false,
            verify_disk: false,
            dry_run: false,
        },
        part: Part::WHOLE,
    }
}

/// A directory of which some has arrived before: of `held.bin` a chunk whose source is known, of `compared.bin` two chunks of
/// which the second is another one.
fn put_that_resumes() -> Value {
    let chunk = 1_usize << 20;
    let held = content(chunk + 11);
    let compared = [content(chunk), vec![0; chunk], b"five.".to_vec()].concat();
    let sizes = [&held, &compared].map(|chunks| u64::try_from(chunks.len()).expect("a short vector"));
    let done = |number| FilesMessage::Done { number, sha256: None, stored_as: None };

    let mut script = Script::default();
    script.client(&put(Placement::Into));
    script.client(&FilesMessage::Offer { entry: entry("photos", EntryKind::Directory) });
    script.client(&FilesMessage::Offer { entry: file("photos/held.bin", sizes[0]) });
    script.client(&FilesMessage::Offer { entry: file("photos/compared.bin", sizes[1]) });
    script.client(&FilesMessage::Offer { entry: file("photos/empty", 0) });
    script.client(&FilesMessage::Offer { entry: file("photos/unchanged", 7) });
    let target = b"held.bin".as_slice().into();
    script.client(&FilesMessage::Offer { entry: entry("photos/link", EntryKind::Symlink { target }) });
    script.client(&FilesMessage::Offer { entry: file("photos/other", 7) });
    script.client(&FilesMessage::Unreadable {
        path: b"photos/pipe".as_slice().into(),
        code: FilesCode::UnsupportedKind,
    });
    script.client(&FilesMessage::OffersEnd);

    script.server(&FilesMessage::Ready { is_directory: false, is_large: false });
    script.server(&FilesMessage::Have { number: 0, sha256: None });
    script.server(&FilesMessage::Want { number: 1, held: 1, compare: 0 });
    script.server(&FilesMessage::Want { number: 2, held: 0, compare: 2 });
    let theirs = vec![chunk_hash(&content(chunk)), chunk_hash(&content(chunk))];
    script.server(&FilesMessage::Hashes { hashes: theirs });
    script.server(&FilesMessage::Want { number: 3, held: 0, compare: 0 });
    script.server(&FilesMessage::Have { number: 4, sha256: None });
    script.server(&done(5));
    script.server(&FilesMessage::Rejected { number: 6, code: FilesCode::Exists });

    let last = chunk_hash(&held[chunk..]);
    script.client(&FilesMessage::Begin { number: 1 });
    script.data("client", &held[chunk..]);
    script.client(&FilesMessage::ChunkEnd { hash: last });
    script.client(&FilesMessage::End { hash: file_hash(sizes[0], 1, &[last]), sha256: None });

    let chunks: Vec<_> = compared.chunks(chunk).map(chunk_hash).collect();
    script.client(&FilesMessage::Begin { number: 2 });
    script.client(&FilesMessage::Same);
    script.client(&FilesMessage::Hole { length: 1 << 20 });
    script.client(&FilesMessage::ChunkEnd { hash: chunks[1] });
    script.data("client", b"five.");
    script.client(&FilesMessage::ChunkEnd { hash: chunks[2] });
    script.client(&FilesMessage::End { hash: file_hash(sizes[1], 0, &chunks), sha256: None });

    script.client(&FilesMessage::Begin { number: 3 });
    script.client(&FilesMessage::End { hash: file_hash(0, 0, &[]), sha256: None });
    for number in [1, 2, 3] {
        script.server(&done(number));
    }
    script.client(&FilesMessage::Attributes {
        path: b"photos".as_slice().into(),
        mode: 0o755,
        modified: TIME,
    });
    script.client(&FilesMessage::Finish);
    script.server(&FilesMessage::Finish);
    json!({
        "name": "a put that resumes",
        "share": "docs",
        "access": "add",
        "messages": script.into_messages(),
    })
}

fn get_with_checksums() -> Value {
    let said = b"Hello, World!";
    let size = u64::try_from(said.len()).expect("a short vector");
    let mut offered = file("hello.txt", size);
    if let EntryKind::File { sha256: hash, .. } = &mut offered.kind {
        *hash = Some(sha256(said));
    }
    let mut script = Script::default();
    script.client(&FilesMessage::Path { path: b"docs/hello.txt".as_slice().into() });
    script.client(&FilesMessage::Path { path: b"docs/missing".as_slice().into() });
    script.client(&FilesMessage::Get { checksum: true, part: Part::WHOLE });
    script.server(&FilesMessage::Ready { is_directory: false, is_large: false });
    script.server(&FilesMessage::Offer { entry: offered });
    script
        .server(&FilesMessage::Unreadable { path: b"missing".as_slice().into(), code: FilesCode::NotFound });
    script.server(&FilesMessage::OffersEnd);
    script.client(&FilesMessage::Want { number: 0, held: 0, compare: 0 });
    script.server(&FilesMessage::Begin { number: 0 });
    script.data("server", &said[..7]);
    script.data("server", &said[7..]);
    let chunk = chunk_hash(said);
    script.server(&FilesMessage::ChunkEnd { hash: chunk });
    script.server(&FilesMessage::End { hash: file_hash(size, 0, &[chunk]), sha256: None });
    script.client(&FilesMessage::Done { number: 0, sha256: Some(sha256(said)), stored_as: None });
    script.client(&FilesMessage::AskAttributes);
    script.server(&FilesMessage::Finish);
    script.client(&FilesMessage::Finish);
    json!({
        "name": "a get with checksums",
        "share": "docs",
        "access": "read",
        "messages": script.into_messages(),
    })
}

fn listing() -> Value {
    let mut script = Script::default();
    script.client(&FilesMessage::List { path: b"docs".as_slice().into(), is_recursive: true });
    let mut listed = file("docs/hello.txt", 13);
    if let EntryKind::File { allocated, source, .. } = &mut listed.kind {
        *allocated = None;
        *source = [0; HASH_LEN];
    }
    script.server(&FilesMessage::Listed { entry: listed });
    script.server(&FilesMessage::Listed { entry: entry("docs/old", EntryKind::Directory) });
    script.server(&FilesMessage::Unreadable { path: b"docs/old".as_slice().into(), code: FilesCode::Denied });
    script.server(&FilesMessage::ListEnd);
    json!({
        "name": "a listing",
        "share": "docs",
        "access": "read",
        "messages": script.into_messages(),
    })
}

fn shares() -> Value {
    let mut script = Script::default();
    script.client(&FilesMessage::List { path: b"".as_slice().into(), is_recursive: false });
    script.server(&FilesMessage::Share { name: "docs".into(), access: ShareAccess::ReadWrite });
    script.server(&FilesMessage::Share { name: "inbox".into(), access: ShareAccess::Drop });
    script.server(&FilesMessage::ListEnd);
    json!({ "name": "the shares", "messages": script.into_messages() })
}
