//! Random trees of files, and what is in a tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

/// Something in a tree.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Directory,
    /// Pieces of data at offsets, and a size: what is between them are holes.
    File {
        size: u64,
        data: Vec<(u64, usize)>,
    },
    Link(Vec<u8>),
}

/// A node, with the names that lead to it, its mode and its time.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    names: Vec<Vec<u8>>,
    node: Node,
    mode: u32,
    time: (i64, i64),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c", "d.txt", ".hidden"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::sample::select(vec!["..a", "...", "-rf", "a b", "\u{202e}x", "x\ny", "\u{1b}[31m", "*", "\\", "~"])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>().prop_filter("no separator", |byte| !matches!(byte, 0 | b'/')), 1..20)
            .prop_filter("no way out", |name| !matches!(&name[..], b"." | b"..")),
        1 => Just(vec![b'n'; 255]),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        2 => Just(Node::Directory),
        2 => Just(Node::File { size: 0, data: Vec::new() }),
        6 => (1..40_000_u64).prop_map(|size| Node::File { size, data: vec![(0, usize::try_from(size).unwrap())] }),
        1 => (1..3_000_000_u64, prop::collection::vec((0..3_000_000_u64, 1..200_000_usize), 0..4))
            .prop_map(|(size, data)| Node::File { size, data }),
        2 => prop::collection::vec(1..=255_u8, 1..60).prop_map(Node::Link),
    ]
}

/// What is in a random tree.
pub(super) fn plan() -> impl Strategy<Value = Vec<Planned>> {
    let planned = (
        prop::collection::vec(name(), 1..6),
        node(),
        prop::sample::select(vec![0o644, 0o755, 0o600, 0o400, 0o444, 0o777, 0o555]),
        (-1_000_000_000..4_000_000_000_i64, 0..1_000_000_000_i64),
    )
        .prop_map(|(names, node, mode, time)| Planned { names, node, mode, time });
    prop::collection::vec(planned, 0..30)
}

/// Makes a tree at `root`. Where two have one name, the first one stands.
pub(super) fn make(root: &Path, plan: &[Planned]) {
    fs::create_dir_all(root).unwrap();
    let mut made = Vec::new();
    for planned in plan {
        let path: PathBuf = planned.names.iter().map(|name| OsStr::from_bytes(name)).collect();
        let path = root.join(path);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match &planned.node {
            Node::Directory => fs::create_dir(&path).unwrap(),
            Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Node::File { size, data } => {
                let file = File::create(&path).unwrap();
                for (offset, length) in data.iter().filter(|(offset, _)| offset < size) {
                    let mut bytes = vec![0; (*length).min(usize::try_from(size - offset).unwrap())];
                    fastrand::Rng::with_seed(*offset).fill(&mut bytes);
                    file.write_all_at(&bytes, *offset).unwrap();
                }
                file.set_len(*size).unwrap();
            }
        }
        made.push((path, planned));
    }
    // What is deeper comes first, since a directory may be read-only then, and its time changes with what is made in it.
    made.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
    for (path, planned) in made {
        if !matches!(planned.node, Node::Link(_)) {
            // A directory that its owner cannot read is no tree that can be sent.
            let extra = if matches!(planned.node, Node::Directory) { 0o500 } else { 0 };
            fs::set_permissions(&path, fs::Permissions::from_mode(planned.mode | extra)).unwrap();
        }
        let (tv_sec, tv_nsec) = planned.time;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec, tv_nsec },
        };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// What is at a path: content, mode, and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    what: String,
    mode: u32,
    time: (i64, i64),
}

impl Found {
    /// Whether the content is the same, whatever the mode and the time of a directory.
    pub(super) fn is_same_content(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

/// All that is below `root`, and `root` itself.
pub(super) fn read(root: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let what = if metadata.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else {
            format!("file {} {}", metadata.len(), blake3::hash(&fs::read(&path).unwrap()))
        };
        // The mode of a link means nothing.
        let mode = if metadata.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
        let time = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(path.strip_prefix(root).unwrap().to_owned(), Found { what, mode, time });
    }
    found
}

/// Lets everything below `root` be removed.
pub(super) fn unlock(root: &Path) {
    for (path, found) in read(root) {
        if found.what == "directory" {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}
