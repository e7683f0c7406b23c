//! Trees that are put and got again are what they were.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::{Condvar, Mutex};

use files::error::Error;
use files::event::Event;
use proptest::prelude::*;
use tempfile::{TempDir, tempdir, tempdir_in};
use wire_protocol::message::*;

use super::transfer::{OPTIONS, Outcome, exchange, get, get_first_of, put, put_part, share};
use super::trees;

/// A directory in memory, where there is one: to wait for disks is not what is tested.
fn places() -> TempDir {
    tempdir_in("/dev/shm").unwrap_or_else(|_| tempdir().unwrap())
}

/// Expects that nothing was moved.
#[track_caller]
fn check_unchanged(outcome: &Outcome, entries: usize) {
    let moved = outcome.count(|event| matches!(event, Event::Advanced { .. } | Event::Done { .. }));
    assert_eq!(moved, 0, "{:?}", outcome.events);
    assert_eq!(outcome.count(|event| matches!(event, Event::Unchanged { .. })), entries);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_the_same_behind_a_put_and_a_get(plan in trees::plan(), count in 1..=4_u16) {
        let places = places();
        let [source, stored, back] = ["source/tree", "stored", "back"].map(|name| places.path().join(name));
        trees::make(&source, &plan);
        fs::create_dir(&stored).unwrap();
        fs::create_dir(&back).unwrap();
        let share = share(&stored);
        let before = trees::read(&source);

        put(&source, &share, OPTIONS, count, None).unwrap();
        let tree = stored.join("tree");
        prop_assert_eq!(&trees::read(&tree), &before);
        prop_assert_eq!(fs::read_dir(&stored).unwrap().count(), 1);
        check_unchanged(&put(&source, &share, OPTIONS, count, None).unwrap(), before.len());
        prop_assert_eq!(&trees::read(&tree), &before);

        // What is so small comes on one stream.
        get(b"tree", &share, &back, OPTIONS, 1, None).unwrap();
        prop_assert_eq!(&trees::read(&back.join("tree")), &before);
        check_unchanged(&get(b"tree", &share, &back, OPTIONS, 1, None).unwrap(), before.len());
        trees::unlock(places.path());
    }

    #[test]
    fn a_put_that_was_cut_anywhere_is_finished_by_the_next_one(
        plan in trees::plan(),
        cut in prop_oneof![0..2_000_usize, 0..400_000_usize],
    ) {
        let places = places();
        let [source, stored] = ["source/tree", "stored"].map(|name| places.path().join(name));
        trees::make(&source, &plan);
        fs::create_dir(&stored).unwrap();
        let share = share(&stored);
        let before = trees::read(&source);
        let outcome = put(&source, &share, OPTIONS, 1, Some(cut));
        let is_whole = outcome.results[0].0.is_ok();
        let tree = stored.join("tree");
        // What has its name by now is whole.
        if tree.exists() {
            for (path, found) in trees::read(&tree) {
                let name = path.file_name().map(|name| name.to_owned()).unwrap_or_default();
                if files::path::is_reserved(name.as_encoded_bytes()) {
                    continue;
                }
                prop_assert!(before[&path].is_same_content(&found), "{path:?} is {found:?}");
            }
        }
        let again = put(&source, &share, OPTIONS, 1, None).unwrap();
        prop_assert_eq!(&trees::read(&tree), &before);
        prop_assert_eq!(fs::read_dir(&stored).unwrap().count(), 1);
        if is_whole {
            check_unchanged(&again, before.len());
        }
        trees::unlock(places.path());
    }
}

#[test]
fn a_large_tree_comes_on_several_streams() {
    let places = places();
    let [source, stored, back] = ["tree", "stored", "back"].map(|name| places.path().join(name));
    for number in 0..2_100 {
        let sub = source.join(format!("{}/{}", number % 10, number % 3));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(number.to_string()), number.to_string()).unwrap();
    }
    fs::create_dir(&stored).unwrap();
    fs::create_dir(&back).unwrap();
    let share = share(&stored);
    let before = trees::read(&source);
    put(&source, &share, OPTIONS, 3, None).unwrap();
    assert_eq!(trees::read(&stored.join("tree")), before);
    let outcome = get(b"tree", &share, &back, OPTIONS, 4, None).unwrap();
    assert_eq!(trees::read(&back.join("tree")), before);
    // Directories may have been made for a file on another stream.
    let is_there = |event: &Event| matches!(event, Event::Done { .. } | Event::Unchanged { .. });
    assert_eq!(outcome.count(is_there), before.len());
    let again = get(b"tree", &share, &back, OPTIONS, 4, None).unwrap();
    check_unchanged(&again, before.len());
    // An offer and its answer for each.
    assert!(again.carried < before.len() * 200, "{} bytes", again.carried);
    let checked = TransferOptions { checksum: true, ..OPTIONS };
    check_unchanged(&put(&source, &share, checked, 2, None).unwrap(), before.len());
}

#[test]
fn a_private_directory_is_private_though_what_is_in_it_comes_on_a_faster_stream() {
    let places = places();
    let [source, stored] = ["tree", "stored"].map(|name| places.path().join(name));
    fs::create_dir_all(source.join("private/deep")).unwrap();
    for number in 0..20 {
        fs::write(source.join(format!("private/deep/{number}")), b"x").unwrap();
    }
    fs::set_permissions(source.join("private"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(&stored).unwrap();
    let (has_ended, changed) = (Mutex::new(false), Condvar::new());
    let share = share(&stored);
    let private = stored.join("tree/private");
    let mode = || fs::metadata(&private).unwrap().permissions().mode() & 0o777;
    exchange(&share, FilesAccess::Add, 2, None, |stream, part, rendezvous, events| {
        if part.index == 1 {
            let result = put_part(&source, OPTIONS, stream, part, rendezvous, events);
            *has_ended.lock().unwrap() = true;
            changed.notify_all();
            return result;
        }
        drop(changed.wait_while(has_ended.lock().unwrap(), |has_ended| !*has_ended).unwrap());
        let arrived = fs::read_dir(private.join("deep")).unwrap().count();
        assert!((1..20).contains(&arrived), "{arrived} of 20 have come on the second stream");
        assert_eq!(mode(), 0o700, "others may read what has come");
        put_part(&source, OPTIONS, stream, part, rendezvous, events)
    })
    .unwrap();
    assert_eq!(trees::read(&stored.join("tree")), trees::read(&source));
}

#[test]
fn a_small_tree_comes_on_one_stream_though_more_were_asked_for() {
    let places = places();
    let [stored, back] = ["stored", "back"].map(|name| places.path().join(name));
    fs::create_dir_all(stored.join("tree/sub")).unwrap();
    fs::create_dir(&back).unwrap();
    for number in 0..20 {
        fs::write(stored.join(format!("tree/sub/{number}")), number.to_string()).unwrap();
    }
    let before = trees::read(&stored.join("tree"));
    let is_large = get_first_of(3, b"tree", &share(&stored), &back);
    assert!(!is_large);
    assert_eq!(trees::read(&back.join("tree")), before);
}

#[test]
fn a_stream_that_fails_holds_up_no_other_and_leaves_the_attributes_of_directories_out() {
    let places = places();
    let [source, stored] = ["tree", "stored"].map(|name| places.path().join(name));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&stored).unwrap();
    for number in 0..20 {
        fs::write(source.join(number.to_string()), b"x").unwrap();
    }
    fs::set_permissions(&source, fs::Permissions::from_mode(0o555)).unwrap();
    let share = share(&stored);
    let outcome = exchange(&share, FilesAccess::Add, 2, None, |stream, part, rendezvous, events| {
        if part.index == 0 {
            put_part(&source, OPTIONS, stream, part, rendezvous, events)
        } else {
            Err(Error::Stopped)
        }
    });
    let [(first, served), (second, lost)] = <[_; 2]>::try_from(outcome.results).unwrap();
    first.unwrap();
    served.unwrap();
    assert!(second.is_err() && lost.is_err());
    let mode = |path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_ne!(mode(stored.join("tree")), 0o555, "the next run has to write there");
    put(&source, &share, OPTIONS, 2, None).unwrap();
    assert_eq!(trees::read(&stored.join("tree")), trees::read(&source));
    trees::unlock(places.path());
}
