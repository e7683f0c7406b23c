//! What a client may not say in a put (section 7.5): a server has to end the channel at the last message of each, and
//! not before.

use serde_json::{Value, json};
use wire_protocol::message::{FilesMessage, HASH_LEN, MAX_DATA_LEN, Part, Placement};

use super::files::{chunk_hash, file_hash};
use super::files_exchanges::{Script, file, put};

pub(crate) fn all() -> Vec<Value> {
    let begin = |number| FilesMessage::Begin { number };
    let hole = |length| FilesMessage::Hole { length };
    let end = FilesMessage::End { hash: file_hash(3, 0, &[chunk_hash(b"abc")]), sha256: None };
    let chunk_end = FilesMessage::ChunkEnd { hash: chunk_hash(b"abc") };
    let finish = FilesMessage::Finish;
    let offers_end = FilesMessage::OffersEnd;
    let offer = FilesMessage::Offer { entry: file("second", 3) };
    let too_long = u32::try_from(MAX_DATA_LEN + 1).expect("it is small");

    let mut time = file("first", 3);
    time.modified.nanoseconds = 1_000_000_000;
    let mut no_part = put(Placement::Into);
    if let FilesMessage::Put { part, .. } = &mut no_part {
        *part = Part { index: 2, count: 2 };
    }
    vec![
        bare("a part that does not exist", &[&no_part]),
        bare("an offer without a request", &[&offer]),
        bare("a receiver's message in place of a request", &[&FilesMessage::AskAttributes]),
        bare("a second request", &[&put(Placement::Into), &put(Placement::Into)]),
        bare(
            "a Get behind a Put",
            &[&put(Placement::Into), &FilesMessage::Get { checksum: false, part: Part::WHOLE }],
        ),
        bare("a time out of its range", &[&put(Placement::Into), &FilesMessage::Offer { entry: time }]),
        offered("a receiver's answer from a sender", &[&FilesMessage::Have { number: 0, sha256: None }]),
        offered("a server's message from a client", &[&FilesMessage::ListEnd]),
        offered("Begin of what was not offered", &[&begin(1)]),
        offered("Begin twice", &[&begin(0), &begin(0)]),
        offered("Data before Begin", &[&FilesMessage::Data { length: 3 }]),
        offered("Data of no bytes", &[&begin(0), &FilesMessage::Data { length: 0 }]),
        offered("more Data than the file has", &[&begin(0), &FilesMessage::Data { length: 4 }]),
        offered("more Data than may come at once", &[&begin(0), &FilesMessage::Data { length: too_long }]),
        offered("a hole of no bytes", &[&begin(0), &hole(0)]),
        offered("a hole beyond the file", &[&begin(0), &hole(4)]),
        offered("a hole of 2^64 - 1 bytes", &[&begin(0), &hole(u64::MAX)]),
        offered("ChunkEnd before the end of the chunk", &[&begin(0), &hole(2), &chunk_end]),
        offered("End before the end of the chunk", &[&begin(0), &hole(2), &end]),
        offered("End without ChunkEnd", &[&begin(0), &hole(3), &end]),
        offered("End of a file of which nothing has come", &[&begin(0), &end]),
        offered(
            "a chunk too many",
            &[&begin(0), &hole(3), &FilesMessage::ChunkEnd { hash: chunk_hash(&[0; 3]) }, &chunk_end],
        ),
        offered("Same for a chunk that was not compared", &[&begin(0), &FilesMessage::Same]),
        offered("an offer in the middle of content", &[&begin(0), &offer]),
        offered("Finish in the middle of content", &[&begin(0), &finish]),
        offered("Finish before OffersEnd", &[&finish]),
        offered("Finish before all is answered", &[&offers_end, &finish]),
        offered("an offer behind OffersEnd", &[&offers_end, &offer]),
        offered("OffersEnd twice", &[&offers_end, &offers_end]),
        bare("a message behind Finish", &[&put(Placement::Into), &offers_end, &finish, &finish]),
        bare(
            "Abandon of nothing",
            &[&put(Placement::Into), &FilesMessage::Abandon { code: wire_protocol::message::FilesCode::Io }],
        ),
        bare(
            "hashes from a sender",
            &[&put(Placement::Into), &FilesMessage::Hashes { hashes: vec![[0; HASH_LEN]] }],
        ),
    ]
}

/// Behind a Put and the offer of a file of three bytes, which the server wants.
fn offered(name: &'static str, said: &[&FilesMessage]) -> Value {
    let request = [put(Placement::Into), FilesMessage::Offer { entry: file("first", 3) }];
    bare(name, &request.iter().chain(said.iter().copied()).collect::<Vec<_>>())
}

fn bare(name: &'static str, said: &[&FilesMessage]) -> Value {
    let mut script = Script::default();
    for message in said {
        script.client(message);
    }
    json!({ "name": name, "messages": script.into_messages() })
}
