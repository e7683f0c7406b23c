//! Servers in several processes: what one of them still writes is gone on with by another one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use files::control::Control;
use files::error::Error;
use wire_protocol::message::{FilesCode, FilesMessage};

use super::memory_stream::pair;
use super::scripted_sender::*;

/// Counts how often a receiver looks whether it is to go on.
#[derive(Debug, Default)]
struct Looking(AtomicUsize);

impl Control for Looking {
    fn moved(&self, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst);
        false
    }
}

/// Waits until a receiver has looked so often, which with one message is only where it waits for something else.
fn wait_for_looks(looking: &Looking) {
    wait_until(|| looking.0.load(Ordering::SeqCst) >= 8);
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "it was waited for in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Time for what takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Each receiver has claims of its own, as each process does.
#[test]
fn a_later_process_waits_until_the_earlier_one_has_noticed_that_its_client_is_gone() {
    for size in [3 * CHUNK, 1000] {
        let goal = tempfile::tempdir().unwrap();
        let sent = SentFile::new("f", content(size, 3));
        let ((mut to_earlier, from_earlier), (reader, writer)) = pair();
        let mut first = Peer { reader, writer };
        let ((mut to_later, from_later), (reader, writer)) = pair();
        let mut second = Peer { reader, writer };
        let (one, other) = (Looking::default(), Looking::default());
        thread::scope(|scope| {
            let earlier = receiver(goal.path(), OPTIONS);
            let earlier = scope.spawn(|| earlier.run(&mut to_earlier, &from_earlier, &one, &mut |_| {}));
            first.offer(sent.entry());
            assert!(matches!(first.next(), FilesMessage::Want { held: 0, .. }));
            first.say(&FilesMessage::Begin { number: 0 }).unwrap();
            let piece = &sent.content[..size.min(CHUNK)];
            first.data(piece);
            if size > CHUNK {
                first.say(&FilesMessage::ChunkEnd { hash: chunk_hash(piece) }).unwrap();
            }
            // It has opened the file by then.
            wait_until(|| !names(goal.path()).is_empty());
            let later = receiver(goal.path(), OPTIONS);
            let later = scope.spawn(|| later.run(&mut to_later, &from_later, &other, &mut |_| {}));
            second.offer(sent.entry());
            if size <= CHUNK {
                // Of a small file it asks for all before it looks at what is there.
                assert!(matches!(second.next(), FilesMessage::Want { .. }));
                second.content(0, &sent.content, 0, &[]).unwrap();
            }
            wait_for_looks(&other);
            drop(first);
            earlier.join().unwrap().unwrap_err();
            if size > CHUNK {
                assert_eq!(second.next(), FilesMessage::Want { number: 0, held: 1, compare: 0 });
                second.content(0, &sent.content, 1, &[]).unwrap();
            }
            assert!(matches!(second.next(), FilesMessage::Done { .. }));
            second.say(&FilesMessage::OffersEnd).unwrap();
            second.finish().unwrap();
            later.join().unwrap().unwrap();
        });
        assert!(std::fs::read(goal.path().join("f")).unwrap() == sent.content);
        assert_eq!(names(goal.path()), ["f"]);
    }
}

#[test]
fn a_process_that_goes_on_is_waited_for_once_and_not_for_each_file() {
    let goal = tempfile::tempdir().unwrap();
    let locked: Vec<_> = (0..20)
        .map(|number| {
            let part = files::path::part_name(b"owner", format!("f{number}").as_bytes());
            let file = std::fs::File::create(goal.path().join(String::from_utf8(part).unwrap())).unwrap();
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
            file
        })
        .collect();
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.patience = Duration::from_millis(300);
    let sent: Vec<_> = (0..20).map(|number| SentFile::new(&format!("f{number}"), vec![1; 10])).collect();
    let looking = Looking::default();
    let ((mut to_receiver, from_receiver), (reader, writer)) = pair();
    let mut peer = Peer { reader, writer };
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receiver.run(&mut to_receiver, &from_receiver, &looking, &mut |_| {}));
        let answers = peer.send(&sent).unwrap();
        assert!(answers.values().all(|answer| *answer == Answer::Rejected(FilesCode::Busy)), "{answers:?}");
        receiving.join().unwrap().unwrap();
    });
    drop(locked);
    // Once for each of five messages a file, and each tenth of a second that it waits.
    let looks = looking.0.load(Ordering::SeqCst);
    assert!(looks < 130, "{looks}");
}
