//! The permissions of what is being received: nobody reads in it who could not read it at its source, and its owner can go on
//! with it whatever they are.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use files::path::part_name;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sha2::{Digest as _, Sha256};
use wire_protocol::message::{EntryKind, FilesCode, FilesMessage, TransferOptions};

use super::scripted_sender::*;

/// Does `work` as a user for whom permissions count, also where the tests run as root.
fn as_anybody(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            set_capabilities(None, sets).unwrap();
            work();
        });
    });
}

fn part_of(goal: &Path) -> PathBuf {
    goal.join(String::from_utf8(part_name(b"owner", b"f")).unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_file_whose_receiver_died_before_it_got_its_name_arrives_next_time() {
    // It has the permissions of its source before it has its name.
    for own in [0o444, 0o555, 0o222, 0o000] {
        let goal = tempfile::tempdir().unwrap();
        let sent = [SentFile::new("f", content(1000, 1))];
        fs::write(part_of(goal.path()), &sent[0].content).unwrap();
        set_mode(&part_of(goal.path()), own);
        as_anybody(|| {
            let (received, _, answers) =
                exchange(receiver(goal.path(), OPTIONS), |peer| peer.send(&sent).unwrap());
            received.unwrap();
            assert_eq!(answers[&0], Answer::Done(None), "{own:o}");
        });
        assert_eq!(names(goal.path()), ["f"]);
        assert_eq!(mode(&goal.path().join("f")), 0o640);
    }
}

#[test]
fn nor_does_what_has_come_of_it_come_again() {
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile::new("f", content(3 * CHUNK + 9, 1));
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(sent.entry());
        assert!(matches!(peer.next(), FilesMessage::Want { held: 0, .. }));
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        peer.chunks(&sent.content, 0, &[]).unwrap();
    });
    received.unwrap_err();
    set_mode(&part_of(goal.path()), 0o444);
    as_anybody(|| {
        let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
            peer.offer(sent.entry());
            assert_eq!(peer.next(), FilesMessage::Want { number: 0, held: 4, compare: 0 });
            peer.content(0, &sent.content, 4, &[]).unwrap();
            assert!(matches!(peer.next(), FilesMessage::Done { .. }));
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
        });
        received.unwrap();
    });
    assert!(fs::read(goal.path().join("f")).unwrap() == sent.content);
}

#[test]
fn what_an_earlier_attempt_left_for_all_to_read_is_private_from_the_first_byte_on() {
    let goal = tempfile::tempdir().unwrap();
    fs::write(part_of(goal.path()), "").unwrap();
    set_mode(&part_of(goal.path()), 0o644);
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        let sent = SentFile::new("f", content(3 * CHUNK, 1));
        peer.offer(sent.entry());
        assert!(matches!(peer.next(), FilesMessage::Want { held: 0, .. }));
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        peer.data(&sent.content[..10]);
        // It is answered once the file is open.
        peer.say(&FilesMessage::ChunkEnd { hash: [0; 32] }).unwrap();
        assert!(peer.reader.next().unwrap().is_none());
    });
    received.unwrap_err();
    assert_eq!(mode(&part_of(goal.path())), 0o600);
}

#[test]
fn no_offer_makes_anything_setuid_setgid_or_sticky() {
    let goal = tempfile::tempdir().unwrap();
    let all = |path: &[u8], kind| {
        let mut entry = entry(path, kind);
        entry.mode = 0o7777;
        entry
    };
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(all(b"d", EntryKind::Directory));
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.offer(all(b"f", file(Some(1), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        peer.content(1, b"x", 0, &[]).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.say(&FilesMessage::Attributes { path: b"d"[..].into(), mode: 0o7777, modified: MODIFIED })
            .unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    for name in ["d", "f"] {
        assert_eq!(mode(&goal.path().join(name)), 0o777, "{name}");
    }
}

#[test]
fn what_an_earlier_attempt_left_private_gets_the_usual_permissions_where_none_are_kept() {
    for size in [1000, 3 * CHUNK] {
        let goal = tempfile::tempdir().unwrap();
        let sent = [SentFile::new("f", content(size, 1))];
        fs::write(part_of(goal.path()), &sent[0].content[..size / 3]).unwrap();
        set_mode(&part_of(goal.path()), 0o600);
        let options = TransferOptions { preserve: false, ..OPTIONS };
        let (received, _, answers) =
            exchange(receiver(goal.path(), options), |peer| peer.send(&sent).unwrap());
        received.unwrap();
        assert_eq!(answers[&0], Answer::Done(None));
        assert_eq!(names(goal.path()), ["f"]);
        let usual = goal.path().join("usual");
        fs::write(&usual, "").unwrap();
        assert_ne!(mode(&usual), 0o600, "the umask of the tests says nothing");
        assert_eq!(mode(&goal.path().join("f")), mode(&usual));
        assert!(fs::read(goal.path().join("f")).unwrap() == sent[0].content);
    }
}

#[test]
fn a_private_directory_is_private_before_anything_is_in_it() {
    let goal = tempfile::tempdir().unwrap();
    // Another stream has made this one for what is in it.
    fs::create_dir(goal.path().join("made")).unwrap();
    set_mode(&goal.path().join("made"), 0o755);
    let offer = |path: &[u8]| {
        let mut entry = entry(path, EntryKind::Directory);
        entry.mode = 0o500;
        entry
    };
    for (preserve, expected) in [(true, 0o700), (false, 0o755)] {
        let (received, _, ()) =
            exchange(receiver(goal.path(), TransferOptions { preserve, ..OPTIONS }), |peer| {
                for name in [&b"new"[..], b"made"] {
                    peer.offer(offer(name));
                    peer.next();
                }
                let usual = goal.path().join("usual");
                let _ = fs::create_dir(&usual);
                let expected = if preserve { expected } else { mode(&usual) };
                assert_eq!(mode(&goal.path().join("new")), expected);
                if preserve {
                    assert_eq!(mode(&goal.path().join("made")), 0o700);
                }
                // The transfer is cut here.
            });
        received.unwrap_err();
        fs::remove_dir(goal.path().join("new")).unwrap();
    }
}

#[test]
fn a_directory_that_stood_there_and_gets_no_attributes_has_its_permissions_in_the_end() {
    let goal = tempfile::tempdir().unwrap();
    let there = goal.path().join("there");
    fs::create_dir(&there).unwrap();
    set_mode(&there, 0o2775);
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        // Its sender's filter leaves it out: it comes for what is in it.
        let mut left_out = entry(b"there", EntryKind::Directory);
        left_out.mode = 0o700;
        peer.offer(left_out);
        assert!(matches!(peer.next(), FilesMessage::Have { .. }));
        assert_eq!(mode(&there), 0o2700);
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(mode(&there), 0o2775);
}

#[test]
fn a_private_directory_that_a_filter_leaves_out_is_private_with_what_is_in_it() {
    let goal = tempfile::tempdir().unwrap();
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.filter = Some(Box::new(|path, is_directory| path.ends_with(b".jpg") && !is_directory));
    let (received, _, ()) = exchange(receiver, |peer| {
        for (path, mode) in [(&b"other"[..], 0o755), (b"private", 0o700), (b"private/deep", 0o755)] {
            let mut entry = entry(path, EntryKind::Directory);
            entry.mode = mode;
            peer.offer(entry);
            assert!(matches!(peer.next(), FilesMessage::Have { .. }));
        }
        assert_eq!(names(goal.path()), Vec::<String>::new());
        peer.offer(entry(b"private/deep/a.jpg", file(Some(1), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
    });
    received.unwrap_err();
    assert_eq!(names(goal.path()), ["private"]);
    assert_eq!(mode(&goal.path().join("private")), 0o700);
    assert!(goal.path().join("private/deep").is_dir());
}

#[test]
fn a_hole_in_a_stream_takes_the_room_that_it_counts_for() {
    // What is kept in memory of each chunk is not to be had for nothing.
    let goal = tempfile::tempdir().unwrap();
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(entry(b"f", file(None, [0; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        let zeros = vec![0; 4 * CHUNK];
        for chunk in zeros.chunks(CHUNK) {
            peer.say(&FilesMessage::Hole { length: 1 << 20 }).unwrap();
            peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(chunk) }).unwrap();
        }
        peer.say(&FilesMessage::End { hash: file_hash(&zeros, 0), sha256: None }).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    let stored = fs::metadata(goal.path().join("f")).unwrap();
    assert_eq!(stored.len(), 4 << 20);
    assert!(stored.blocks() * 512 >= 4 << 20, "{} blocks", stored.blocks());
}

#[test]
fn who_may_only_add_does_not_learn_what_is_in_a_file() {
    let goal = tempfile::tempdir().unwrap();
    fs::write(goal.path().join("pin"), b"4711").unwrap();
    let options = TransferOptions { checksum: true, ..OPTIONS };
    let guess = |pin: &[u8], only_made| {
        let kind = EntryKind::File {
            size: Some(4),
            allocated: None,
            source: [1; 32],
            sha256: Some(Sha256::digest(pin).into()),
        };
        let mut receiver = receiver(goal.path(), options);
        receiver.only_made = only_made;
        let (received, _, answer) = exchange(receiver, |peer| {
            peer.offer(entry(b"pin", kind));
            let answer = peer.next();
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
            answer
        });
        received.unwrap();
        answer
    };
    let exists = FilesMessage::Rejected { number: 0, code: FilesCode::Exists };
    assert_eq!([guess(b"4711", true), guess(b"1234", true)], [exists.clone(), exists.clone()]);
    assert_eq!(guess(b"1234", false), exists);
    assert!(matches!(guess(b"4711", false), FilesMessage::Have { sha256: Some(_), .. }));
    // What it has put itself it knows by its time.
    let seconds = u64::try_from(MODIFIED.seconds).unwrap();
    let modified = UNIX_EPOCH + Duration::new(seconds, MODIFIED.nanoseconds);
    fs::File::options().write(true).open(goal.path().join("pin")).unwrap().set_modified(modified).unwrap();
    assert_eq!(guess(b"4711", true), FilesMessage::Have { number: 0, sha256: None });
}
