//! Vectors for files (section 7.5): every message, what hashes are made of, whole exchanges, and what has to be refused.
//!
//! Hashes are computed here from the text of the section, with nothing but BLAKE3 and SHA-256.

use crypto_core::hash::sha256;
use serde::Serialize;
use serde_json::{Map, Value, json};
use wire_protocol::codec::encode;
use wire_protocol::message::{
    Entry, EntryKind, Existing, FileTime, FilesCode, FilesMessage, HASH_LEN, Part, Placement, ShareAccess,
    TransferOptions,
};

use super::format::hex;

pub(crate) fn vectors() -> Value {
    json!({
        "description": "Messages have their length in front. Content of tests: byte number i of it is i modulo 251.",
        "messages": messages(),
        "chunk_lengths": chunk_lengths(),
        "chunk_hashes": chunk_hashes(),
        "file_hashes": file_hashes(),
        "sources": sources(),
        "parts": parts(),
        "unfinished_names": unfinished_names(),
        "reserved_names": reserved_names(),
        "paths": paths(),
        "exchanges": super::files_exchanges::all(),
        "hostile": hostile(),
        "violations": super::files_violations::all(),
    })
}

/// A message as it is on the wire: its length, and its encoding.
pub(crate) fn framed(message: &FilesMessage) -> Vec<u8> {
    let mut bytes = vec![0; 2];
    encode(message, &mut bytes);
    let length = u16::try_from(bytes.len() - 2).expect("a message has 8192 bytes at most");
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// The name and the fields of a message, by the names of the section, with bytes in hexadecimal.
pub(crate) fn shown(message: &FilesMessage) -> (String, Value) {
    match serde_json::to_value(message).expect("messages have no keys but strings") {
        Value::String(name) => (name, json!({})),
        Value::Object(object) => {
            let (name, fields) = object.into_iter().next().expect("a choice has a name");
            (name, readable(fields))
        }
        other => panic!("a message is a choice: {other}"),
    }
}

/// Lists of numbers as hexadecimal bytes, and choices as words.
fn readable(value: Value) -> Value {
    match value {
        Value::Array(list) if list.iter().all(Value::is_number) => {
            let bytes = list.iter().map(|number| {
                let number = number.as_u64().expect("a byte is a number");
                u8::try_from(number).expect("lists of numbers are bytes")
            });
            Value::String(hex(bytes.collect::<Vec<_>>()))
        }
        Value::Array(list) => list.into_iter().map(readable).collect(),
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| (words(&key), if key == "name" { value } else { readable(value) }))
                .collect::<Map<_, _>>(),
        ),
        Value::String(choice) => Value::String(words(&choice)),
        other => other,
    }
}

/// `ReadOnly` as `read only`; what has no capitals as it is.
fn words(name: &str) -> String {
    let mut words = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// The content of tests.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

pub(crate) fn chunk_hash(content: &[u8]) -> [u8; HASH_LEN] {
    *blake3::hash(content).as_bytes()
}

pub(crate) fn file_hash(size: u64, held: u32, chunks: &[[u8; HASH_LEN]]) -> [u8; HASH_LEN] {
    let mut hashed = b"sockseal v1 file\0".to_vec();
    hashed.extend(size.to_be_bytes());
    hashed.extend(held.to_be_bytes());
    hashed.extend(chunks.iter().flatten());
    chunk_hash(&hashed)
}

/// The numbers of a source are device, inode, size, and the seconds and nanoseconds of mtime and ctime.
pub(crate) fn source(numbers: [u64; 7]) -> [u8; HASH_LEN] {
    let mut hashed = b"sockseal v1 source\0".to_vec();
    hashed.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    chunk_hash(&hashed)
}

pub(crate) fn chunk_len(size: u64) -> u64 {
    let mut len = 1_u64 << 20;
    while u128::from(len) * 4096 < u128::from(size) {
        len *= 2;
    }
    len
}

fn messages() -> Vec<Value> {
    all_messages()
        .iter()
        .map(|message| {
            let (name, fields) = shown(message);
            json!({ "name": name, "fields": fields, "bytes": hex(framed(message)) })
        })
        .collect()
}

/// Each message at least once, and each choice in it.
fn all_messages() -> Vec<FilesMessage> {
    let time = FileTime { seconds: -1, nanoseconds: 999_999_999 };
    let entry = |path: &[u8], kind| Entry { path: path.into(), kind, mode: 0o640, modified: time };
    let file = EntryKind::File {
        size: Some(0x0102_0304_0506_0708),
        allocated: Some(0x0001_0203_0405_0607),
        source: [0x51; HASH_LEN],
        sha256: Some(sha256(b"")),
    };
    let stream = EntryKind::File { size: None, allocated: None, source: [0; HASH_LEN], sha256: None };
    let options = |existing, preserve| TransferOptions {
        existing,
        preserve,
        checksum: !preserve,
        verify_disk: preserve,
        dry_run: !preserve,
    };
    let put = |destination: &[u8], placement, existing, preserve, part| FilesMessage::Put {
        destination: destination.into(),
        placement,
        options: options(existing, preserve),
        part,
    };
    let mut messages = vec![
        put(b"", Placement::Into, Existing::Refuse, true, Part::WHOLE),
        put(b"new name", Placement::As, Existing::Replace, false, Part { index: 15, count: 16 }),
        put(b"a/b", Placement::Automatic, Existing::Rename, true, Part { index: 0, count: 2 }),
        FilesMessage::Path { path: b"docs/\xff\n".as_slice().into() },
        FilesMessage::Get { checksum: true, part: Part { index: 1, count: 2 } },
        FilesMessage::List { path: b"".as_slice().into(), is_recursive: false },
        FilesMessage::List { path: b"docs".as_slice().into(), is_recursive: true },
        FilesMessage::Ready { is_directory: true, is_large: false },
        FilesMessage::Ready { is_directory: false, is_large: true },
        FilesMessage::Listed { entry: entry(b"a", EntryKind::Symlink { target: b"../b".as_slice().into() }) },
        FilesMessage::Share { name: "docs".into(), access: ShareAccess::ReadOnly },
        FilesMessage::Share { name: "home".into(), access: ShareAccess::ReadWrite },
        FilesMessage::Share { name: "inbox".into(), access: ShareAccess::Drop },
        FilesMessage::ListEnd,
        FilesMessage::Offer { entry: entry(b"root/file", file) },
        FilesMessage::Offer { entry: entry(b"stream", stream) },
        FilesMessage::Offer { entry: entry(b"root", EntryKind::Directory) },
        FilesMessage::OffersEnd,
        FilesMessage::Begin { number: 258 },
        FilesMessage::Data { length: 1_048_576 },
        FilesMessage::Hole { length: 0x0010_0000_0000 },
        FilesMessage::ChunkEnd { hash: chunk_hash(b"abc") },
        FilesMessage::Same,
        FilesMessage::End { hash: file_hash(0, 0, &[]), sha256: None },
        FilesMessage::End { hash: file_hash(3, 0, &[chunk_hash(b"abc")]), sha256: Some(sha256(b"abc")) },
        FilesMessage::Attributes { path: b"root".as_slice().into(), mode: 0o755, modified: time },
        FilesMessage::Finish,
        FilesMessage::Have { number: 0, sha256: None },
        FilesMessage::Have { number: 1, sha256: Some(sha256(b"abc")) },
        FilesMessage::Want { number: 2, held: 3, compare: 4 },
        FilesMessage::Hashes { hashes: vec![chunk_hash(b""), chunk_hash(b"abc")] },
        FilesMessage::Done { number: 5, sha256: None, stored_as: None },
        FilesMessage::Done {
            number: 6,
            sha256: Some(sha256(b"abc")),
            stored_as: Some(b"file (1).txt".as_slice().into()),
        },
        FilesMessage::AskAttributes,
    ];
    for code in CODES {
        messages.push(FilesMessage::Failed { code });
    }
    messages.push(FilesMessage::Unreadable {
        path: b"root/pipe".as_slice().into(),
        code: FilesCode::UnsupportedKind,
    });
    messages.push(FilesMessage::Abandon { code: FilesCode::Changed });
    messages.push(FilesMessage::Rejected { number: 7, code: FilesCode::NoSpace });
    messages
}

const CODES: [FilesCode; 14] = [
    FilesCode::Exists,
    FilesCode::NotFound,
    FilesCode::Denied,
    FilesCode::BadPath,
    FilesCode::NotDirectory,
    FilesCode::IsDirectory,
    FilesCode::UnsupportedKind,
    FilesCode::NoSpace,
    FilesCode::Quota,
    FilesCode::Busy,
    FilesCode::Changed,
    FilesCode::Mismatch,
    FilesCode::TooMany,
    FilesCode::Io,
];

fn chunk_lengths() -> Vec<Value> {
    const MIB: u64 = 1 << 20;
    let sizes = [
        0,
        1,
        MIB - 1,
        MIB,
        MIB + 1,
        4095 * MIB + 1,
        4096 * MIB,
        4096 * MIB + 1,
        8192 * MIB,
        100_000_000_000,
        8_u64 << 40,
        (8_u64 << 40) + 1,
        i64::MAX.unsigned_abs(),
    ];
    let row = |size: u64| {
        let len = chunk_len(size);
        json!({ "size": size, "length": len, "chunks": size.div_ceil(len) })
    };
    sizes.into_iter().map(row).chain([json!({ "size": null, "length": MIB, "chunks": null })]).collect()
}

fn chunk_hashes() -> Vec<Value> {
    let lens = [0, 1, 2, 1023, 1024, 1025, 16_384, 65_536, 102_400, 1_048_576];
    let of_content =
        lens.map(|len| json!({ "content": { "pattern": len }, "hash": hex(chunk_hash(&content(len))) }));
    let zeros = json!({ "content": { "zeros": 1_048_576 }, "hash": hex(chunk_hash(&vec![0; 1 << 20])) });
    of_content.into_iter().chain([zeros]).collect()
}

fn file_hashes() -> Vec<Value> {
    let two_and_a_bit = content((2 << 20) + 5);
    let chunks: Vec<_> = two_and_a_bit.chunks(1 << 20).map(chunk_hash).collect();
    let row = |size: u64, held: u32, chunks: &[[u8; HASH_LEN]]| {
        let hashes: Vec<_> = chunks.iter().map(hex).collect();
        json!({ "size": size, "held": held, "chunks": hashes, "hash": hex(file_hash(size, held, chunks)) })
    };
    let size = u64::try_from(two_and_a_bit.len()).expect("a short vector");
    vec![
        row(0, 0, &[]),
        row(11, 0, &[chunk_hash(&content(11))]),
        row(size, 0, &chunks),
        row(size, 1, &chunks[1..]),
        row(size, 3, &[]),
    ]
}

fn sources() -> Vec<Value> {
    let row = |device: u64, inode: u64, size: u64, mtime: (i64, u32), ctime: (i64, u32)| {
        let numbers = [
            device,
            inode,
            size,
            mtime.0.cast_unsigned(),
            u64::from(mtime.1),
            ctime.0.cast_unsigned(),
            u64::from(ctime.1),
        ];
        json!({
            "device": device, "inode": inode, "size": size,
            "mtime": { "seconds": mtime.0, "nanoseconds": mtime.1 },
            "ctime": { "seconds": ctime.0, "nanoseconds": ctime.1 },
            "source": hex(source(numbers)),
        })
    };
    vec![
        row(0, 0, 0, (0, 0), (0, 0)),
        row(64769, 1_048_577, 1_048_587, (1_790_000_000, 123_456_789), (1_790_000_001, 999_999_999)),
        row(1, 2, 3, (-1, 1), (-2, 2)),
    ]
}

fn parts() -> Vec<Value> {
    let mut rows = Vec::new();
    for path in ["file", "root/file", "root/a/b.txt", "root/naïve", "root/new\nline"] {
        let hash = chunk_hash(path.as_bytes());
        let number = u64::from_be_bytes(hash[..8].try_into().expect("a hash has 32 bytes"));
        for count in [1, 2, 3, 16] {
            rows.push(json!({ "path": hex(path.as_bytes()), "count": count, "index": number % count }));
        }
    }
    rows
}

/// The names that this implementation gives to a file that is not complete, and to its journal.
fn unfinished_names() -> Vec<Value> {
    let row = |owner: &[u8], name: &[u8]| {
        let hash = chunk_hash(&[owner, b"\0", name].concat());
        let digits = hex(&hash[..8]);
        let made = |end: &str| {
            let kept = name.len().min(255 - 2 - digits.len() - end.len());
            hex([b".", &name[..kept], b".", digits.as_bytes(), end.as_bytes()].concat())
        };
        json!({
            "owner": hex(owner), "name": hex(name),
            "part": made(".part"), "journal": made(".journal"),
        })
    };
    vec![
        row(b"", b"a"),
        row(b"client", b"file.txt"),
        row(&[7; 32], b"file.txt"),
        row(b"client", &[b'n'; 229]),
        row(b"client", &[b'n'; 232]),
        row(b"client", &[b'n'; 255]),
    ]
}

fn reserved_names() -> Vec<Value> {
    [
        (".a.0123456789abcdef.part", true),
        (".a.0123456789abcdef.journal", true),
        (".a.b.0123456789abcdef.part", true),
        ("...0123456789abcdef.part", true),
        (".a.0123456789ABCDEF.part", true),
        (".a.0123456789abcdef.Journal", true),
        (".a.0123456789abcdef.part. .", true),
        (".a.0123456789abcdef.pa\u{ad}rt", true),
        (".\u{e4}.0123456789ABCDEF.part", true),
        (".a.0123456789abcd\u{fb00}.part", true),
        (".a.0123456789abcd\u{e4}.part", false),
        (".a.0123456789abcdef.part.a", false),
        (".a.0123456789abcde.part", false),
        (".a.0123456789abcdefg.part", false),
        (".a0123456789abcdef.part", false),
        ("..0123456789abcdef.part", false),
        ("a.0123456789abcdef.part", false),
        (".a.0123456789abcdef.partial", false),
        (".a.0123456789abcdef", false),
        (".part", false),
        ("a.part", false),
    ]
    .map(|(name, is_reserved)| json!({ "name": hex(name.as_bytes()), "is_reserved": is_reserved }))
    .into()
}

/// What an entry may be called.
fn paths() -> Vec<Value> {
    let long_name = "n".repeat(255);
    let deep = |depth: usize| vec!["d"; depth].join("/");
    let long = |len: usize| {
        let names = vec![long_name.clone(); 16].join("/");
        names[..len].to_owned()
    };
    let row = |path: &[u8], is_valid: bool| json!({ "path": hex(path), "is_valid": is_valid });
    let mut rows: Vec<Value> = [
        ("a", true),
        ("a/b/c", true),
        ("...", true),
        ("a b/\n/\u{1b}[31m", true),
        ("-rf", true),
        (".hidden/..b", true),
        ("", false),
        ("/", false),
        ("/etc/passwd", false),
        ("a/", false),
        ("a//b", false),
        (".", false),
        ("..", false),
        ("../a", false),
        ("a/../b", false),
        ("a/./b", false),
        ("a/..", false),
        ("a\0b", false),
        ("a/.b.0123456789abcdef.part", false),
        (".b.0123456789abcdef.journal/a", false),
    ]
    .map(|(path, is_valid)| row(path.as_bytes(), is_valid))
    .into();
    rows.push(row(b"\xff\xfe/\x80", true));
    rows.push(row(long_name.as_bytes(), true));
    rows.push(row(format!("{long_name}n").as_bytes(), false));
    rows.push(row(deep(256).as_bytes(), true));
    rows.push(row(deep(257).as_bytes(), false));
    rows.push(row(long(4000).as_bytes(), true));
    rows.push(row(long(4001).as_bytes(), false));
    rows
}

/// What is no message, or no whole one.
#[derive(Serialize)]
struct Hostile {
    name: &'static str,
    bytes: String,
    error: &'static str,
}

fn hostile() -> Vec<Hostile> {
    let with_length = |message: &[u8]| {
        let length = u16::try_from(message.len()).expect("it is short");
        [&length.to_be_bytes()[..], message].concat()
    };
    let encoded = |message: &FilesMessage| framed(message)[2..].to_vec();
    let malformed =
        |name, message: &[u8]| Hostile { name, bytes: hex(with_length(message)), error: "malformed" };
    let begin = encoded(&FilesMessage::Begin { number: 1 });
    let path = encoded(&FilesMessage::Path { path: b"abc".as_slice().into() });
    let mut ready = encoded(&FilesMessage::Ready { is_directory: true, is_large: false });
    ready[4] = 2;
    let mut have = encoded(&FilesMessage::Have { number: 1, sha256: None });
    *have.last_mut().expect("it is not empty") = 2;
    let mut share = encoded(&FilesMessage::Share { name: "ab".into(), access: ShareAccess::Drop });
    share[12] = 0xFF;
    let mut access = encoded(&FilesMessage::Share { name: "ab".into(), access: ShareAccess::Drop });
    *access.last_mut().expect("it is not empty") = 3;
    let huge = |number: u32| [&number.to_be_bytes()[..], &[0xFF; 8]].concat();
    vec![
        malformed("a message of no bytes", b""),
        malformed("a message that does not exist", &27_u32.to_be_bytes()),
        malformed("a number that is cut", &begin[..7]),
        malformed("a byte too many", &[&begin[..], &[0]].concat()),
        malformed("a path that is longer than its message", &path[..path.len() - 1]),
        malformed("a path of 2^64 - 1 bytes", &huge(1)),
        malformed("2^64 - 1 hashes", &huge(23)),
        malformed("a bool that is 2", &ready),
        malformed("an optional that is 2", &have),
        malformed("a name that is not UTF-8", &share),
        malformed("a choice that does not exist", &access),
        malformed("a code that does not exist", &[5_u32.to_be_bytes(), 14_u32.to_be_bytes()].concat()),
        Hostile { name: "a message of 8193 bytes", bytes: hex([0x20, 0x01]), error: "too-long" },
        Hostile { name: "the end within a length", bytes: hex([0]), error: "truncated" },
        Hostile { name: "the end within a message", bytes: hex([0, 8, 0, 0, 0, 12]), error: "truncated" },
        Hostile {
            name: "the end within content",
            bytes: hex([framed(&FilesMessage::Data { length: 4 }), b"abc".to_vec()].concat()),
            error: "truncated",
        },
    ]
}
