//! A sender as in a Put, against a receiver that says message by message what is tested.

use std::fs::{self};
use std::io::Cursor;

use files::error::Error;
use files::event::Event;
use files::filter::Filter;
use files::parts::Rendezvous;
use files::path::RelativePath;
use files::root::Root;
use files::sender::{Ending, Sender, Sources};
use sha2::{Digest as _, Sha256};
use tempfile::tempdir;
use wire_protocol::message::*;

use super::peer::{Peer, file_hash, run};
use super::sources::{MIB, bytes, chunks, one_file, path, size_of};

/// A sender as in a Put.
fn putting<'a>(sources: Sources, filter: &'a Filter, is_dry_run: bool) -> Sender<'a> {
    let rendezvous = Rendezvous::alone();
    let ending = Ending::Meeting { rendezvous, has_attributes: true };
    Sender { sources, filter, part: Part::WHOLE, has_checksums: true, is_dry_run, ending }
}

fn ready(peer: &Peer) {
    peer.say(FilesMessage::Ready { is_directory: true, is_large: false });
}

#[test]
fn a_stream_is_sent_as_a_file_of_unknown_size() {
    for length in [0, 1, MIB - 1, MIB, 2 * MIB + 300_000] {
        let content = bytes(9, length);
        let input = Box::new(Cursor::new(content.clone()));
        let name = RelativePath::parse(b"x.tar").unwrap();
        let expected: [u8; HASH_LEN] = Sha256::digest(&content).into();
        let filter = Filter::all();
        let (result, events) = run(putting(Sources::Stream { input, name }, &filter, false), |mut peer| {
            let (offers, _) = peer.offers();
            let EntryKind::File { size, allocated, source, sha256 } = &offers["x.tar"].1.kind else {
                panic!("no file")
            };
            assert_eq!((*size, *allocated, *source, *sha256), (None, None, [0; HASH_LEN], None));
            ready(&peer);
            peer.want(0);
            let sent = peer.content();
            assert!(sent.bytes == content);
            assert_eq!(sent.chunks, chunks(&content), "no empty chunk at the end");
            assert_eq!(sent.end, Some(file_hash(size_of(&content), 0, &sent.chunks)));
            assert_eq!(sent.sha256, Some(expected));
            peer.done(0);
            assert!(peer.attributes().is_empty());
            peer.end();
        });
        result.unwrap();
        let (size, sha256) = (size_of(&content), Some(expected));
        assert!(events.contains(&Event::Done { path: path("x.tar"), size, stored_as: None, sha256 }));
    }
}

#[test]
fn a_dry_run_sends_no_content_and_no_attributes() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), bytes(10, 3 * MIB)).unwrap();
    let sources = Sources::Roots(vec![Root::new(&tree).unwrap()]);
    let filter = Filter::all();
    let (result, events) = run(putting(sources, &filter, true), |mut peer| {
        ready(&peer);
        let (offers, _) = peer.offers();
        peer.done(offers["tree"].0);
        peer.say(FilesMessage::Want { number: offers["tree/file"].0, held: 1, compare: 0 });
        assert!(peer.attributes().is_empty());
        peer.end();
    });
    result.unwrap();
    let size = size_of(&vec![0; 2 * MIB]);
    assert!(events.contains(&Event::Would { path: path("tree/file"), size }));
    assert!(events.contains(&Event::Would { path: path("tree"), size: 0 }));
}

#[test]
fn a_refusal_ends_a_put_in_both_directions() {
    let (_directory, file) = one_file(&bytes(11, 100));
    let sources = Sources::Roots(vec![Root::new(&file).unwrap()]);
    let filter = Filter::all();
    let (result, _) = run(putting(sources, &filter, false), |mut peer| {
        peer.say(FilesMessage::Failed { code: FilesCode::Denied });
        peer.reader().discard().unwrap();
        peer.leave();
    });
    assert!(matches!(result, Err(Error::Refused(FilesCode::Denied))), "{result:?}");
}
