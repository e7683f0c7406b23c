//! A sender against a receiver that says message by message what is tested.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::chunks::part_of;
use files::error::Error;
use files::event::{Event, Side};
use files::filter::{Filter, Rule};
use files::parts::Rendezvous;
use files::path::RelativePath;
use files::root::Root;
use files::sender::{Ending, Sender, Sources};
use sha2::{Digest as _, Sha256};
use tempfile::{TempDir, tempdir};
use wire_protocol::message::*;

use super::peer::{Peer, file_hash, run, sender};

const MIB: usize = 1 << 20;

/// Bytes that differ everywhere.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn chunks(content: &[u8]) -> Vec<[u8; HASH_LEN]> {
    content.chunks(MIB).map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
}

fn size_of(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap()
}

/// A directory with one file.
fn one_file(content: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, content).unwrap();
    (directory, file)
}

fn path(path: &str) -> Arc<PathBuf> {
    Arc::new(path.into())
}

#[test]
fn every_answer_ends_an_offer() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    let large = bytes(1, 2 * MIB + 77);
    fs::write(tree.join("large"), &large).unwrap();
    fs::write(tree.join("nothing"), b"").unwrap();
    fs::write(tree.join("sub/same"), b"same").unwrap();
    fs::write(tree.join("sub/small"), b"small").unwrap();
    fs::write(tree.join("sub/unwelcome"), b"unwelcome").unwrap();
    symlink("../elsewhere", tree.join("link")).unwrap();
    let (result, events) = run(sender(&tree, &Filter::all()), |mut peer| {
        let (offers, unreadable) = peer.offers();
        assert!(unreadable.is_empty());
        let paths: Vec<_> = offers.keys().map(String::as_str).collect();
        let all = [
            "tree",
            "tree/large",
            "tree/link",
            "tree/nothing",
            "tree/sub",
            "tree/sub/empty",
            "tree/sub/same",
            "tree/sub/small",
            "tree/sub/unwelcome",
        ];
        assert_eq!(paths, all);
        let target = (*b"../elsewhere").into();
        assert_eq!(offers["tree/link"].1.kind, EntryKind::Symlink { target });
        let number = |path: &str| offers[path].0;
        for made in ["tree", "tree/sub", "tree/sub/empty", "tree/link"] {
            peer.done(number(made));
        }
        peer.have(number("tree/sub/same"));
        peer.reject(number("tree/sub/unwelcome"), FilesCode::Quota);
        // Not in the order of the offers.
        for wanted in ["tree/sub/small", "tree/nothing", "tree/large"] {
            peer.want(number(wanted));
        }
        for (wanted, content) in
            [("tree/sub/small", &b"small"[..]), ("tree/nothing", b""), ("tree/large", &large)]
        {
            let sent = peer.content();
            assert_eq!(sent.number, number(wanted));
            assert!(sent.bytes == content, "{wanted}");
            assert_eq!(sent.end, Some(file_hash(size_of(content), 0, &chunks(content))));
            let stored_as = (wanted == "tree/large").then(|| (*b"large (1)").into());
            peer.say(FilesMessage::Done { number: sent.number, sha256: None, stored_as });
        }
        assert_eq!(peer.finish(), ["tree/sub/empty", "tree/sub", "tree"]);
    });
    result.unwrap();
    assert!(events.contains(&Event::Unchanged { path: path("tree/sub/same"), size: 4, sha256: None }));
    let (size, code) = (9, FilesCode::Quota);
    assert!(events.contains(&Event::Failed {
        path: path("tree/sub/unwelcome"),
        size,
        code,
        side: Side::Receiver
    }));
    let stored_as = Some("large (1)".into());
    let size = size_of(&large);
    assert!(events.contains(&Event::Done { path: path("tree/large"), size, stored_as, sha256: None }));
    let moved: u64 = events
        .iter()
        .map(|event| match event {
            Event::Advanced { bytes, is_moved: true } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(moved, size + 5);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Found { .. })).count(), 9);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::AllFound)).count(), 1);
}

#[test]
fn chunks_that_are_held_or_the_same_are_not_sent() {
    let content = bytes(2, 5 * MIB + 5);
    let (_directory, file) = one_file(&content);
    let (result, events) = run(sender(&file, &Filter::all()), |mut peer| {
        peer.offers();
        peer.say(FilesMessage::Want { number: 0, held: 1, compare: 3 });
        let mut hashes = chunks(&content)[1..4].to_vec();
        hashes[1] = [7; HASH_LEN];
        peer.say(FilesMessage::Hashes { hashes: hashes[..1].to_vec() });
        peer.say(FilesMessage::Hashes { hashes: hashes[1..].to_vec() });
        let sent = peer.content();
        assert_eq!(sent.same, [0, 2]);
        assert!(sent.bytes == [&content[2 * MIB..3 * MIB], &content[4 * MIB..]].concat());
        assert_eq!(sent.end, Some(file_hash(size_of(&content), 1, &chunks(&content)[1..])));
        peer.done(0);
        assert!(peer.finish().is_empty());
    });
    result.unwrap();
    let mib = size_of(&content[..MIB]);
    assert!(events.contains(&Event::Started {
        path: path("file"),
        size: size_of(&content),
        held: 4 * mib,
        compare: 3 * mib,
    }));
}

#[test]
fn a_file_that_is_held_to_its_end_is_only_ended() {
    let content = bytes(3, 2 * MIB);
    let (_directory, file) = one_file(&content);
    let (result, _) = run(sender(&file, &Filter::all()), |mut peer| {
        peer.offers();
        peer.say(FilesMessage::Want { number: 0, held: 2, compare: 0 });
        let sent = peer.content();
        assert!(sent.bytes.is_empty());
        assert_eq!(sent.end, Some(file_hash(size_of(&content), 2, &[])));
        peer.done(0);
        peer.finish();
    });
    result.unwrap();
}

#[test]
fn holes_are_told_and_not_sent() {
    let (_directory, file) = one_file(b"");
    let sparse = File::options().write(true).open(&file).unwrap();
    sparse.set_len(size_of(&vec![0; 5 * MIB])).unwrap();
    let data = bytes(4, 100_000);
    sparse.write_all_at(&data, size_of(&vec![0; MIB + 4096])).unwrap();
    let mut content = vec![0; 5 * MIB];
    content[MIB + 4096..][..data.len()].copy_from_slice(&data);
    let (result, _) = run(sender(&file, &Filter::all()), |mut peer| {
        peer.offers();
        peer.want(0);
        let sent = peer.content();
        assert!(sent.bytes == content);
        assert!(sent.holes >= size_of(&content[..4 * MIB]), "{} bytes of holes", sent.holes);
        assert_eq!(sent.end, Some(file_hash(size_of(&content), 0, &chunks(&content))));
        peer.done(0);
        peer.finish();
    });
    result.unwrap();
}

#[test]
fn what_is_rejected_while_it_is_sent_is_given_up() {
    let (directory, _) = one_file(&bytes(5, 8 * MIB));
    fs::write(directory.path().join("next"), b"next").unwrap();
    let tree = directory.path().join(".");
    let (result, events) = run(sender(&tree, &Filter::all()), |mut peer| {
        peer.offers();
        peer.want(0);
        peer.want(1);
        // What is rejected before its turn is not sent at all, or given up.
        assert!(matches!(peer.next(), FilesMessage::Begin { number: 0 }));
        peer.reject(0, FilesCode::NoSpace);
        let sent = peer.rest_of_content(0);
        assert_eq!(sent.abandoned, Some(FilesCode::NoSpace));
        assert!(sent.bytes.len() < 8 * MIB);
        let sent = peer.content();
        assert_eq!((sent.number, &sent.bytes[..]), (1, &b"next"[..]));
        peer.done(1);
        peer.finish();
    });
    result.unwrap();
    let failed = events.iter().filter(|event| {
        matches!(event, Event::Failed { code: FilesCode::NoSpace, side: Side::Receiver, .. })
    });
    assert_eq!(failed.count(), 1);
}

/// Runs a sender of a file that is changed by `change` once it was offered, and expects `code`.
#[track_caller]
fn check_changed(change: impl FnOnce(&Path) + Send, code: FilesCode) {
    let (_directory, file) = one_file(&bytes(6, 4 * MIB));
    let (result, events) = run(sender(&file, &Filter::all()), |mut peer| {
        peer.offers();
        change(&file);
        peer.want(0);
        let sent = peer.content();
        assert_eq!(sent.abandoned, Some(code));
        peer.reject(0, code);
        peer.finish();
    });
    result.unwrap();
    let size = size_of(&vec![0; 4 * MIB]);
    assert!(events.contains(&Event::Failed { path: path("file"), size, code, side: Side::Sender }));
}

#[test]
fn a_source_that_is_another_one_by_now_is_not_sent() {
    let append = |file: &Path| File::options().append(true).open(file).unwrap().write_all(b"x").unwrap();
    check_changed(append, FilesCode::Changed);
    check_changed(|file| fs::write(file, b"").unwrap(), FilesCode::Changed);
    check_changed(|file| fs::remove_file(file).unwrap(), FilesCode::NotFound);
    let link = |file: &Path| {
        fs::remove_file(file).unwrap();
        symlink("/etc/passwd", file).unwrap();
    };
    check_changed(link, FilesCode::NotDirectory);
    let directory = |file: &Path| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    };
    check_changed(directory, FilesCode::IsDirectory);
}

#[test]
fn a_source_that_changes_while_it_is_sent_is_given_up() {
    for shrinks in [true, false] {
        let content = bytes(7, 16 * MIB);
        let (_directory, file) = one_file(&content);
        let (result, events) = run(sender(&file, &Filter::all()), |mut peer| {
            peer.offers();
            peer.want(0);
            assert!(matches!(peer.next(), FilesMessage::Begin { number: 0 }));
            let open = File::options().write(true).open(&file).unwrap();
            if shrinks {
                open.set_len(3 * 65_536).unwrap();
            } else {
                open.write_all_at(b"x", 0).unwrap();
            }
            // The content that was announced still comes to its end, and the stream goes on.
            let sent = peer.rest_of_content(0);
            assert_eq!(sent.abandoned, Some(FilesCode::Changed));
            assert_eq!(sent.bytes.len() == content.len(), !shrinks);
            peer.reject(0, FilesCode::Changed);
            peer.finish();
        });
        result.unwrap();
        let changed = |event: &&Event| {
            matches!(event, Event::Failed { code: FilesCode::Changed, side: Side::Sender, .. })
        };
        assert_eq!(events.iter().filter(changed).count(), 1);
    }
}

#[test]
fn hashes_are_told_where_they_are_asked_for() {
    let content = bytes(8, MIB + 1);
    let (_directory, file) = one_file(&content);
    let expected: [u8; HASH_LEN] = Sha256::digest(&content).into();
    let filter = Filter::all();
    let sender = Sender { has_checksums: true, ..sender(&file, &filter) };
    let (result, events) = run(sender, |mut peer| {
        let (offers, _) = peer.offers();
        let EntryKind::File { sha256, size, .. } = &offers["file"].1.kind else { panic!("no file") };
        assert_eq!((*sha256, *size), (Some(expected), Some(size_of(&content))));
        peer.want(0);
        assert_eq!(peer.content().sha256, Some(expected));
        peer.say(FilesMessage::Done { number: 0, sha256: Some(expected), stored_as: None });
        peer.finish();
    });
    result.unwrap();
    let size = size_of(&content);
    let done = Event::Done { path: path("file"), size, stored_as: None, sha256: Some(expected) };
    assert!(events.contains(&done));
}

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
            let EntryKind::File { size, source, sha256 } = &offers["x.tar"].1.kind else { panic!("no file") };
            assert_eq!((*size, *source, *sha256), (None, [0; HASH_LEN], None));
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

#[test]
fn the_parts_have_every_file_once_and_the_first_all_else() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    let mut all = BTreeSet::new();
    for number in 0..60 {
        let sub = tree.join(format!("sub{}", number % 7));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("file{number}")), b"x").unwrap();
        all.insert(format!("tree/sub{}/file{number}", number % 7));
    }
    symlink("x", tree.join("link")).unwrap();
    let mut seen = BTreeSet::new();
    for index in 0..3 {
        let part = Part { index, count: 3 };
        let filter = Filter::all();
        let sender = Sender { part, ..sender(&tree, &filter) };
        let (result, _) = run(sender, |mut peer| {
            let (offers, _) = peer.offers();
            for (path, (number, entry)) in &offers {
                if matches!(entry.kind, EntryKind::File { .. }) {
                    assert_eq!(part_of(path.as_bytes(), 3), index);
                    assert!(seen.insert(path.clone()), "{path} came twice");
                } else {
                    assert_eq!(index, 0, "{path}");
                }
                peer.have(*number);
            }
            assert_eq!(offers.contains_key("tree/link"), index == 0);
            if index == 0 {
                assert_eq!(peer.finish().len(), 8);
            } else {
                assert!(peer.attributes().is_empty());
                peer.end();
            }
        });
        result.unwrap();
    }
    assert_eq!(seen, all);
}

#[test]
fn what_is_no_file_or_cannot_be_read_is_told_and_the_rest_is_sent() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"x").unwrap();
    fs::write(tree.join(".file.0123456789abcdef.part"), b"x").unwrap();
    let fifo = tree.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let roots = vec![Root::new(&tree).unwrap(), Root::new(&directory.path().join("missing")).unwrap()];
    let filter = Filter::all();
    let sender = Sender { sources: Sources::Roots(roots), ..sender(&tree, &filter) };
    let (result, events) = run(sender, |mut peer| {
        let (offers, unreadable) = peer.offers();
        assert!(offers.keys().eq(["tree", "tree/file"]));
        let expected = [
            ("missing", FilesCode::NotFound),
            ("tree/fifo", FilesCode::UnsupportedKind),
            ("tree/socket", FilesCode::UnsupportedKind),
        ];
        assert!(unreadable.iter().map(|(path, code)| (path.as_str(), *code)).eq(expected));
        offers.values().for_each(|(number, _)| peer.have(*number));
        peer.finish();
    });
    result.unwrap();
    let failed = events.iter().filter(|event| matches!(event, Event::Failed { .. }));
    assert_eq!(failed.count(), 3);
}

#[test]
fn filters_leave_out_what_they_say() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    for name in ["src/a.rs", "src/a.o", "target/a.o", ".git/config", "keep.o"] {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), b"x").unwrap();
    }
    // A directory that is left out is not even looked into.
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o000)).unwrap();
    let rules = ["*.o", "/target"].map(|pattern| Rule::Exclude(pattern.to_owned()));
    let rules = [&rules[..], &[Rule::Include("/keep.o".to_owned())]].concat();
    let filter = Filter::new(&rules).unwrap();
    let (result, _) = run(sender(&tree, &filter), |mut peer| {
        let (offers, unreadable) = peer.offers();
        assert!(unreadable.is_empty());
        let all = ["tree", "tree/.git", "tree/.git/config", "tree/keep.o", "tree/src", "tree/src/a.rs"];
        assert!(offers.keys().eq(all), "{:?}", offers.keys());
        offers.values().for_each(|(number, _)| peer.have(*number));
        assert_eq!(peer.finish(), ["tree/.git", "tree/src", "tree"]);
    });
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o700)).unwrap();
    result.unwrap();
}

#[test]
fn roots_are_links_contents_or_have_another_name() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"x").unwrap();
    let link = directory.path().join("link");
    symlink("tree", &link).unwrap();
    let filter = Filter::all();
    let other = RelativePath::parse(b"a/b").unwrap();
    for (root, paths) in [
        (Root::new(&link).unwrap(), &["link"][..]),
        (Root::new(&directory.path().join("link/")).unwrap(), &["link", "link/file"]),
        (Root::new(&tree.join(".")).unwrap(), &["file"]),
        (Root::new(&link.join("file")).unwrap(), &["file"]),
        (Root::new(&tree).unwrap().offered_as(other), &["a/b", "a/b/file"]),
    ] {
        let sender = Sender { sources: Sources::Roots(vec![root]), ..sender(&tree, &filter) };
        let (result, _) = run(sender, |mut peer| {
            let (offers, _) = peer.offers();
            assert!(offers.keys().eq(paths), "{:?}", offers.keys());
            let is_link = matches!(offers[paths[0]].1.kind, EntryKind::Symlink { .. });
            assert_eq!(is_link, paths == ["link"]);
            let file = offers.values().find(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
            if let Some((number, _)) = file {
                peer.want(*number);
                assert_eq!(peer.content().bytes, b"x");
                peer.done(*number);
            }
            for (number, entry) in offers.values() {
                if !matches!(entry.kind, EntryKind::File { .. }) {
                    peer.have(*number);
                }
            }
            peer.finish();
        });
        result.unwrap();
    }
}

#[test]
fn no_more_offers_are_open_than_may_be() {
    let directory = tempdir().unwrap();
    for number in 0..3 * MAX_OUTSTANDING {
        fs::write(directory.path().join(number.to_string()), b"x").unwrap();
    }
    let (result, events) = run(sender(&directory.path().join("."), &Filter::all()), |mut peer| {
        let (mut offered, mut answered) = (0, 0);
        while answered < 3 * MAX_OUTSTANDING {
            // The sender waits for answers before it offers more.
            while offered < (answered + MAX_OUTSTANDING).min(3 * MAX_OUTSTANDING) {
                assert!(matches!(peer.next(), FilesMessage::Offer { .. }));
                offered += 1;
            }
            for _ in 0..MAX_OUTSTANDING.min(offered - answered) {
                peer.have(u32::try_from(answered).unwrap());
                answered += 1;
            }
        }
        assert_eq!(peer.next(), FilesMessage::OffersEnd);
        peer.finish();
    });
    result.unwrap();
    let unchanged = events.iter().filter(|event| matches!(event, Event::Unchanged { .. }));
    assert_eq!(unchanged.count(), 3 * MAX_OUTSTANDING);
}
