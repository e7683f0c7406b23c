//! Transfers on several streams, whose entries come in any order among these.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use files::claims::Claims;
use files::receiver::Receiver;
use wire_protocol::message::{EntryKind, FilesMessage, Part};

use super::scripted_sender::*;

fn part(directory: &std::path::Path, claims: &Claims, owner: &[u8], index: u16) -> Receiver {
    let mut receiver = receiver(directory, OPTIONS);
    receiver.claims = claims.clone();
    receiver.owner = owner.into();
    receiver.part = Part { index, count: 2 };
    receiver
}

/// Runs a receiver against a script, at whose end the stream is cut.
fn cut(receiver: Receiver, script: impl FnOnce(&mut Peer)) {
    exchange(receiver, script).0.unwrap_err();
}

#[test]
fn a_directory_that_another_stream_has_made_for_a_file_is_new_all_the_same() {
    let (goal, claims) = (tempfile::tempdir().unwrap(), Claims::new());
    fs::create_dir(goal.path().join("old")).unwrap();
    let offer = |peer: &Peer, name: &[u8]| peer.offer(entry(name, EntryKind::Directory));
    cut(part(goal.path(), &claims, b"alice", 1), |others| {
        for name in [&b"old/made/f"[..], b"new/f"] {
            others.offer(entry(name, file(Some(1), [1; 32])));
            assert!(matches!(others.next(), FilesMessage::Want { .. }));
        }
        // This one as well comes for what is in it.
        offer(others, b"offered");
        assert!(matches!(others.next(), FilesMessage::Done { .. }));
        offer(others, b"offered");
        assert!(matches!(others.next(), FilesMessage::Have { .. }));
        cut(part(goal.path(), &claims, b"bob", 0), |peer| {
            offer(peer, b"new");
            assert!(matches!(peer.next(), FilesMessage::Have { .. }), "it is another client's");
        });
        cut(part(goal.path(), &claims, b"alice", 0), |peer| {
            offer(peer, b"old");
            assert!(matches!(peer.next(), FilesMessage::Have { .. }), "it was there before");
            for name in [&b"old/made"[..], b"new", b"offered"] {
                offer(peer, name);
                assert!(matches!(peer.next(), FilesMessage::Done { .. }));
            }
            offer(peer, b"new");
            assert!(matches!(peer.next(), FilesMessage::Have { .. }), "it was told already");
        });
    });
    cut(part(goal.path(), &claims, b"alice", 0), |peer| {
        offer(peer, b"old/made");
        assert!(matches!(peer.next(), FilesMessage::Have { .. }), "it is of an earlier transfer");
    });
}

#[test]
fn what_may_only_be_added_to_gives_such_a_directory_its_permissions() {
    let (goal, claims) = (tempfile::tempdir().unwrap(), Claims::new());
    let old = goal.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    cut(part(goal.path(), &claims, b"alice", 1), |others| {
        others.offer(entry(b"new/f", file(Some(1), [1; 32])));
        assert!(matches!(others.next(), FilesMessage::Want { .. }));
        let mut first = part(goal.path(), &claims, b"alice", 0);
        first.only_made = true;
        let (received, _, ()) = exchange(first, |peer| {
            for name in [&b"new"[..], b"old"] {
                peer.offer(entry(name, EntryKind::Directory));
                peer.next();
            }
            peer.say(&FilesMessage::OffersEnd).unwrap();
            for path in [&b"new"[..], b"old"] {
                let attributes =
                    FilesMessage::Attributes { path: path.into(), mode: 0o700, modified: MODIFIED };
                peer.say(&attributes).unwrap();
            }
            peer.finish().unwrap();
        });
        received.unwrap();
    });
    let mode = |name| fs::metadata(goal.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("new"), mode("old")), (0o700, 0o755));
}
