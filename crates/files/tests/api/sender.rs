//! A sender against a receiver that says message by message what is tested.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;

use files::event::{Event, Side};
use files::filter::Filter;
use files::sender::Sender;
use sha2::{Digest as _, Sha256};
use tempfile::tempdir;
use wire_protocol::message::*;

use super::peer::{file_hash, run, sender};
use super::sources::{MIB, bytes, chunks, one_file, path, size_of};

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
        system: None,
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
    assert!(events.contains(&Event::Failed {
        path: path("file"),
        size,
        code,
        system: None,
        side: Side::Sender
    }));
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
fn what_is_behind_a_directory_that_has_become_a_link_is_not_sent() {
    let outside = tempdir().unwrap();
    fs::write(outside.path().join("file"), b"secret").unwrap();
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/file"), b"public").unwrap();
    let (result, events) = run(sender(&tree, &Filter::all()), |mut peer| {
        let (offers, _) = peer.offers();
        fs::rename(tree.join("sub"), tree.join("moved")).unwrap();
        symlink(outside.path(), tree.join("sub")).unwrap();
        peer.want(offers["tree/sub/file"].0);
        // The link is found, and not only that this is another file.
        assert_eq!(peer.content().abandoned, Some(FilesCode::NotDirectory));
        peer.reject(offers["tree/sub/file"].0, FilesCode::NotDirectory);
        peer.have(offers["tree"].0);
        peer.have(offers["tree/sub"].0);
        // Nor are its attributes those of the directory that was offered.
        assert_eq!(peer.finish(), ["tree/moved", "tree"]);
    });
    result.unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Failed { side: Side::Sender, .. })));
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
            // What was announced and is not there any more is zeros, and not what lies in memory.
            let is_own = |(byte, own): (&u8, &u8)| [*own, 0].contains(byte) || !shrinks;
            assert!(sent.bytes.iter().zip(&content).all(is_own), "something else was sent");
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
        let EntryKind::File { sha256, size, allocated, .. } = &offers["file"].1.kind else {
            panic!("no file")
        };
        assert!(allocated.is_some_and(|allocated| Some(allocated) <= *size), "{allocated:?}");
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

#[test]
fn content_moves_before_all_is_found() {
    let directory = tempdir().unwrap();
    for number in 0..3 * MAX_OUTSTANDING {
        fs::write(directory.path().join(format!("{number:06}")), b"x").unwrap();
    }
    let (result, _) = run(sender(&directory.path().join("."), &Filter::all()), |mut peer| {
        assert!(matches!(peer.next(), FilesMessage::Offer { .. }));
        peer.want(0);
        let mut offers = 1;
        loop {
            match peer.next() {
                FilesMessage::Offer { .. } => offers += 1,
                FilesMessage::Begin { number: 0 } => break,
                other => panic!("{other:?} before the first content"),
            }
        }
        assert!(offers <= MAX_OUTSTANDING, "{offers} offers came first");
        peer.rest_of_content(0);
        peer.leave();
    });
    result.unwrap_err();
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

#[test]
fn an_offer_says_what_of_a_file_is_no_hole() {
    let (directory, file) = one_file(&bytes(9, MIB));
    let opened = std::fs::File::options().write(true).open(directory.path().join("file")).unwrap();
    opened.set_len(64 << 20).unwrap();
    let filter = Filter::all();
    let (result, _) = run(sender(&file, &filter), |mut peer| {
        let (offers, _) = peer.offers();
        let EntryKind::File { size, allocated, .. } = offers["file"].1.kind else { panic!("no file") };
        assert_eq!(size, Some(64 << 20));
        assert!(allocated.is_some_and(|allocated| (1 << 20..8 << 20).contains(&allocated)), "{allocated:?}");
        peer.have(0);
        peer.finish();
    });
    result.unwrap();
}
