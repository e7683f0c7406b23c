//! Tests of the audit log: its numbers, its escapes, rotation, and a disk that is full.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::Value;

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(folder.path().join("home"))).unwrap();
    (folder, home)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_home_that_names_no_file_has_nothing_written() {
    let (_folder, home) = home();
    let audit = Audit::of(&home);
    audit.note(&Event::Reloaded);
    audit.ready().unwrap();
    audit.finish().unwrap();
    assert!(!home.path().exists());
}

#[test]
fn lines_are_numbered_harmless_and_private_and_a_new_file_goes_on() {
    let (folder, home) = home();
    let path = folder.path().join("audit.jsonl");
    Audit::name(&home, Some(&path)).unwrap();
    let audit = Audit::of(&home);
    let hostile = "a\u{1b}[2J\n{\"event\":\"revoked\"}\u{202e}";
    audit.note(&Event::Failed { peer: hostile, error: "x" });
    audit.note(&Event::Reloaded);
    audit.finish().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        fs::read_to_string(&path).unwrap().lines().all(|line| line.chars().all(tunnel::escape::is_harmless))
    );
    let first = lines(&path);
    assert_eq!(
        (&first[0]["peer"], &first[0]["seq"], &first[1]["seq"]),
        (&hostile.into(), &1.into(), &2.into())
    );
    assert_eq!((&first[1]["event"], &first[1]["schema"]), (&"reloaded".into(), &1.into()));

    fs::rename(&path, folder.path().join("audit.1")).unwrap();
    audit.reopen(None).unwrap();
    audit.note(&Event::Reloaded);
    audit.finish().unwrap();
    assert_eq!((lines(&path)[0]["seq"].clone(), lines(&path).len()), (3.into(), 1));
    assert_eq!(lines(&path)[0]["process"], first[0]["process"]);

    // Another process of the home has a number of its own.
    let other = Audit::of(&home);
    other.note(&Event::Revoked { client: "bob" });
    other.finish().unwrap();
    assert_eq!(
        (&lines(&path)[1]["seq"], lines(&path)[1]["process"] == first[0]["process"]),
        (&1.into(), false)
    );
}

#[test]
fn what_cannot_be_opened_is_an_error_before_anything_is_done() {
    let (folder, home) = home();
    Audit::name(&home, Some(folder.path())).unwrap();
    assert!(matches!(Audit::of(&home).ready(), Err(Error::Audit { .. })));
    let audit = Audit::of(&home);
    audit.note(&Event::Reloaded);
    assert!(matches!(audit.finish(), Err(Error::NotNoted(_))));
    Audit::name(&home, None).unwrap();
    Audit::of(&home).ready().unwrap();
}

#[test]
fn a_file_that_is_named_later_begins_then_and_one_that_cannot_be_opened_changes_nothing() {
    let (folder, home) = home();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::of(&home);
    audit.ready().unwrap();
    audit.note(&Event::Reloaded);
    assert!(matches!(audit.reopen(Some(folder.path())), Err(Error::Audit { .. })));
    assert_eq!(named(&home).unwrap(), None);
    audit.reopen(None).unwrap();
    audit.reopen(Some(&path)).unwrap();
    audit.note(&Event::Reloaded);
    audit.finish().unwrap();
    assert_eq!((lines(&path).len(), named(&home).unwrap()), (1, Some(path)));
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_told_by_the_next_line() {
    let (folder, home) = home();
    let path = folder.path().join("audit.jsonl");
    Audit::name(&home, Some(&path)).unwrap();
    let audit = Audit::of(&home);
    audit.ready().unwrap();
    let writer = audit.writer().unwrap();
    // Linux's file that is always full is no regular one, and so not opened by its name.
    let full = fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
    writer.replace(AuditFile { file: full, path: "/dev/full".into() });
    for _ in 0..3 {
        audit.note(&Event::Reloaded);
    }
    assert!(matches!(audit.finish(), Err(Error::AuditIncomplete { missing: 3, .. })));
    audit.reopen(Some(&path)).unwrap();
    audit.note(&Event::Reloaded);
    audit.note(&Event::Reloaded);
    audit.finish().unwrap();
    let lines = lines(&path);
    assert_eq!((&lines[0]["missing"], &lines[0]["seq"]), (&3.into(), &4.into()));
    assert_eq!((lines[1].get("missing"), &lines[1]["seq"]), (None, &5.into()));
}

#[test]
fn events_of_strangers_are_limited_and_counted() {
    let (folder, home) = home();
    let path = folder.path().join("audit.jsonl");
    Audit::name(&home, Some(&path)).unwrap();
    let audit = Audit::of(&home);
    for _ in 0..1000 {
        audit.note(&Event::Failed { peer: "192.0.2.1:1", error: "x" });
        audit.note(&Event::Refused { peer: "192.0.2.1:1", identity: None, reason: "x" });
    }
    // What a client is refused is noted all the same.
    audit.note(&Event::StreamRefused { peer: "192.0.2.7:1", client: "a", target: "b:1", reason: "x" });
    audit.note_left_out();
    audit.finish().unwrap();
    let lines = lines(&path);
    assert_eq!((lines.len(), &lines[600]["event"]), (603, &"stream_refused".into()));
    for (line, of) in lines[601..].iter().zip(["failed", "refused"]) {
        assert_eq!(
            (&line["event"], &line["of"], &line["count"]),
            (&"left_out".into(), &of.into(), &700.into())
        );
    }
}

#[test]
fn a_link_leads_to_the_file() {
    let (folder, home) = home();
    let path = folder.path().join("real");
    symlink(&path, folder.path().join("link")).unwrap();
    Audit::name(&home, Some(&folder.path().join("link"))).unwrap();
    let audit = Audit::of(&home);
    audit.note(&Event::Reloaded);
    audit.finish().unwrap();
    assert_eq!(lines(&path).len(), 1);
}
