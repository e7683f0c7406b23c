//! What a receiver makes of honest offers: each answer that there is, and what stands on disk then.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::{Arc, Mutex};

use files::event::Event;
use files::path::RelativePath;
use files::receiver::{Placed, Role};
use sha2::{Digest as _, Sha256};
use wire_protocol::message::{EntryKind, Existing, FilesCode, FilesMessage, TransferOptions};

use super::scripted_sender::*;

fn link(target: &[u8]) -> EntryKind {
    EntryKind::Symlink { target: target.into() }
}

#[test]
fn a_tree_arrives_with_its_attributes_and_a_second_run_moves_nothing() {
    let goal = tempfile::tempdir().unwrap();
    let large = content(3 * CHUNK + 5, 1);
    let tree = [
        entry(b"t", EntryKind::Directory),
        entry(b"t/d", EntryKind::Directory),
        entry(b"t/l", link(b"/nowhere/at all")),
        entry(b"t/empty", file(Some(0), [1; 32])),
        entry(b"t/d/small", file(Some(5), [2; 32])),
        entry(b"t/d/large", file(Some(u64::try_from(large.len()).unwrap()), [3; 32])),
    ];
    let (received, events, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        tree.iter().for_each(|entry| peer.offer(entry.clone()));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        let mut done = Vec::new();
        while done.len() < tree.len() {
            match peer.next() {
                FilesMessage::Want { number, held: 0, compare: 0 } => {
                    let content: &[u8] = match number {
                        3 => b"",
                        4 => b"small",
                        _ => &large,
                    };
                    peer.content(number, content, 0, &[]).unwrap();
                }
                FilesMessage::Done { number, sha256: None, stored_as: None } => done.push(number),
                other => panic!("{other:?}"),
            }
        }
        for path in [&b"t/d"[..], b"t"] {
            peer.say(&FilesMessage::Attributes { path: path.into(), mode: 0o750, modified: MODIFIED })
                .unwrap();
        }
        peer.finish().unwrap();
    });
    received.unwrap();
    let is_done = |event: &&Event| matches!(event, Event::Done { .. });
    assert_eq!(events.iter().filter(is_done).count(), tree.len());
    let at = |path: &str| goal.path().join("t").join(path);
    assert_eq!(fs::read(at("empty")).unwrap(), b"");
    assert_eq!(fs::read(at("d/small")).unwrap(), b"small");
    assert!(fs::read(at("d/large")).unwrap() == large);
    assert_eq!(fs::read_link(at("l")).unwrap().to_str(), Some("/nowhere/at all"));
    for (path, mode) in [("", 0o750), ("d", 0o750), ("empty", 0o640), ("d/large", 0o640)] {
        let metadata = fs::metadata(at(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!(
            (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap()),
            (MODIFIED.seconds, MODIFIED.nanoseconds),
            "{path}"
        );
    }
    assert_eq!(names(&at("d")), ["large", "small"]);

    let (received, events, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        tree.iter().for_each(|entry| peer.offer(entry.clone()));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        for expected in 0..6 {
            assert_eq!(peer.next(), FilesMessage::Have { number: expected, sha256: None });
        }
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Unchanged { .. })).count(), 6);
}

/// The answer to one file.
fn answer(goal: &std::path::Path, options: TransferOptions, sent: &SentFile) -> Answer {
    let (received, _, answers) =
        exchange(receiver(goal, options), |peer| peer.send(std::slice::from_ref(sent)).unwrap());
    received.unwrap();
    answers[&0].clone()
}

#[test]
fn what_has_the_name_is_refused_replaced_or_left_beside() {
    let with = |existing| TransferOptions { existing, ..OPTIONS };
    let sent = SentFile::new("f.txt", b"new".to_vec());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "victim").unwrap();
    let goal = tempfile::tempdir().unwrap();
    let path = goal.path().join("f.txt");
    for what in ["file", "link", "dangling"] {
        let make = || match what {
            "file" => fs::write(&path, "old").unwrap(),
            "link" => symlink(outside.path().join("victim"), &path).unwrap(),
            _ => symlink(outside.path().join("nothing"), &path).unwrap(),
        };
        make();
        assert_eq!(answer(goal.path(), with(Existing::Refuse), &sent), Answer::Rejected(FilesCode::Exists));
        assert_eq!(
            answer(goal.path(), with(Existing::Rename), &sent),
            Answer::Done(Some(b"f (1).txt"[..].into()))
        );
        assert_eq!(answer(goal.path(), with(Existing::Rename), &sent), Answer::Have);
        assert_eq!(fs::read(goal.path().join("f (1).txt")).unwrap(), b"new");
        fs::remove_file(goal.path().join("f (1).txt")).unwrap();
        assert_eq!(answer(goal.path(), with(Existing::Replace), &sent), Answer::Done(None));
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"victim");
        fs::remove_file(&path).unwrap();
        assert_eq!(names(goal.path()), Vec::<String>::new(), "{what}");
    }
    assert_eq!(names(outside.path()), ["victim"]);
    fs::create_dir(&path).unwrap();
    assert_eq!(answer(goal.path(), with(Existing::Replace), &sent), Answer::Rejected(FilesCode::IsDirectory));
    assert_eq!(answer(goal.path(), with(Existing::Refuse), &sent), Answer::Rejected(FilesCode::Exists));
}

#[test]
fn links_and_directories_meet_what_has_their_names() {
    let goal = tempfile::tempdir().unwrap();
    fs::write(goal.path().join("a"), "file").unwrap();
    let answer = |existing, kind: EntryKind| {
        let options = TransferOptions { existing, ..OPTIONS };
        let (received, _, answer) = exchange(receiver(goal.path(), options), |peer| {
            peer.offer(entry(b"a", kind));
            let answer = peer.next();
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
            answer
        });
        received.unwrap();
        answer
    };
    let done = |stored_as: Option<&[u8]>| FilesMessage::Done {
        number: 0,
        sha256: None,
        stored_as: stored_as.map(Into::into),
    };
    let exists = FilesMessage::Rejected { number: 0, code: FilesCode::Exists };
    assert_eq!(answer(Existing::Replace, EntryKind::Directory), exists);
    assert_eq!(answer(Existing::Refuse, link(b"x")), exists);
    assert_eq!(answer(Existing::Rename, link(b"x")), done(Some(b"a (1)")));
    assert_eq!(answer(Existing::Rename, link(b"x")), FilesMessage::Have { number: 0, sha256: None });
    assert_eq!(answer(Existing::Replace, link(b"x")), done(None));
    assert_eq!(answer(Existing::Replace, link(b"y")), done(None));
    assert_eq!(fs::read_link(goal.path().join("a")).unwrap().to_str(), Some("y"));
    assert_eq!(answer(Existing::Replace, EntryKind::Directory), exists);
    assert_eq!(names(goal.path()), ["a", "a (1)"]);
}

#[test]
fn a_root_takes_the_name_of_the_destination_and_parents_are_made() {
    let goal = tempfile::tempdir().unwrap();
    for (placed, sent, there) in [
        (Placed::Into, "r/x", "new/sub/r/x"),
        (Placed::As, "r", "new/sub"),
        (Placed::As, "r/deep/x", "new/sub/deep/x"),
    ] {
        let mut receiver = receiver(goal.path(), OPTIONS);
        receiver.base = RelativePath::parse(b"new/sub").unwrap();
        receiver.placed = placed;
        let sent = SentFile::new(sent, b"content".to_vec());
        let (received, _, answers) = exchange(receiver, |peer| peer.send(&[sent]).unwrap());
        received.unwrap();
        assert_eq!(answers[&0], Answer::Done(None));
        assert_eq!(fs::read(goal.path().join(there)).unwrap(), b"content");
        fs::remove_dir_all(goal.path().join("new")).unwrap();
    }
}

#[test]
fn a_stream_has_the_length_that_comes() {
    for length in [0, 1, CHUNK, 2 * CHUNK + 7] {
        let goal = tempfile::tempdir().unwrap();
        let content = content(length, 2);
        let options = TransferOptions { checksum: true, ..OPTIONS };
        let sha256: Hash = Sha256::digest(&content).into();
        let (received, _, ()) = exchange(receiver(goal.path(), options), |peer| {
            peer.offer(entry(b"s", file(None, [0; 32])));
            assert_eq!(peer.next(), FilesMessage::Want { number: 0, held: 0, compare: 0 });
            peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
            let mut hasher = files::chunks::FileHasher::new(u64::try_from(length).unwrap(), 0);
            for chunk in content.chunks(CHUNK) {
                peer.data(chunk);
                peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(chunk) }).unwrap();
                hasher.add(&chunk_hash(chunk));
            }
            peer.say(&FilesMessage::End { hash: hasher.finish(), sha256: Some(sha256) }).unwrap();
            assert_eq!(peer.next(), FilesMessage::Done { number: 0, sha256: Some(sha256), stored_as: None });
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
        });
        received.unwrap();
        assert!(fs::read(goal.path().join("s")).unwrap() == content);
        assert_eq!(names(goal.path()), ["s"]);
    }
}

#[test]
fn checksums_tell_what_is_the_same_and_what_is_not() {
    let goal = tempfile::tempdir().unwrap();
    let options = TransferOptions { checksum: true, verify_disk: true, ..OPTIONS };
    let sha256: Hash = Sha256::digest(b"content").into();
    let offer = |sha256| {
        let kind = EntryKind::File { size: Some(7), allocated: None, source: [1; 32], sha256: Some(sha256) };
        let (received, _, answer) = exchange(receiver(goal.path(), options), |peer| {
            peer.offer(entry(b"f", kind));
            let mut answer = peer.next();
            if matches!(answer, FilesMessage::Want { .. }) {
                peer.content(0, b"content", 0, &[]).unwrap();
                answer = peer.next();
            }
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
            answer
        });
        received.unwrap();
        answer
    };
    assert_eq!(offer([9; 32]), FilesMessage::Rejected { number: 0, code: FilesCode::Mismatch });
    assert_eq!(names(goal.path()), Vec::<String>::new());
    assert_eq!(offer(sha256), FilesMessage::Done { number: 0, sha256: Some(sha256), stored_as: None });
    assert_eq!(offer(sha256), FilesMessage::Have { number: 0, sha256: Some(sha256) });
    // Size and time are the same, and the content is not.
    assert_eq!(offer([9; 32]), FilesMessage::Rejected { number: 0, code: FilesCode::Exists });
}

#[test]
fn without_preserve_a_file_is_as_the_system_makes_it() {
    let goal = tempfile::tempdir().unwrap();
    let options = TransferOptions { preserve: false, ..OPTIONS };
    let sent = SentFile::new("f", b"content".to_vec());
    assert_eq!(answer(goal.path(), options, &sent), Answer::Done(None));
    fs::write(goal.path().join("other"), "").unwrap();
    let mode = |name| fs::metadata(goal.path().join(name)).unwrap().mode();
    assert_eq!(mode("f"), mode("other"));
    assert_ne!(fs::metadata(goal.path().join("f")).unwrap().mtime(), MODIFIED.seconds);
    // Without times there is nothing that says that it is the same.
    assert_eq!(answer(goal.path(), options, &sent), Answer::Rejected(FilesCode::Exists));
}

#[test]
fn a_hole_stays_one_also_over_what_was_there() {
    let goal = tempfile::tempdir().unwrap();
    let mut sparse = vec![0; 4 * CHUNK];
    sparse[CHUNK..CHUNK + 10].copy_from_slice(b"0123456789");
    let size = u64::try_from(sparse.len()).unwrap();
    let hole = |length| FilesMessage::Hole { length: u64::try_from(length).unwrap() };
    for leaves in [false, true] {
        if leaves {
            let part = files::path::part_name(b"owner", b"f");
            fs::write(goal.path().join(std::str::from_utf8(&part).unwrap()), content(3 * CHUNK + 9, 3))
                .unwrap();
        }
        let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
            peer.offer(entry(b"f", file(Some(size), [1; 32])));
            let FilesMessage::Want { number: 0, held: 0, compare } = peer.next() else {
                panic!("it is wanted")
            };
            assert_eq!(compare, if leaves { 3 } else { 0 });
            peer.hashes(compare).unwrap();
            peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
            for (number, chunk) in sparse.chunks(CHUNK).enumerate() {
                if number == 1 {
                    peer.data(&chunk[..10]);
                    peer.say(&hole(CHUNK - 10)).unwrap();
                } else {
                    peer.say(&hole(1000)).unwrap();
                    peer.say(&hole(CHUNK - 1000)).unwrap();
                }
                peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(chunk) }).unwrap();
            }
            peer.say(&FilesMessage::End { hash: file_hash(&sparse, 0), sha256: None }).unwrap();
            assert!(matches!(peer.next(), FilesMessage::Done { .. }));
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
        });
        received.unwrap();
        assert!(fs::read(goal.path().join("f")).unwrap() == sparse);
        assert!(fs::metadata(goal.path().join("f")).unwrap().blocks() * 512 < size / 2);
        assert_eq!(names(goal.path()), ["f"]);
        fs::remove_file(goal.path().join("f")).unwrap();
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let goal = tempfile::tempdir().unwrap();
    fs::write(goal.path().join("there"), "").unwrap();
    let options = TransferOptions { dry_run: true, ..OPTIONS };
    for role in [Role::Put, Role::Get] {
        let mut receiver = receiver(goal.path(), options);
        receiver.role = role;
        let (received, events, answers) = exchange(receiver, |peer| {
            peer.offer(entry(b"d", EntryKind::Directory));
            peer.offer(entry(b"d/f", file(Some(9 << 20), [1; 32])));
            peer.offer(entry(b"d/l", link(b"x")));
            peer.offer(entry(b"there", file(Some(9), [1; 32])));
            let answers = [peer.next(), peer.next(), peer.next(), peer.next()];
            peer.say(&FilesMessage::OffersEnd).unwrap();
            if role == Role::Get {
                assert_eq!(peer.next(), FilesMessage::AskAttributes);
            }
            peer.finish().unwrap();
            answers
        });
        received.unwrap();
        let done = |number| FilesMessage::Done { number, sha256: None, stored_as: None };
        let have = |number| FilesMessage::Have { number, sha256: None };
        let exists = FilesMessage::Rejected { number: 3, code: FilesCode::Exists };
        assert_eq!(
            answers,
            match role {
                Role::Put =>
                    [done(0), FilesMessage::Want { number: 1, held: 0, compare: 0 }, done(2), exists],
                Role::Get => [have(0), have(1), have(2), exists],
            }
        );
        let would: Vec<_> = events
            .iter()
            .filter_map(|event| if let Event::Would { size, .. } = event { Some(*size) } else { None })
            .collect();
        assert_eq!(would, [0, 9 << 20, 0]);
        assert_eq!(names(goal.path()), ["there"]);
    }
}

#[test]
fn a_single_file_goes_to_an_output() {
    #[derive(Debug, Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let goal = tempfile::tempdir().unwrap();
    let shared = Shared::default();
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.sink = Some(Box::new(shared.clone()));
    receiver.role = Role::Get;
    let content = content(CHUNK + 3, 4);
    let (received, _, ()) = exchange(receiver, |peer| {
        peer.offer(entry(b"f", file(Some(u64::try_from(content.len()).unwrap()), [1; 32])));
        peer.offer(entry(b"g", file(Some(1), [1; 32])));
        peer.offer(entry(b"d", EntryKind::Directory));
        assert_eq!(peer.next(), FilesMessage::Want { number: 0, held: 0, compare: 0 });
        assert_eq!(peer.next(), FilesMessage::Rejected { number: 1, code: FilesCode::Exists });
        assert_eq!(peer.next(), FilesMessage::Rejected { number: 2, code: FilesCode::IsDirectory });
        peer.content(0, &content, 0, &[]).unwrap();
        peer.say(&FilesMessage::OffersEnd).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { number: 0, .. }));
        assert_eq!(peer.next(), FilesMessage::AskAttributes);
        peer.finish().unwrap();
    });
    received.unwrap();
    assert!(*shared.0.lock().unwrap() == content);
    assert_eq!(names(goal.path()), Vec::<String>::new());
}

#[test]
fn a_drop_changes_no_directory_that_was_there() {
    let goal = tempfile::tempdir().unwrap();
    fs::create_dir(goal.path().join("old")).unwrap();
    let before = fs::metadata(goal.path().join("old")).unwrap().mode();
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.only_made = true;
    let (received, _, ()) = exchange(receiver, |peer| {
        peer.offer(entry(b"old", EntryKind::Directory));
        peer.offer(entry(b"new", EntryKind::Directory));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.next();
        peer.next();
        for path in [&b"old"[..], b"new", b"../old", b"none"] {
            peer.say(&FilesMessage::Attributes { path: path.into(), mode: 0o4711, modified: MODIFIED })
                .unwrap();
        }
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(fs::metadata(goal.path().join("old")).unwrap().mode(), before);
    assert_eq!(fs::metadata(goal.path().join("new")).unwrap().mode() & 0o7777, 0o711);
}
