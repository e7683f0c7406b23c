//! A transfer that is cut anywhere leaves nothing partial under a final name, and the same transfer brings all of it then.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use files::path::{journal_name, part_name};
use files::receiver::Receiver;
use proptest::prelude::*;
use wire_protocol::message::{Existing, FilesMessage, TransferOptions};

use super::scripted_sender::*;

fn unfinished(goal: &Path, name: &[u8]) -> (PathBuf, PathBuf) {
    let path = |name| goal.join(String::from_utf8(name).unwrap());
    (path(part_name(b"owner", name)), path(journal_name(b"owner", name)))
}

/// Sends so many chunks of a file and leaves.
fn cut_behind(receiver: Receiver, sent: &SentFile, chunks: usize) {
    let (received, _, ()) = exchange(receiver, |peer| {
        peer.offer(sent.entry());
        let FilesMessage::Want { held, compare, .. } = peer.next() else { panic!("it is wanted") };
        let theirs = peer.hashes(compare).unwrap();
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        for (number, chunk) in sent.content.chunks(CHUNK).enumerate().take(chunks) {
            if number < usize::try_from(held).unwrap() {
                continue;
            }
            if theirs.get(number - usize::try_from(held).unwrap()) == Some(&chunk_hash(chunk)) {
                peer.say(&FilesMessage::Same).unwrap();
                continue;
            }
            peer.data(chunk);
            peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(chunk) }).unwrap();
        }
        peer.data(&sent.content[chunks * CHUNK..][..1000]);
    });
    received.unwrap_err();
}

/// What is wanted of a file, which is sent then.
fn wanted(goal: &Path, sent: &SentFile) -> (u32, u32) {
    let (received, events, wanted) = exchange(receiver(goal, OPTIONS), |peer| {
        peer.offer(sent.entry());
        let FilesMessage::Want { held, compare, .. } = peer.next() else { panic!("it is wanted") };
        let theirs = peer.hashes(compare).unwrap();
        peer.content(0, &sent.content, held, &theirs).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
        (held, compare)
    });
    received.unwrap();
    let name = String::from_utf8(sent.path.clone()).unwrap();
    assert!(fs::read(goal.join(&name)).unwrap() == sent.content);
    assert_eq!(names(goal), [name]);
    let started = events.iter().find_map(|event| match event {
        files::event::Event::Started { held, .. } => Some(*held),
        _ => None,
    });
    let there = u64::from(wanted.0 + wanted.1) * u64::try_from(CHUNK).unwrap();
    assert_eq!(started, Some(there.min(sent.size())));
    wanted
}

#[test]
fn chunks_that_have_come_do_not_come_again() {
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile::new("f", content(5 * CHUNK + 9, 1));
    for chunks in [0, 1, 4, 5] {
        let length = if chunks == 5 { 5 } else { chunks };
        let sent = SentFile { content: [&sent.content[..], &[0; 2000]].concat(), ..sent.clone() };
        cut_behind(receiver(goal.path(), OPTIONS), &sent, chunks);
        assert_eq!(wanted(goal.path(), &sent), (u32::try_from(length).unwrap(), 0));
        fs::remove_file(goal.path().join("f")).unwrap();
    }
}

#[test]
fn several_cuts_add_up() {
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile::new("f", content(6 * CHUNK + 2000, 1));
    for chunks in [1, 3, 3, 5] {
        cut_behind(receiver(goal.path(), OPTIONS), &sent, chunks);
        assert_eq!(names(goal.path()).len(), 2);
    }
    assert_eq!(wanted(goal.path(), &sent), (5, 0));
}

#[test]
fn another_source_is_compared_and_never_spliced() {
    let goal = tempfile::tempdir().unwrap();
    let first = SentFile::new("f", content(5 * CHUNK + 2000, 1));
    cut_behind(receiver(goal.path(), OPTIONS), &first, 4);
    let mut changed = first.content;
    changed[CHUNK + 5] ^= 1;
    let second = SentFile::new("f", changed);
    // It is cut again within what is compared: what was compared counts for the new one.
    cut_behind(receiver(goal.path(), OPTIONS), &second, 3);
    assert_eq!(wanted(goal.path(), &second), (3, 1));
}

#[test]
fn a_partial_file_without_a_journal_is_compared() {
    let sent = SentFile::new("f", content(3 * CHUNK + 9, 1));
    for (length, compare) in [(CHUNK - 1, 0), (2 * CHUNK + 5, 2), (3 * CHUNK + 9, 4), (5 * CHUNK, 4)] {
        let goal = tempfile::tempdir().unwrap();
        let (part, _) = unfinished(goal.path(), b"f");
        let mut there = sent.content.clone();
        there.resize(length, 7);
        fs::write(&part, there).unwrap();
        assert_eq!(wanted(goal.path(), &sent), (0, compare), "{length}");
    }
    // A source without a state is never known again.
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile { source: [0; 32], ..sent };
    fs::write(unfinished(goal.path(), b"f").0, &sent.content[..2 * CHUNK]).unwrap();
    assert_eq!(wanted(goal.path(), &sent), (0, 2));
}

#[test]
fn many_chunks_are_told_in_several_messages() {
    let goal = tempfile::tempdir().unwrap();
    let there = u64::try_from(200 * CHUNK).unwrap();
    fs::File::create(unfinished(goal.path(), b"f").0).unwrap().set_len(there).unwrap();
    let (received, _, ()) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(entry(b"f", file(Some(there + 5), [1; 32])));
        assert_eq!(peer.next(), FilesMessage::Want { number: 0, held: 0, compare: 200 });
        for length in [128, 72] {
            let FilesMessage::Hashes { hashes } = peer.next() else { panic!("hashes are due") };
            assert_eq!(hashes.len(), length);
            assert!(hashes.iter().all(|hash| *hash == chunk_hash(&[0; CHUNK])));
        }
        peer.say(&FilesMessage::Begin { number: 0 }).unwrap();
        // It was the same all along, which the end says too.
        (0..200).for_each(|_| peer.try_say(&FilesMessage::Same));
        peer.data(b"12345");
        let mut hasher = files::chunks::FileHasher::new(there + 5, 0);
        (0..200).for_each(|_| hasher.add(&chunk_hash(&[0; CHUNK])));
        hasher.add(&chunk_hash(b"12345"));
        peer.say(&FilesMessage::ChunkEnd { hash: chunk_hash(b"12345") }).unwrap();
        peer.say(&FilesMessage::End { hash: hasher.finish(), sha256: None }).unwrap();
        assert!(matches!(peer.next(), FilesMessage::Done { .. }));
        peer.say(&FilesMessage::OffersEnd).unwrap();
        peer.finish().unwrap();
    });
    received.unwrap();
    assert_eq!(fs::metadata(goal.path().join("f")).unwrap().len(), there + 5);
}

#[test]
fn a_journal_that_is_torn_or_spoilt_counts_for_less() {
    let sent = SentFile::new("f", content(5 * CHUNK + 2000, 1));
    let made = tempfile::tempdir().unwrap();
    cut_behind(receiver(made.path(), OPTIONS), &sent, 4);
    let (part, journal) = unfinished(made.path(), b"f");
    let (part, journal) = (fs::read(part).unwrap(), fs::read(journal).unwrap());
    let with = |part: &[u8], journal: &[u8]| {
        let goal = tempfile::tempdir().unwrap();
        let (part_path, journal_path) = unfinished(goal.path(), b"f");
        fs::write(part_path, part).unwrap();
        fs::write(journal_path, journal).unwrap();
        wanted(goal.path(), &sent)
    };
    assert_eq!(with(&part, &journal), (4, 0));
    assert_eq!(with(&part, b""), (0, 4));
    assert_eq!(with(&part, &vec![0; 3000]), (0, 4));
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..30 {
        let (held, compare) = with(&part, &journal[..random.usize(..journal.len())]);
        assert_eq!(held + compare, 4);
        let mut spoilt = journal.clone();
        spoilt[random.usize(..journal.len())] ^= 1 << random.u8(..8);
        let (held, compare) = with(&part, &spoilt);
        assert_eq!(held + compare, 4);
    }
    // What the last mark does not cover is hashed: the system may have lost it.
    let without_mark = &journal[..journal.len() - 45];
    assert_eq!(with(&part, without_mark), (4, 0));
    let mut lost = part.clone();
    lost[3 * CHUNK + 1] ^= 1;
    assert_eq!(with(&lost, without_mark), (3, 1));
    // A file that was cut short has lost chunks.
    assert_eq!(with(&part[..2 * CHUNK + 1], &journal), (2, 0));
    assert_eq!(with(&[], &journal), (0, 0));
}

#[test]
fn a_disk_that_lies_is_found_out_at_the_end() {
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile::new("f", content(3 * CHUNK + 2000, 1));
    cut_behind(receiver(goal.path(), OPTIONS), &sent, 2);
    let (part, _) = unfinished(goal.path(), b"f");
    fs::File::options().write(true).open(&part).unwrap().write_all_at(b"spoilt", 5).unwrap();
    let options = TransferOptions { verify_disk: true, ..OPTIONS };
    let (received, _, answers) = exchange(receiver(goal.path(), options), |peer| peer.send(&[sent]).unwrap());
    received.unwrap();
    assert_eq!(answers[&0], Answer::Rejected(wire_protocol::message::FilesCode::Mismatch));
    assert_eq!(names(goal.path()), Vec::<String>::new());
}

#[test]
fn parts_of_different_owners_do_not_meet() {
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile::new("f", content(3 * CHUNK + 2000, 1));
    let mut other = receiver(goal.path(), OPTIONS);
    other.owner = b"another"[..].into();
    cut_behind(other, &sent, 2);
    let (received, _, wanted) = exchange(receiver(goal.path(), OPTIONS), |peer| {
        peer.offer(sent.entry());
        peer.next()
    });
    received.unwrap_err();
    assert_eq!(wanted, FilesMessage::Want { number: 0, held: 0, compare: 0 });
}

/// A few files of different kinds.
fn tree(seed: u64) -> Vec<SentFile> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..random.usize(1..6))
        .map(|number| {
            let length = match random.u8(..4) {
                0 => 0,
                1 => random.usize(..2000),
                2 => random.usize(CHUNK - 2..CHUNK + 3),
                _ => random.usize(..3 * CHUNK),
            };
            SentFile::new(&format!("d{}/f{number}", random.u8(..2)), content(length, seed ^ 9))
        })
        .collect()
}

/// What stands under a final name is whole.
fn assert_whole(goal: &Path, files: &[SentFile]) -> usize {
    let mut whole = 0;
    for file in files {
        if let Ok(there) = fs::read(goal.join(std::str::from_utf8(&file.path).unwrap())) {
            assert!(there == file.content, "{:?} is partial", file.path);
            whole += 1;
        }
    }
    whole
}

/// Sends a tree, cut at these places, and at last as a whole.
fn cut_and_finish(files: &[SentFile], cuts: impl IntoIterator<Item = usize>, options: TransferOptions) {
    let goal = tempfile::tempdir().unwrap();
    for cut in cuts {
        let (_, _, _) = exchange_cut(receiver(goal.path(), options), Some(cut), |peer| peer.send(files));
        assert_whole(goal.path(), files);
    }
    let (received, _, answers) = exchange(receiver(goal.path(), options), |peer| peer.send(files).unwrap());
    received.unwrap();
    assert!(
        answers.values().all(|answer| matches!(answer, Answer::Have | Answer::Done(None))),
        "{answers:?}"
    );
    assert_eq!(assert_whole(goal.path(), files), files.len());
    for directory in names(goal.path()) {
        let names = names(&goal.path().join(directory));
        assert!(names.iter().all(|name| name.starts_with('f')), "{names:?}");
    }
}

#[test]
fn a_cut_at_the_end_of_each_message_is_made_up_for() {
    // The sizes of the messages are those of this tree: each place where one ends, and one byte before and behind.
    let files = [SentFile::new("d/f0", b"small".to_vec()), SentFile::new("d/f1", content(2 * CHUNK + 3, 1))];
    let mut places = vec![0];
    let mut place = 0;
    let mut add = |message: &FilesMessage, content: usize| {
        let mut bytes = Vec::new();
        wire_protocol::codec::encode(message, &mut bytes);
        place += 2 + bytes.len();
        places.push(place);
        if content > 0 {
            place += content;
            places.push(place);
        }
    };
    files.iter().for_each(|file| add(&FilesMessage::Offer { entry: file.entry() }, 0));
    add(&FilesMessage::OffersEnd, 0);
    for (number, file) in (0..).zip(&files) {
        add(&FilesMessage::Begin { number }, 0);
        for chunk in file.content.chunks(CHUNK) {
            for piece in chunk.chunks(300_000) {
                add(&FilesMessage::Data { length: u32::try_from(piece.len()).unwrap() }, piece.len());
            }
            add(&FilesMessage::ChunkEnd { hash: [0; 32] }, 0);
        }
        add(&FilesMessage::End { hash: [0; 32], sha256: None }, 0);
    }
    add(&FilesMessage::Finish, 0);
    for place in places {
        for cut in [place.saturating_sub(1), place, place + 1] {
            cut_and_finish(&files, [cut], OPTIONS);
        }
    }
}

/// Copies what stands on disk, as a process that is killed leaves it.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let goal = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&goal).unwrap();
            copy(&entry.path(), &goal);
        } else {
            fs::copy(entry.path(), &goal).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            fs::File::options().write(true).open(&goal).unwrap().set_modified(modified).unwrap();
        }
    }
}

#[test]
fn what_a_kill_leaves_at_any_point_is_gone_on_with() {
    let files = [
        SentFile::new("d/f0", content(100, 3)),
        SentFile::new("d/f1", content(3 * CHUNK + 3, 1)),
        SentFile::new("e/f2", content(CHUNK, 2)),
    ];
    let goal = tempfile::tempdir().unwrap();
    let mut left = Vec::new();
    let mut seen = 0;
    let mut observe = || {
        seen += 1;
        // There is an event for each record.
        if seen % 7 == 0 {
            let copied = tempfile::tempdir().unwrap();
            copy(goal.path(), copied.path());
            left.push(copied);
        }
    };
    let (received, _, sent) =
        exchange_observed(receiver(goal.path(), OPTIONS), None, &mut observe, |peer| peer.send(&files));
    received.unwrap();
    sent.unwrap();
    assert!(left.len() > 20);
    let mut held_most = 0;
    for goal in left {
        assert_whole(goal.path(), &files);
        let (received, events, sent) = exchange(receiver(goal.path(), OPTIONS), |peer| peer.send(&files));
        received.unwrap();
        sent.unwrap();
        for event in events {
            if let files::event::Event::Started { held, .. } = event {
                held_most = held_most.max(held);
            }
        }
        assert_eq!(assert_whole(goal.path(), &files), files.len());
        assert_eq!(names(&goal.path().join("d")), ["f0", "f1"]);
        assert_eq!(names(&goal.path().join("e")), ["f2"]);
    }
    assert!(held_most >= u64::try_from(2 * CHUNK).unwrap());
}

#[test]
fn a_journal_that_outlived_its_file_goes() {
    let goal = tempfile::tempdir().unwrap();
    let sent = SentFile::new("f", content(2 * CHUNK, 1));
    assert_eq!(wanted(goal.path(), &sent), (0, 0));
    fs::write(unfinished(goal.path(), b"f").1, "journal").unwrap();
    let (received, _, answers) = exchange(receiver(goal.path(), OPTIONS), |peer| peer.send(&[sent]).unwrap());
    received.unwrap();
    assert_eq!(answers[&0], Answer::Have);
    assert_eq!(names(goal.path()), ["f"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn any_tree_arrives_after_any_cuts(
        seed in any::<u64>(),
        cuts in 0..5usize,
        verify_disk in any::<bool>(),
        replaces in any::<bool>(),
    ) {
        let files = tree(seed);
        let total: usize = files.iter().map(|file| file.content.len() + 500).sum();
        let mut random = fastrand::Rng::with_seed(seed);
        let existing = if replaces { Existing::Replace } else { Existing::Refuse };
        let cuts: Vec<_> = (0..cuts).map(|_| random.usize(..total)).collect();
        cut_and_finish(&files, cuts, TransferOptions { verify_disk, existing, ..OPTIONS });
    }
}
