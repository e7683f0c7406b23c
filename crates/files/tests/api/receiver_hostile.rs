//! What a receiver makes of a sender that lies: names that lead elsewhere, content that is not what was said, messages out of order.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use files::error::Error;
use files::path::{journal_name, part_name};
use files::receiver::Role;
use wire_protocol::message::{
    EntryKind, Existing, FilesCode, FilesMessage, MAX_OUTSTANDING, TransferOptions,
};

use super::scripted_sender::*;

/// The answer to one offer.
fn answer(goal: &std::path::Path, path: &[u8], kind: EntryKind) -> FilesMessage {
    let options = TransferOptions { existing: Existing::Replace, ..OPTIONS };
    let (received, _, answer) = exchange(receiver(goal, options), |peer| {
        peer.offer(entry(path, kind));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.next()
    });
    received.unwrap_err();
    answer
}

#[test]
fn names_that_lead_elsewhere_are_rejected() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "victim").unwrap();
    let goal = tempfile::tempdir_in(outside.path()).unwrap();
    symlink("..", goal.path().join("up")).unwrap();
    symlink("/etc", goal.path().join("etc")).unwrap();
    symlink("../victim", goal.path().join("victim")).unwrap();
    fs::write(goal.path().join("file"), "").unwrap();
    let long = vec![b'a'; 256];
    let deep = vec!["d"; 257].join("/").into_bytes();
    let far = vec!["d".repeat(255); 16].join("/").into_bytes();
    let part = part_name(b"another", b"x");
    let journal = [b"d/", &journal_name(b"owner", b"x")[..]].concat();
    let bad: [&[u8]; 18] = [
        b"",
        b"/",
        b"/etc/x",
        b".",
        b"..",
        b"../x",
        b"a/../../x",
        b"a/./x",
        b"a//x",
        b"a/",
        b"a\0b",
        b"x/..",
        b"./x",
        &long,
        &deep,
        &far,
        &part,
        &journal,
    ];
    let kinds = [
        file(Some(1), [1; 32]),
        file(None, [0; 32]),
        EntryKind::Directory,
        EntryKind::Symlink { target: b"x"[..].into() },
    ];
    for kind in &kinds {
        for path in bad {
            let answer = answer(goal.path(), path, kind.clone());
            assert_eq!(answer, FilesMessage::Rejected { number: 0, code: FilesCode::BadPath }, "{path:?}");
        }
        for path in [&b"up/x"[..], b"etc/x", b"up/d/x", b"file/x", b"victim/x"] {
            let answer = answer(goal.path(), path, kind.clone());
            assert_eq!(
                answer,
                FilesMessage::Rejected { number: 0, code: FilesCode::NotDirectory },
                "{path:?}"
            );
        }
    }
    for target in [&b""[..], b"a\0b", &[b'a'; 4001]] {
        let answer = answer(goal.path(), b"l", EntryKind::Symlink { target: target.into() });
        assert_eq!(answer, FilesMessage::Rejected { number: 0, code: FilesCode::BadPath });
    }
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"victim");
    assert_eq!(names(goal.path()), ["etc", "file", "up", "victim"]);
    assert_eq!(names(outside.path()).len(), 2);
}

#[test]
fn what_was_not_asked_for_is_rejected() {
    let goal = tempfile::tempdir().unwrap();
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.role = Role::Get;
    receiver.roots = Some([b"wanted"[..].into()].into());
    receiver.filter = Some(Box::new(|path, _| !path.ends_with(b".o")));
    let (received, _, ()) = exchange(receiver, |peer| {
        let bad = |number| FilesMessage::Rejected { number, code: FilesCode::BadPath };
        for (number, path) in [(0, &b".bashrc"[..]), (1, b"other/wanted"), (2, b"wantedx")] {
            peer.offer(entry(path, file(Some(1), [1; 32])));
            assert_eq!(peer.next(), bad(number));
        }
        peer.offer(entry(b"wanted/a.o", file(Some(1), [1; 32])));
        assert_eq!(peer.next(), FilesMessage::Have { number: 3, sha256: None });
        peer.say(&FilesMessage::OffersEnd).unwrap();
        assert_eq!(peer.next(), FilesMessage::AskAttributes);
        // Not even its attributes.
        fs::create_dir(goal.path().join("other")).unwrap();
        fs::set_permissions(goal.path().join("other"), fs::Permissions::from_mode(0o700)).unwrap();
        peer.say(&FilesMessage::Attributes { path: b"other"[..].into(), mode: 0o777, modified: MODIFIED })
            .unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    let mode = fs::metadata(goal.path().join("other")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(names(goal.path()), ["other"]);
}

/// Messages that no honest sender sends, after an offer of a file of two chunks and a bit that is wanted.
fn violations() -> Vec<(&'static str, Vec<Said>)> {
    let chunk = u64::try_from(CHUNK).unwrap();
    let begin = || Said::Message(FilesMessage::Begin { number: 0 });
    let hole = |length| Said::Message(FilesMessage::Hole { length });
    let message = Said::Message;
    let end = || Said::Message(FilesMessage::End { hash: [0; 32], sha256: None });
    let chunk_end = || Said::Message(FilesMessage::ChunkEnd { hash: chunk_hash(&[0; CHUNK]) });
    vec![
        ("content without Begin", vec![hole(1)]),
        ("an end without Begin", vec![end()]),
        ("Begin of what was not offered", vec![message(FilesMessage::Begin { number: 7 })]),
        ("Begin within a file", vec![begin(), begin()]),
        (
            "an offer within a file",
            vec![begin(), message(FilesMessage::Offer { entry: entry(b"x", file(Some(1), [0; 32])) })],
        ),
        ("an empty hole", vec![begin(), hole(0)]),
        ("an empty piece", vec![begin(), message(FilesMessage::Data { length: 0 })]),
        ("a piece that is too long", vec![begin(), message(FilesMessage::Data { length: 1_048_577 })]),
        ("the longest piece", vec![begin(), message(FilesMessage::Data { length: u32::MAX })]),
        ("a hole across the end of a chunk", vec![begin(), hole(chunk + 1)]),
        ("the longest hole", vec![begin(), hole(u64::MAX)]),
        ("data across the end of a chunk", vec![begin(), hole(chunk - 1), Said::Data(2)]),
        ("more than the file", vec![begin(), hole(chunk), chunk_end(), hole(chunk), chunk_end(), hole(8)]),
        ("a chunk that ends early", vec![begin(), hole(chunk - 1), chunk_end()]),
        ("an empty chunk", vec![begin(), chunk_end()]),
        ("a file that ends early", vec![begin(), hole(chunk), chunk_end(), end()]),
        ("a file that ends in a chunk", vec![begin(), hole(chunk), chunk_end(), hole(4), end()]),
        ("the same as nothing", vec![begin(), message(FilesMessage::Same)]),
        ("an answer", vec![message(FilesMessage::Have { number: 0, sha256: None })]),
        (
            "a request",
            vec![
                message(FilesMessage::OffersEnd),
                message(FilesMessage::Get { checksum: false, part: wire_protocol::message::Part::WHOLE }),
            ],
        ),
        ("a second end of offers", vec![message(FilesMessage::OffersEnd), message(FilesMessage::OffersEnd)]),
        (
            "an offer behind the last",
            vec![
                message(FilesMessage::OffersEnd),
                message(FilesMessage::Offer { entry: entry(b"x", EntryKind::Directory) }),
            ],
        ),
        ("Finish before the end", vec![message(FilesMessage::Finish)]),
        ("Finish with a file due", vec![message(FilesMessage::OffersEnd), message(FilesMessage::Finish)]),
        (
            "attributes with a file due",
            vec![message(FilesMessage::Attributes { path: b"x"[..].into(), mode: 0, modified: MODIFIED })],
        ),
        (
            "a time that is none",
            vec![message(FilesMessage::Offer {
                entry: {
                    let mut entry = entry(b"x", EntryKind::Directory);
                    entry.modified.nanoseconds = 1_000_000_000;
                    entry
                },
            })],
        ),
    ]
}

enum Said {
    Message(FilesMessage),
    Data(usize),
}

#[test]
fn a_sender_that_breaks_the_rules_is_left_with_nothing_stored() {
    for (what, said) in violations() {
        let goal = tempfile::tempdir().unwrap();
        let size = u64::try_from(2 * CHUNK + 7).unwrap();
        let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
            peer.offer(entry(b"f", file(Some(size), [1; 32])));
            assert!(matches!(peer.next(), FilesMessage::Want { .. }));
            for said in said {
                match said {
                    Said::Message(message) => peer.try_say(&message),
                    Said::Data(length) => peer.data(&vec![0; length]),
                }
            }
            // It says nothing more but, at most, what was due before.
            while let Ok(Some(message)) = peer.reader.next() {
                assert!(!matches!(message, FilesMessage::Done { .. } | FilesMessage::Finish), "{what}");
            }
        });
        assert!(matches!(received, Err(Error::Protocol(_))), "{what}: {received:?}");
        assert!(names(goal.path()).iter().all(|name| name.starts_with(".f.")), "{what}");
    }
}

#[test]
fn more_offers_than_may_be_open_end_it() {
    let goal = tempfile::tempdir().unwrap();
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        for number in 0..MAX_OUTSTANDING {
            peer.offer(entry(format!("f{number}").as_bytes(), file(Some(1), [1; 32])));
            assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        }
        peer.try_say(&FilesMessage::Offer { entry: entry(b"x", file(Some(1), [1; 32])) });
        assert!(!matches!(peer.reader.next(), Ok(Some(_))));
    });
    assert!(matches!(received, Err(Error::Protocol(_))));
    assert_eq!(names(goal.path()), Vec::<String>::new());
}

#[test]
fn wrong_hashes_reject_the_file_and_the_rest_goes_on() {
    let goal = tempfile::tempdir().unwrap();
    let large = content(2 * CHUNK + 1, 1);
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(entry(b"chunk", file(Some(3), [1; 32])));
        peer.offer(entry(b"file", file(Some(3), [1; 32])));
        peer.offer(entry(b"large", file(Some(u64::try_from(large.len()).unwrap()), [1; 32])));
        peer.offer(entry(b"good", file(Some(3), [1; 32])));
        for _ in 0..4 {
            assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        }
        let mismatch = |number| FilesMessage::Rejected { number, code: FilesCode::Mismatch };
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        peer.data(b"abc");
        peer.say(&FilesMessage::ChunkEnd { hash: [7; 32] }).unwrap();
        // It is said at once, and the rest is passed over.
        assert_eq!(peer.next(), mismatch(0));
        peer.say(&FilesMessage::End { hash: [7; 32], sha256: None }).unwrap();
        peer.say(&FilesMessage::Begin { number: 1 }).unwrap();
        peer.chunks(b"abc", 0, &[]).unwrap();
        peer.say(&FilesMessage::End { hash: [7; 32], sha256: None }).unwrap();
        assert_eq!(peer.next(), mismatch(1));
        peer.say(&FilesMessage::Begin { number: 2 }).unwrap();
        peer.data(&large[..CHUNK]);
        peer.say(&FilesMessage::ChunkEnd { hash: [7; 32] }).unwrap();
        assert_eq!(peer.next(), mismatch(2));
        peer.data(&large[CHUNK..2 * CHUNK]);
        peer.say(&FilesMessage::Abandon { code: FilesCode::Mismatch }).unwrap();
        peer.content(3, b"abc", 0, &[]).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { number: 3, .. }));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    let names = names(goal.path());
    assert!(names.contains(&"good".into()));
    assert!(names.iter().all(|name| name == "good" || name.starts_with(".large.")), "{names:?}");
}

#[test]
fn a_name_that_is_being_written_is_busy() {
    let goal = tempfile::tempdir().unwrap();
    let mut first = receiver(goal.path(), OPTIONS);
    let mut second = receiver(goal.path(), OPTIONS);
    second.owner = b"another"[..].into();
    first.claims = second.claims.clone();
    let busy = |number| FilesMessage::Rejected { number, code: FilesCode::Busy };
    let (received, _, ()) = exchange(first, |peer| {
        peer.offer(entry(b"f", file(Some(1), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        peer.offer(entry(b"f", file(Some(1), [1; 32])));
        assert_eq!(peer.next(), busy(1));
        peer.offer(entry(b"f", EntryKind::Symlink { target: b"x"[..].into() }));
        assert_eq!(peer.next(), busy(2));
        let (received, _, ()) = exchange(second, |other| {
            other.offer(entry(b"f", file(Some(1), [1; 32])));
            assert_eq!(other.next(), busy(0));
            other.say(&FilesMessage::OffersEnd).unwrap();
            other.finish().unwrap();
        });
        received.unwrap();
        peer.content(0, b"x", 0, &[]).unwrap();
        peer.say(&FilesMessage::OffersEnd).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { number: 0, .. }));
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(names(goal.path()), ["f"]);
}

#[test]
fn a_partial_file_that_another_process_has_is_busy_and_what_is_none_is_left() {
    let goal = tempfile::tempdir().unwrap();
    let part = goal.path().join(String::from_utf8(part_name(b"owner", b"f")).unwrap());
    let locked = fs::File::create(&part).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let sent = [SentFile::new("f", b"content".to_vec())];
    let answer = || {
        let mut receiver = receiver(goal.path(), OPTIONS);
        receiver.patience = Duration::from_millis(1);
        let (received, _, answers) = exchange(receiver, |peer| peer.send(&sent).unwrap());
        received.unwrap();
        answers[&0].clone()
    };
    assert_eq!(answer(), Answer::Rejected(FilesCode::Busy));
    drop(locked);
    fs::remove_file(&part).unwrap();
    // Neither through a link, nor over what has another name too.
    let outside = tempfile::tempdir_in(goal.path().parent().unwrap()).unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "victim").unwrap();
    symlink(&victim, &part).unwrap();
    assert_eq!(answer(), Answer::Rejected(FilesCode::Exists));
    fs::remove_file(&part).unwrap();
    fs::hard_link(&victim, &part).unwrap();
    assert_eq!(answer(), Answer::Rejected(FilesCode::Exists));
    assert_eq!(fs::read(&victim).unwrap(), b"victim");
    fs::remove_file(&part).unwrap();
    assert_eq!(answer(), Answer::Done(None));
}

#[test]
fn a_size_that_no_file_has_is_rejected_before_content_comes() {
    let goal = tempfile::tempdir().unwrap();
    for size in [1 << 63, u64::MAX - 1, u64::MAX] {
        let answer = answer(goal.path(), b"f", file(Some(size), [1; 32]));
        assert_eq!(answer, FilesMessage::Rejected { number: 0, code: FilesCode::NoSpace });
    }
    assert_eq!(names(goal.path()), Vec::<String>::new());
}

#[test]
fn a_name_that_is_taken_meanwhile_is_not_replaced() {
    let goal = tempfile::tempdir().unwrap();
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(entry(b"f", file(Some(1), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        fs::write(goal.path().join("f"), "other").unwrap();
        peer.content(0, b"x", 0, &[]).unwrap();
        assert_eq!(peer.next(), FilesMessage::Rejected { number: 0, code: FilesCode::Exists });
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(fs::read(goal.path().join("f")).unwrap(), b"other");
    assert_eq!(names(goal.path()), ["f"]);
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let goal = tempfile::tempdir_in(outside.path()).unwrap();
    fs::create_dir(goal.path().join("d")).unwrap();
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(entry(b"d/f", file(Some(1), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        fs::rename(goal.path().join("d"), goal.path().join("moved")).unwrap();
        symlink("..", goal.path().join("d")).unwrap();
        peer.content(0, b"x", 0, &[]).unwrap();
        peer.next();
        peer.offer(entry(b"d", EntryKind::Directory));
        assert_eq!(peer.next(), FilesMessage::Rejected { number: 1, code: FilesCode::Exists });
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.say(&FilesMessage::Attributes { path: b"d"[..].into(), mode: 0, modified: MODIFIED }).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(names(outside.path()).len(), 1);
    assert_ne!(fs::metadata(outside.path()).unwrap().permissions().mode() & 0o777, 0);
}
