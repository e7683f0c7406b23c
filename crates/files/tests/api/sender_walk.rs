//! What a sender finds and offers.

use std::collections::BTreeSet;
use std::fs::{self};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use files::chunks::part_of;
use files::event::Event;
use files::filter::{Filter, Rule};
use files::path::RelativePath;
use files::root::Root;
use files::sender::{Sender, Sources};
use tempfile::tempdir;
use wire_protocol::message::*;

use super::peer::{run, sender};

#[test]
fn the_parts_have_every_file_once_and_the_first_all_links_and_directories() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    let mut all = BTreeSet::new();
    for number in 0..60 {
        let sub = tree.join(format!("sub{}", number % 7));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("file{number}")), b"x").unwrap();
        all.insert(format!("tree/sub{}/file{number}", number % 7));
    }
    symlink("x", tree.join("link")).unwrap();
    let mut seen = BTreeSet::new();
    for index in 0..3 {
        let part = Part { index, count: 3 };
        let filter = Filter::all();
        let sender = Sender { part, ..sender(&tree, &filter) };
        let (result, events) = run(sender, |mut peer| {
            let (offers, _) = peer.offers();
            for (path, (number, entry)) in &offers {
                if matches!(entry.kind, EntryKind::File { .. }) {
                    assert_eq!(part_of(path.as_bytes(), 3), index);
                    assert!(seen.insert(path.clone()), "{path} came twice");
                    // So that it is known on this stream, too, what others may do in it.
                    let above = path.rsplit_once('/').unwrap().0;
                    assert!(offers[above].0 < *number, "{path} comes before its directory");
                } else if index > 0 {
                    assert_eq!(entry.kind, EntryKind::Directory, "{path}");
                    assert!(offers.keys().any(|other| other.starts_with(&format!("{path}/"))), "{path}");
                }
                peer.have(*number);
            }
            assert_eq!(offers.contains_key("tree/link"), index == 0);
            if index == 0 {
                assert_eq!(peer.finish().len(), 8);
            } else {
                assert!(peer.attributes().is_empty());
                peer.end();
            }
        });
        result.unwrap();
        let told = |event: &Event| match event {
            Event::Found { path, .. } | Event::Unchanged { path, .. } => Some(tree.parent()?.join(&**path)),
            _ => None,
        };
        let directories = events.iter().filter_map(told).filter(|path| path.is_dir() && !path.is_symlink());
        assert_eq!(directories.count(), if index == 0 { 2 * 8 } else { 0 }, "each is told on one stream");
    }
    assert_eq!(seen, all);
}

#[test]
fn what_is_no_file_or_cannot_be_read_is_told_and_the_rest_is_sent() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"x").unwrap();
    fs::write(tree.join(".file.0123456789abcdef.part"), b"x").unwrap();
    let fifo = tree.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let roots = vec![Root::new(&tree).unwrap(), Root::new(&directory.path().join("missing")).unwrap()];
    let filter = Filter::all();
    let sender = Sender { sources: Sources::Roots(roots), ..sender(&tree, &filter) };
    let (result, events) = run(sender, |mut peer| {
        let (offers, unreadable) = peer.offers();
        assert!(offers.keys().eq(["tree", "tree/file"]));
        let expected = [
            ("missing", FilesCode::NotFound),
            ("tree/fifo", FilesCode::UnsupportedKind),
            ("tree/socket", FilesCode::UnsupportedKind),
        ];
        assert!(unreadable.iter().map(|(path, code)| (path.as_str(), *code)).eq(expected));
        offers.values().for_each(|(number, _)| peer.have(*number));
        peer.finish();
    });
    result.unwrap();
    let failed = events.iter().filter(|event| matches!(event, Event::Failed { .. }));
    assert_eq!(failed.count(), 3);
}

#[test]
fn filters_leave_out_what_they_say() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    for name in ["src/a.rs", "src/a.o", "target/a.o", ".git/config", "keep.o"] {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), b"x").unwrap();
    }
    // A directory that is left out is not even looked into.
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o000)).unwrap();
    let rules = ["*.o", "/target"].map(|pattern| Rule::Exclude(pattern.to_owned()));
    let rules = [&rules[..], &[Rule::Include("/keep.o".to_owned())]].concat();
    let filter = Filter::new(&rules).unwrap();
    let (result, _) = run(sender(&tree, &filter), |mut peer| {
        let (offers, unreadable) = peer.offers();
        assert!(unreadable.is_empty());
        let all = ["tree", "tree/.git", "tree/.git/config", "tree/keep.o", "tree/src", "tree/src/a.rs"];
        assert!(offers.keys().eq(all), "{:?}", offers.keys());
        offers.values().for_each(|(number, _)| peer.have(*number));
        assert_eq!(peer.finish(), ["tree/.git", "tree/src", "tree"]);
    });
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o700)).unwrap();
    result.unwrap();
}

#[test]
fn directories_that_are_left_out_come_before_what_is_in_them_and_is_not() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    for name in ["private/deep/a.jpg", "private/deep/b.jpg", "private/a.txt", "other/a.txt"] {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), b"x").unwrap();
    }
    fs::set_permissions(tree.join("private"), fs::Permissions::from_mode(0o700)).unwrap();
    let filter = Filter::new(&[Rule::Include("*.jpg".to_owned())]).unwrap();
    let (result, events) = run(sender(&tree, &filter), |mut peer| {
        let (offers, _) = peer.offers();
        let mut in_order: Vec<_> = offers.iter().collect();
        in_order.sort_by_key(|(_, (number, _))| *number);
        let paths: Vec<_> = in_order.iter().map(|(path, _)| path.as_str()).collect();
        let expected = [
            "tree",
            "tree/private",
            "tree/private/deep",
            "tree/private/deep/a.jpg",
            "tree/private/deep/b.jpg",
        ];
        assert_eq!(paths, expected);
        assert_eq!(offers["tree/private"].1.mode, 0o700);
        offers.values().for_each(|(number, _)| peer.have(*number));
        // They keep the times that they have at the goal.
        assert!(peer.finish().is_empty());
    });
    result.unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Unchanged { .. })).count(), 2);
}

#[test]
fn roots_are_links_contents_or_have_another_name() {
    let directory = tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"x").unwrap();
    let link = directory.path().join("link");
    symlink("tree", &link).unwrap();
    let filter = Filter::all();
    let other = RelativePath::parse(b"a/b").unwrap();
    for (root, paths) in [
        (Root::new(&link).unwrap(), &["link"][..]),
        (Root::new(&directory.path().join("link/")).unwrap(), &["link", "link/file"]),
        (Root::new(&tree.join(".")).unwrap(), &["file"]),
        (Root::new(&link.join("file")).unwrap(), &["file"]),
        (Root::new(&tree).unwrap().offered_as(other), &["a/b", "a/b/file"]),
    ] {
        let sender = Sender { sources: Sources::Roots(vec![root]), ..sender(&tree, &filter) };
        let (result, _) = run(sender, |mut peer| {
            let (offers, _) = peer.offers();
            assert!(offers.keys().eq(paths), "{:?}", offers.keys());
            let is_link = matches!(offers[paths[0]].1.kind, EntryKind::Symlink { .. });
            assert_eq!(is_link, paths == ["link"]);
            let file = offers.values().find(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
            if let Some((number, _)) = file {
                peer.want(*number);
                assert_eq!(peer.content().bytes, b"x");
                peer.done(*number);
            }
            for (number, entry) in offers.values() {
                if !matches!(entry.kind, EntryKind::File { .. }) {
                    peer.have(*number);
                }
            }
            peer.finish();
        });
        result.unwrap();
    }
}
