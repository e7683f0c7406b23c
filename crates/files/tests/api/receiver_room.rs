//! Room in a share: set aside before content comes, and given back where it does not.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use files::control::Room;
use files::event::Event;
use wire_protocol::message::{EntryKind, Existing, FilesCode, FilesMessage, TransferOptions};

use super::scripted_sender::*;

/// A share that may hold so much.
#[derive(Debug)]
struct Quota {
    most: u64,
    held: AtomicU64,
}

impl Room for Quota {
    fn reserve(&self, bytes: u64) -> Result<(), FilesCode> {
        if self.held.load(Ordering::SeqCst) + bytes > self.most {
            return Err(FilesCode::Quota);
        }
        self.held.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }
}

#[test]
fn room_is_set_aside_before_content_comes_and_given_back() {
    let goal = tempfile::tempdir().unwrap();
    let most = u64::try_from(4 * CHUNK).unwrap();
    let quota = Arc::new(Quota { most, held: AtomicU64::new(0) });
    let held = || quota.held.load(Ordering::SeqCst);
    let size = |chunks: usize| u64::try_from(chunks * CHUNK).unwrap();
    let mut first = receiver(goal.path(), TransferOptions { existing: Existing::Replace, ..OPTIONS });
    first.room = quota.clone();
    let content = content(3 * CHUNK, 5);
    let (received, _, ()) = exchange(first, |peer| {
        for (name, chunks) in [(&b"a"[..], 3), (b"b", 2), (b"c", 1)] {
            peer.offer(entry(name, file(Some(size(chunks)), [1; 32])));
        }
        assert!(matches!(peer.next(), FilesMessage::Want { number: 0, .. }));
        assert_eq!(peer.next(), FilesMessage::Rejected { number: 1, code: FilesCode::Quota });
        assert!(matches!(peer.next(), FilesMessage::Want { number: 2, .. }));
        assert_eq!(held(), size(4));
        // A chunk of the first one comes, and the other one not at all.
        peer.say(&FilesMessage::Begin { number: 2 }).unwrap();
        peer.say(&FilesMessage::Abandon { code: FilesCode::Changed }).unwrap();
        assert_eq!(peer.next(), FilesMessage::Rejected { number: 2, code: FilesCode::Changed });
        assert_eq!(held(), size(3));
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        peer.data(&content[..CHUNK]);
        peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(&content[..CHUNK]) }).unwrap();
    });
    assert!(received.is_err());
    assert_eq!(held(), size(1), "what is there of the first one still counts");
    let mut second = receiver(goal.path(), TransferOptions { existing: Existing::Replace, ..OPTIONS });
    second.room = quota.clone();
    let sent = [SentFile { path: b"a".to_vec(), content: content.clone(), source: [1; 32] }];
    let (received, _, answers) = exchange(second, |peer| peer.send(&sent).unwrap());
    received.unwrap();
    assert_eq!(answers[&0], Answer::Done(None));
    assert_eq!(held(), size(3));
    // In its place comes another one.
    fs::File::options().append(true).open(goal.path().join("a")).unwrap().set_len(size(2)).unwrap();
    quota.held.store(size(2), Ordering::SeqCst);
    let mut third = receiver(goal.path(), TransferOptions { existing: Existing::Replace, ..OPTIONS });
    third.room = quota.clone();
    let sent = [SentFile::new("a", content[..CHUNK].to_vec())];
    let (received, _, _) = exchange(third, |peer| peer.send(&sent).unwrap());
    received.unwrap();
    assert_eq!(held(), size(1));
}

#[test]
fn what_a_smaller_file_does_not_go_on_with_is_given_back() {
    let goal = tempfile::tempdir().unwrap();
    let part = String::from_utf8(files::path::part_name(b"owner", b"f")).unwrap();
    let journal = String::from_utf8(files::path::journal_name(b"owner", b"f")).unwrap();
    fs::write(goal.path().join(part), [7; 5000]).unwrap();
    fs::write(goal.path().join(journal), "of a larger file").unwrap();
    let quota = Arc::new(Quota { most: 10_000, held: AtomicU64::new(5000) });
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.room = quota.clone();
    let sent = [SentFile::new("f", vec![1; 10])];
    let (received, _, answers) = exchange(receiver, |peer| peer.send(&sent).unwrap());
    received.unwrap();
    assert_eq!(answers[&0], Answer::Done(None));
    assert_eq!(quota.held.load(Ordering::SeqCst), 4096, "it counts as the smallest file does");
    assert_eq!(names(goal.path()), ["f"]);
}

#[test]
fn entries_without_content_take_room_as_well() {
    let goal = tempfile::tempdir().unwrap();
    let quota = Arc::new(Quota { most: 5 * 4096, held: AtomicU64::new(0) });
    let run = |script: &dyn Fn(&mut Peer)| {
        let mut receiver = receiver(goal.path(), TransferOptions { existing: Existing::Replace, ..OPTIONS });
        receiver.room = quota.clone();
        let (received, _, ()) = exchange(receiver, |peer| {
            script(peer);
            peer.say(&FilesMessage::OffersEnd).unwrap();
            peer.finish().unwrap();
        });
        received.unwrap();
        quota.held.load(Ordering::SeqCst) / 4096
    };
    let link = |target: &[u8]| EntryKind::Symlink { target: target.into() };
    let full = |number| FilesMessage::Rejected { number, code: FilesCode::Quota };
    let held = run(&|peer| {
        peer.offer(entry(b"directory", EntryKind::Directory));
        assert!(matches!(peer.next(), FilesMessage::Done { number: 0, .. }));
        peer.offer(entry(b"link", link(b"x")));
        assert!(matches!(peer.next(), FilesMessage::Done { number: 1, .. }));
        peer.offer(entry(b"above/empty", file(Some(0), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { number: 2, .. }));
        peer.content(2, b"", 0, &[]).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { number: 2, .. }));
    });
    assert_eq!(held, 4, "with the directory above the file");
    let held = run(&|peer| {
        // Of two directories there is room for one, and none for the file.
        peer.offer(entry(b"new/er/empty", file(Some(0), [1; 32])));
        assert_eq!(peer.next(), full(0));
        for (number, kind) in (1..).zip([EntryKind::Directory, link(b"x"), file(Some(0), [1; 32])]) {
            peer.offer(entry(b"more", kind));
            assert_eq!(peer.next(), full(number));
        }
    });
    assert_eq!(held, 5);
    fs::remove_dir(goal.path().join("new")).unwrap();
    quota.held.store(4 * 4096, Ordering::SeqCst);
    let held = run(&|peer| {
        // What takes the place of something gives its room back.
        peer.offer(entry(b"link", link(b"y")));
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.offer(entry(b"link", file(Some(0), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        peer.content(1, b"", 0, &[]).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        // So does what does not come.
        peer.offer(entry(b"never", file(Some(0), [1; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        peer.say(&FilesMessage::Begin { number: 2 }).unwrap();
        peer.say(&FilesMessage::Abandon { code: FilesCode::Changed }).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Rejected { .. }));
    });
    assert_eq!(held, 4);
}

#[test]
fn a_stream_takes_room_as_it_grows() {
    let goal = tempfile::tempdir().unwrap();
    let quota = Arc::new(Quota { most: 10_000, held: AtomicU64::new(0) });
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.room = quota.clone();
    let (received, _, ()) = exchange(receiver, |peer| {
        let content = [1; 9000];
        peer.offer(entry(b"s", file(None, [0; 32])));
        assert!(matches!(peer.next(), FilesMessage::Want { .. }));
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        content.chunks(3000).for_each(|piece| peer.data(piece));
        peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(&content) }).unwrap();
        peer.say(&FilesMessage::End { hash: file_hash(&content, 0), sha256: None }).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(quota.held.load(Ordering::SeqCst), 9000);
}

#[test]
fn a_file_that_has_no_room_by_what_its_sender_says_is_not_wanted_at_all() {
    let goal = tempfile::tempdir().unwrap();
    let dense =
        |size, allocated| EntryKind::File { size: Some(size), allocated, source: [1; 32], sha256: None };
    // More than any disk of a machine that runs tests has.
    let huge = 1 << 44;
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        for (number, allocated) in (0..).zip([huge, huge / 2, u64::MAX]) {
            peer.offer(entry(b"a", dense(huge, Some(allocated))));
            assert_eq!(peer.next(), FilesMessage::Rejected { number, code: FilesCode::NoSpace });
        }
        // What is not known, and what is not so, changes nothing for a file that does fit.
        let small = u64::try_from(3 * CHUNK).unwrap();
        let offers = [(&b"a"[..], huge, None), (b"b", huge, Some(5)), (b"c", small, Some(u64::MAX))];
        for (number, (name, size, allocated)) in (3..).zip(offers) {
            peer.offer(entry(name, dense(size, allocated)));
            assert_eq!(peer.next(), FilesMessage::Want { number, held: 0, compare: 0 });
        }
        let stream = EntryKind::File { size: None, allocated: Some(u64::MAX), source: [0; 32], sha256: None };
        peer.offer(entry(b"d", stream));
        assert_eq!(peer.next(), FilesMessage::Want { number: 6, held: 0, compare: 0 });
    });
    received.unwrap_err();
    let (received, events, ()) =
        exchange(receiver(goal.path(), TransferOptions { dry_run: true, ..OPTIONS }), |peer| {
            peer.offer(entry(b"a", dense(huge, Some(huge))));
            assert_eq!(peer.next(), FilesMessage::Rejected { number: 0, code: FilesCode::NoSpace });
        });
    received.unwrap_err();
    assert!(matches!(events.last(), Some(Event::Failed { code: FilesCode::NoSpace, .. })));
}

#[test]
fn a_file_of_holes_whose_chunks_take_years_to_hash_is_not_wanted() {
    let goal = tempfile::tempdir().unwrap();
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        // A hole of such a chunk would be a message of ten bytes.
        for (number, size) in (0..).zip([(1 << 44) + 1, 1 << 50, 1 << 62]) {
            peer.offer(entry(b"f", file(Some(size), [1; 32])));
            assert_eq!(peer.next(), FilesMessage::Rejected { number, code: FilesCode::NoSpace });
        }
        peer.offer(entry(b"f", file(Some(1 << 44), [1; 32])));
        assert_eq!(peer.next(), FilesMessage::Want { number: 3, held: 0, compare: 0 });
    });
    received.unwrap_err();
    // Nor where holes of an earlier attempt seem to be most of it already.
    let part = files::path::part_name(b"owner", b"f");
    let part = std::fs::File::create(goal.path().join(std::str::from_utf8(&part).unwrap())).unwrap();
    if part.set_len((1 << 44) - (1 << 20)).is_ok() {
        let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
            peer.offer(entry(b"f", file(Some(1 << 45), [1; 32])));
            assert_eq!(peer.next(), FilesMessage::Rejected { number: 0, code: FilesCode::NoSpace });
        });
        received.unwrap_err();
    }
}
