//! Receivers that say what they may not: each ends the exchange with an error, and none makes the sender wait or panic.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use files::control::Control;
use files::error::Error;
use files::filter::Filter;
use tempfile::tempdir;
use wire_protocol::message::*;

use super::memory_stream::pair;
use super::peer::{run, sender};

const HASH: [u8; HASH_LEN] = [0; HASH_LEN];

fn have(number: u32) -> FilesMessage {
    FilesMessage::Have { number, sha256: None }
}

fn done(number: u32) -> FilesMessage {
    FilesMessage::Done { number, sha256: None, stored_as: None }
}

fn want(number: u32, held: u32, compare: u32) -> FilesMessage {
    FilesMessage::Want { number, held, compare }
}

fn hashes(count: usize) -> FilesMessage {
    FilesMessage::Hashes { hashes: vec![HASH; count] }
}

/// What a receiver says once it has the offers of a tree: number 0 is a directory, 1 a file of 3 chunks, 2 a link.
fn says(messages: &[FilesMessage]) -> Result<(), Error> {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), vec![1; 3 << 20]).unwrap();
    symlink("x", tree.join("link")).unwrap();
    let (result, _) = run(sender(&tree, &Filter::all()), |mut peer| {
        let (offers, _) = peer.offers();
        assert_eq!([offers["tree"].0, offers["tree/file"].0, offers["tree/link"].0], [0, 1, 2]);
        for message in messages {
            peer.say(message.clone());
        }
        // Whatever the sender still says is heard.
        peer.reader().discard().ok();
    });
    result
}

#[test]
fn answers_that_may_not_be_given_end_the_exchange() {
    let put = FilesMessage::Put {
        destination: Box::default(),
        placement: Placement::Into,
        options: TransferOptions {
            existing: Existing::Refuse,
            preserve: true,
            checksum: false,
            verify_disk: false,
            dry_run: false,
        },
        part: Part::WHOLE,
    };
    let stored_as = Some(vec![b'x'; 256].into());
    for messages in [
        &[have(3)][..],
        &[have(u32::MAX)],
        &[done(3)],
        &[want(3, 0, 0)],
        &[FilesMessage::Rejected { number: 3, code: FilesCode::Io }],
        &[have(0), have(0)],
        &[done(0), have(0)],
        &[FilesMessage::Rejected { number: 1, code: FilesCode::Io }, want(1, 0, 0)],
        &[want(0, 0, 0)],
        &[want(2, 0, 0)],
        &[want(1, 0, 0), want(1, 0, 0)],
        &[want(1, 4, 0)],
        &[want(1, 2, 2)],
        &[want(1, u32::MAX, u32::MAX)],
        &[want(1, 0, u32::MAX)],
        &[want(1, 0, 0), have(1)],
        &[done(1)],
        &[want(1, 0, 3), done(1)],
        &[want(1, 0, 3), have(0)],
        &[want(1, 0, 3), hashes(4)],
        &[want(1, 0, 3), hashes(2), hashes(2)],
        &[want(1, 0, 3), hashes(0)],
        &[want(1, 0, 3), hashes(1), want(1, 0, 0)],
        &[want(1, 0, 3), hashes(3), hashes(1)],
        &[want(1, 0, 0), hashes(1)],
        &[hashes(1)],
        &[hashes(MAX_HASHES + 1)],
        &[FilesMessage::AskAttributes],
        &[have(0), have(1), have(2), FilesMessage::AskAttributes, FilesMessage::AskAttributes],
        &[have(0), have(1), have(2), FilesMessage::Finish],
        &[FilesMessage::Finish],
        &[FilesMessage::Ready { is_directory: true, is_large: false }],
        &[FilesMessage::Failed { code: FilesCode::Io }],
        &[FilesMessage::ListEnd],
        &[FilesMessage::OffersEnd],
        &[FilesMessage::Begin { number: 0 }],
        &[FilesMessage::Data { length: 5 }],
        &[put],
        &[FilesMessage::Done { number: 0, sha256: None, stored_as }],
        &[FilesMessage::Done { number: 0, sha256: None, stored_as: Some(Box::default()) }],
    ] {
        let result = says(messages);
        assert!(matches!(result, Err(Error::Protocol(_))), "{messages:?} gives {result:?}");
    }
}

#[test]
fn an_end_that_comes_too_early_is_an_error() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("file"), b"x").unwrap();
    for answers in 0..2 {
        let (result, _) = run(sender(&directory.path().join("."), &Filter::all()), |mut peer| {
            peer.offers();
            (0..answers).for_each(|number| peer.have(number));
            peer.leave();
        });
        assert!(matches!(result, Err(Error::Channel(_))), "{result:?}");
    }
}

#[test]
fn a_receiver_that_tells_many_hashes_before_it_takes_content_holds_nobody_up() {
    let directory = tempdir().unwrap();
    // Four files of 4096 chunks each, all of them holes.
    for name in ["a", "b", "c", "d"] {
        fs::File::create(directory.path().join(name)).unwrap().set_len(4096 << 20).unwrap();
    }
    let (result, _) = run(sender(&directory.path().join("."), &Filter::all()), |mut peer| {
        peer.offers();
        // More is sent for the first one than a stream takes before somebody reads.
        peer.say(want(0, 0, 0));
        let zeros = *blake3::hash(&vec![0; 1 << 20]).as_bytes();
        for number in 1..4 {
            peer.say(want(number, 0, 4096));
            for _ in 0..32 {
                peer.say(FilesMessage::Hashes { hashes: vec![zeros; MAX_HASHES] });
            }
        }
        for number in 0..4 {
            match peer.next() {
                FilesMessage::Begin { number: begun } => assert_eq!(begun, number),
                other => panic!("{other:?} in place of content"),
            }
            let ends = (0..).find(|_| matches!(peer.next(), FilesMessage::End { .. })).unwrap();
            assert_eq!(ends, if number == 0 { 2 * 4096 } else { 4096 });
            peer.done(number);
        }
        peer.finish();
    });
    result.unwrap();
}

/// Stops an exchange once so many pieces of content have been moved.
struct StopAfter(AtomicUsize);

impl Control for StopAfter {
    fn moved(&self, _: usize) -> Result<(), Error> {
        let left =
            self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
        if left == Ok(0) { Err(Error::Stopped) } else { Ok(()) }
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

#[test]
fn a_stop_ends_the_stream_for_the_other_side_too() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("file"), vec![1; 8 << 20]).unwrap();
    for pieces in [0, 1, 3] {
        let ((mut reader, writer), (mut their_reader, their_writer)) = pair();
        let path = directory.path().join(".");
        let filter = Filter::all();
        let sender = sender(&path, &filter);
        thread::scope(|scope| {
            scope.spawn(|| {
                their_writer.say(&want(0, 0, 0)).ok();
                // Too early, or in time: then the content ends where it was stopped.
                their_writer.flush().ok();
                their_reader.discard().unwrap();
                their_writer.shutdown().unwrap();
            });
            let control = StopAfter(AtomicUsize::new(pieces));
            let result = sender.run(&mut reader, &writer, None, &control, &mut |_| {});
            assert!(matches!(result, Err(Error::Stopped | Error::Protocol(_))), "{result:?}");
        });
    }
}

/// Lets so many bytes be sent at once.
struct Portions(AtomicUsize);

impl Control for Portions {
    fn moved(&self, bytes: usize) -> Result<(), Error> {
        assert!(bytes <= self.most_at_once(), "{bytes} at once");
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn most_at_once(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn no_more_is_sent_at_once_than_a_rate_permits() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("file"), vec![1; 3 << 20]).unwrap();
    let ((mut reader, writer), (mut their_reader, their_writer)) = pair();
    let (path, filter) = (directory.path().join("."), Filter::all());
    let sender = sender(&path, &filter);
    thread::scope(|scope| {
        scope.spawn(|| {
            while their_reader.next().unwrap() != Some(FilesMessage::OffersEnd) {}
            their_writer.say(&want(0, 0, 0)).unwrap();
            their_writer.flush().unwrap();
            let mut pieces = 0;
            while let Some(message) = their_reader.next().unwrap() {
                if let FilesMessage::Data { length } = message {
                    assert!(length <= 20_000, "{length} in a piece");
                    their_reader.content(length, MAX_DATA_LEN, |_| Ok::<_, Error>(())).unwrap();
                    pieces += 1;
                }
                if matches!(message, FilesMessage::End { .. }) {
                    break;
                }
            }
            assert!(pieces >= 157, "{pieces}");
            their_writer.shutdown().unwrap();
            their_reader.discard().unwrap();
        });
        let control = Portions(AtomicUsize::new(20_000));
        sender.run(&mut reader, &writer, None, &control, &mut |_| {}).unwrap_err();
    });
}
