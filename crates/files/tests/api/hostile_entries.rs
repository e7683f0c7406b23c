//! What may stand on disk under a name, put there by somebody else, against each operation: links to anywhere, hard links, FIFOs,
//! sockets and devices. Each test states what is to become of it, and nothing outside is ever read or changed.

use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use files::directory::{Directory, Kind, code_of};
use files::path::RelativePath;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use wire_protocol::message::{FileTime, FilesCode};

use super::operations::{OPERATIONS, TIME};
use super::world::{INSIDE, OUTSIDE, World};

/// What stands under the name `x`, and how it is put there.
type Planted = (&'static str, fn(&World, &Path) -> io::Result<()>);

const LINKS: [Planted; 14] = [
    ("link to a file inside", |_, x| symlink("a/victim/file", x)),
    ("link to a directory inside", |_, x| symlink("a/victim", x)),
    ("link to the directory itself", |_, x| symlink(".", x)),
    ("link up", |_, x| symlink("..", x)),
    ("link to a file outside", |_, x| symlink("../outside/secret", x)),
    ("link to a directory outside", |_, x| symlink("../outside", x)),
    ("absolute link to a file outside", |world, x| symlink(world.path("outside/secret"), x)),
    ("absolute link to a directory outside", |world, x| symlink(world.path("outside"), x)),
    ("absolute link to a file inside", |world, x| symlink(world.path("inside/a/victim/file"), x)),
    ("dangling link inside", |_, x| symlink("missing", x)),
    ("dangling link outside", |_, x| symlink("../outside/missing", x)),
    ("link to itself", |_, x| symlink("x", x)),
    ("link to a device", |_, x| symlink("/dev/null", x)),
    ("link to what this process has open", |_, x| symlink("/proc/self/fd/0", x)),
];

const SPECIAL: [Planted; 2] = [
    ("FIFO", |_, x| Ok(mknodat(CWD, x, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?)),
    ("socket", |_, x| UnixListener::bind(x).map(drop)),
];

/// What an operation does with the name of something that is there: `Ok` where it is done to what has the name itself.
fn expected(operation: &str, kind: Kind) -> Result<(), FilesCode> {
    match (operation, kind) {
        ("stat" | "rename to" | "rename from" | "rename_new from" | "remove" | "set_link_time", _) => Ok(()),
        ("read_link", Kind::Symlink) => Ok(()),
        ("read_link", _) => Err(FilesCode::BadPath),
        ("open_file", Kind::Other) => Err(FilesCode::UnsupportedKind),
        ("open_directory" | "set_attributes" | "open_file", _) => Err(FilesCode::NotDirectory),
        ("open_partial" | "create_new" | "make_directory" | "make_link" | "rename_new to", _) => {
            Err(FilesCode::Exists)
        }
        _ => unreachable!("{operation} is not expected"),
    }
}

#[test]
fn an_operation_is_done_to_what_has_the_name_or_not_at_all() {
    let mut done = 0;
    for (kind, planted) in
        LINKS.map(|planted| (Kind::Symlink, planted)).into_iter().chain(SPECIAL.map(|it| (Kind::Other, it)))
    {
        let (what, plant) = planted;
        for (operation, run) in OPERATIONS {
            let world = World::new();
            let inside = world.inside();
            fs::write(world.path("inside/source"), "source").unwrap();
            plant(&world, &world.path("inside/x")).unwrap();
            let (before, victim) = (world.outside(), fs::read(world.path("inside/a/victim/file")).unwrap());
            assert_eq!(inside.stat(b"x").unwrap().unwrap().kind, kind, "{what}");

            let result = run(&inside, b"x").map_err(|error| code_of(&error));
            assert_eq!(result, expected(operation, kind), "{operation} on a {what}");

            assert_eq!(world.outside(), before, "{operation} on a {what} has reached outside");
            let time = fs::metadata(world.path("inside/a/victim/file")).unwrap().mtime();
            assert_ne!(time, TIME.seconds, "{operation} on a {what} was done to what it leads to");
            assert_eq!(
                fs::read(world.path("inside/a/victim/file")).unwrap(),
                victim,
                "{operation} on a {what}"
            );
            done += 1;
        }
    }
    assert_eq!(done, 240);
}

/// Paths with something in the way, below `inside`.
const CROOKED: [(&str, &str); 16] = [
    ("../outside", "x"),
    ("../outside", "x/sub"),
    ("../outside", "x/sub/sub"),
    ("..", "x/outside"),
    (".", "x"),
    (".", "x/a/victim"),
    ("a", "x/victim"),
    ("a/victim", "x"),
    ("a/victim/sub", "x/sub"),
    ("x", "x"),
    ("x", "x/y"),
    ("missing", "x"),
    ("missing", "x/y"),
    ("../outside/missing", "x"),
    ("../outside/missing", "x/y"),
    ("a/victim/file", "x/y"),
];

#[test]
fn no_path_goes_through_a_link() {
    for (target, path) in CROOKED {
        for is_absolute in [false, true] {
            let world = World::new();
            let target = if is_absolute { world.path("inside").join(target) } else { target.into() };
            symlink(&target, world.path("inside/x")).unwrap();
            // Once more with the link further down.
            symlink(Path::new("..").join(&target), world.path("inside/a/x")).unwrap();
            let before = world.everything();
            for base in [world.inside(), world.inside().without_openat2()] {
                for path in [path.to_owned(), format!("a/{path}")] {
                    let path = RelativePath::parse(path.as_bytes()).unwrap();
                    for opened in [base.walk_to(&path), base.make_all(&path)] {
                        let error = opened.expect_err("it went through a link");
                        assert_eq!(code_of(&error), FilesCode::NotDirectory, "{target:?} {path:?}: {error}");
                    }
                }
            }
            assert_eq!(world.everything(), before);
        }
    }
}

#[test]
fn what_is_no_directory_leads_nowhere() {
    let world = World::new();
    UnixListener::bind(world.path("inside/socket")).unwrap();
    mknodat(CWD, world.path("inside/fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    for base in [world.inside(), world.inside().without_openat2()] {
        for path in ["socket", "socket/y", "fifo", "fifo/y", "a/victim/file", "a/victim/file/y"] {
            let path = RelativePath::parse(path.as_bytes()).unwrap();
            for opened in [base.walk_to(&path), base.make_all(&path)] {
                assert_eq!(code_of(&opened.unwrap_err()), FilesCode::NotDirectory, "{path:?}");
            }
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_links_of_proc_lead_nowhere() {
    let base = Directory::open_trusted(Path::new("/proc/self")).unwrap();
    for base in [base.clone(), base.without_openat2()] {
        for path in ["cwd", "root", "root/etc", "cwd/src", "task/self", "fd/0", "exe"] {
            let path = RelativePath::parse(path.as_bytes()).unwrap();
            assert!(base.walk_to(&path).is_err(), "{path:?}");
        }
        for name in [&b"exe"[..], b"cwd", b"root"] {
            assert_eq!(code_of(&base.open_file(name).unwrap_err()), FilesCode::NotDirectory);
            assert!(base.open_directory(name).is_err() && base.set_attributes(name, 0o777, TIME).is_err());
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn devices_are_not_opened() {
    let devices = Directory::open_trusted(Path::new("/dev")).unwrap();
    for name in [&b"null"[..], b"zero", b"random"] {
        assert_eq!(devices.stat(name).unwrap().unwrap().kind, Kind::Other);
        assert_eq!(code_of(&devices.open_file(name).unwrap_err()), FilesCode::UnsupportedKind);
        assert_eq!(code_of(&devices.open_partial(name).unwrap_err()), FilesCode::Exists);
    }
}

#[test]
fn a_partial_file_with_a_second_name_is_not_written_to() {
    let world = World::new();
    let inside = world.inside();
    fs::hard_link(world.path("outside/secret"), world.path("inside/x")).unwrap();
    let before = world.outside();
    assert_eq!(code_of(&inside.open_partial(b"x").unwrap_err()), FilesCode::Exists);
    assert_eq!(world.outside(), before);
    // As soon as it has no other name it is ours.
    fs::remove_file(world.path("outside/secret")).unwrap();
    inside.open_partial(b"x").unwrap();
}

#[test]
fn a_partial_file_of_another_user_is_not_written_to() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new();
    let path = world.path("inside/x");
    fs::write(&path, "theirs").unwrap();
    std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
    assert_eq!(code_of(&world.inside().open_partial(b"x").unwrap_err()), FilesCode::Exists);
}

#[test]
fn a_fifo_is_not_opened_at_all() {
    let world = World::new();
    let path = world.path("inside/x");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    // To open its reading end would let a writer go on that waits for one.
    let is_open = AtomicBool::new(false);
    // It is kept until the writer has ended.
    let mut reader = None;
    thread::scope(|threads| {
        threads.spawn(|| {
            fs::OpenOptions::new().write(true).open(&path).unwrap();
            is_open.store(true, Ordering::SeqCst);
        });
        let is_refused = || {
            let opened = world.inside().open_file(b"x");
            opened.is_err_and(|error| code_of(&error) == FilesCode::UnsupportedKind)
        };
        let is_always_refused = (0..20_000).all(|_| is_refused());
        let was_let_go_on = is_open.load(Ordering::SeqCst);
        reader = Some(rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap());
        assert!(is_always_refused && !was_let_go_on);
    });
    drop(reader);
}

#[test]
fn a_rename_replaces_a_link_and_not_what_it_leads_to() {
    let world = World::new();
    let inside = world.inside();
    fs::write(world.path("inside/source"), "source").unwrap();
    symlink(world.path("outside/secret"), world.path("inside/x")).unwrap();
    let before = world.outside();
    assert_eq!(code_of(&inside.rename_new(b"source", b"x").unwrap_err()), FilesCode::Exists);
    inside.rename(b"source", b"x").unwrap();
    assert_eq!(fs::read(world.path("inside/x")).unwrap(), b"source");
    assert!(!fs::symlink_metadata(world.path("inside/x")).unwrap().is_symlink());
    // A directory is not replaced by a file.
    fs::write(world.path("inside/source"), "source").unwrap();
    assert_eq!(code_of(&inside.rename(b"source", b"a").unwrap_err()), FilesCode::IsDirectory);
    assert_eq!(world.outside(), before);
}

#[test]
fn attributes_are_nine_bits_and_a_time_and_nothing_else() {
    let world = World::new();
    let inside = world.inside();
    let accessed = fs::metadata(world.path("inside/a")).unwrap().atime();
    inside.set_attributes(b"a", 0o7751, TIME).unwrap();
    let status = inside.stat(b"a").unwrap().unwrap();
    assert_eq!((status.mode, status.modified), (0o751, TIME));
    let found = fs::metadata(world.path("inside/a")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.atime()), (0o751, accessed));
    // A file that is made has neither setuid nor setgid.
    inside.create_new(b"f", 0o6755).unwrap();
    assert_eq!(fs::metadata(world.path("inside/f")).unwrap().mode() & 0o7000, 0);
    // What these would say to the system is "now" and "leave it".
    for nanoseconds in [1_000_000_000, 0x3fff_ffff, 0x3fff_fffe, u32::MAX] {
        let time = FileTime { seconds: 5, nanoseconds };
        assert!(inside.set_attributes(b"a", 0o700, time).is_err());
        assert!(inside.set_link_time(b"f", time).is_err());
    }
    let status = inside.stat(b"a").unwrap().unwrap();
    assert_eq!((status.mode, status.modified), (0o751, TIME));
    for seconds in [i64::MIN, -1, 0, i64::MAX] {
        // The file system may cut it, and may refuse it.
        let _ = inside.set_attributes(b"a", 0o700, FileTime { seconds, nanoseconds: 0 });
    }
}

#[test]
fn files_are_made_read_and_listed() {
    let world = World::new();
    let inside = world.inside();
    let victim = inside.walk_to(&RelativePath::parse(b"a/victim").unwrap()).unwrap();
    let mut content = String::new();
    victim.open_file(b"file").unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, INSIDE);
    assert_eq!(victim.read_link(b"link").unwrap(), INSIDE.as_bytes());
    assert_eq!(code_of(&victim.open_file(b"sub").unwrap_err()), FilesCode::IsDirectory);
    assert_eq!(code_of(&victim.open_file(b"missing").unwrap_err()), FilesCode::NotFound);
    assert_eq!(victim.stat(b"missing").unwrap(), None);
    let mut entries: Vec<_> = victim.entries().unwrap().map(Result::unwrap).collect();
    entries.sort_by(|one, two| one.0.cmp(&two.0));
    let names: Vec<_> = entries.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, [&b"doomed"[..], b"file", b"from", b"link", b"sub"]);
    victim.make_link(OUTSIDE.as_bytes(), b"made").unwrap();
    victim.set_link_time(b"made", TIME).unwrap();
    assert_eq!(victim.stat(b"made").unwrap().unwrap().modified, TIME);
    victim.sync().unwrap();
    assert!(victim.free_space().unwrap() > 0);
    fs::set_permissions(world.path("inside/a"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(inside.stat(b"a").unwrap().unwrap().mode, 0o700);
}
