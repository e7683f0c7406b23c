//! What a transfer that ended at an unlucky moment leaves beside a file that is whole, and what the next one makes of it.

use std::fs;

use files::path::{journal_name, part_name};
use wire_protocol::message::{Existing, TransferOptions};

use super::scripted_sender::*;

#[test]
fn a_file_that_has_its_name_and_still_its_first_one_is_gone_on_from() {
    // So a kill leaves it where the system gives a name only by a link.
    for length in [100, 2 * CHUNK] {
        let goal = tempfile::tempdir().unwrap();
        let [part, journal] = [part_name(b"owner", b"f"), journal_name(b"owner", b"f")]
            .map(|name| goal.path().join(String::from_utf8(name).unwrap()));
        let old = content(length, 3);
        fs::write(&part, &old).unwrap();
        if length > CHUNK {
            fs::write(&journal, "").unwrap();
        }
        fs::hard_link(&part, goal.path().join("f")).unwrap();
        let options = TransferOptions { existing: Existing::Replace, ..OPTIONS };
        let sent = [SentFile::new("f", content(length, 4))];
        let (received, _, answers) =
            exchange(receiver(goal.path(), options), |peer| peer.send(&sent).unwrap());
        received.unwrap();
        assert_eq!(answers[&0], Answer::Done(None));
        assert_eq!(names(goal.path()), ["f"]);
        assert!(fs::read(goal.path().join("f")).unwrap() == sent[0].content);
    }
}
