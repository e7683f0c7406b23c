//! What a peer names is a directory or file at one moment and a symbolic link that leads out at the next, since a second process
//! exchanges the two all the time. Each kind of operation is done thousands of times meanwhile: nothing outside is read or changed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use files::directory::{Directories, Directory, Kind, code_of};
use files::path::RelativePath;
use rustix::fs::{AtFlags, CWD, FileType, Mode, mknodat, unlinkat};
use wire_protocol::message::FilesCode;

use super::operations::TIME;
use super::swapper::{Swapper, TIMES};
use super::world::{INSIDE, World};

/// When a machine is too busy for that.
const DEADLINE: Duration = Duration::from_secs(90);

/// What is exchanged, in `inside/a`, for what.
#[derive(Clone, Copy)]
enum Exchanged {
    /// A directory for a link to the one outside.
    Directory,
    /// A file for a link to one outside.
    File,
    /// A file for a second name of one outside.
    HardLink,
    /// A file for a FIFO.
    Fifo,
}

/// Where an operation is to be done, as a peer says it: `path` below `base`.
struct Place<'a> {
    base: &'a Directory,
    path: RelativePath,
    /// The directory that is meant, whatever its name is now, for what has to be put in order.
    real: Directory,
}

impl Place<'_> {
    fn open(&self) -> io::Result<Directory> {
        self.base.walk_to(&self.path)
    }

    /// The directory in which something is exchanged.
    fn parent(&self) -> io::Result<Directory> {
        self.base.walk_to(&path("a"))
    }
}

/// Does `operation` again and again in the directory that is exchanged and in one below it, both with the kernel's help and
/// without. For each of these it is to be seen that it was done and that it was refused.
fn race(exchanged: Exchanged, operation: impl Fn(&Place<'_>) -> io::Result<()>) {
    let world = World::new();
    let a = world.path("inside/a");
    let (name, other) = match exchanged {
        Exchanged::Directory => (a.join("victim"), a.join("spare")),
        _ => (a.join("leaf"), a.join("other")),
    };
    let secret = world.path("outside/secret");
    match exchanged {
        Exchanged::Directory => symlink(world.path("outside"), &other).unwrap(),
        Exchanged::File => symlink(secret, &other).unwrap(),
        Exchanged::HardLink => fs::hard_link(secret, &other).unwrap(),
        Exchanged::Fifo => mknodat(CWD, &other, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap(),
    }
    if !matches!(exchanged, Exchanged::Directory) {
        fs::write(&name, INSIDE).unwrap();
    }
    let bases = [world.inside(), world.inside().without_openat2()];
    let places: Vec<_> = bases
        .iter()
        .flat_map(|base| ["a/victim", "a/victim/sub"].map(|path| (base, self::path(path))))
        .map(|(base, path)| Place { base, real: base.walk_to(&path).unwrap(), path })
        .collect();
    let before = world.outside();

    let swapper = Swapper::begin(&name, &other, world.path("count"));
    let start = Instant::now();
    let (mut rounds, mut done, mut refused) = (0, [0_u64; 4], [0_u64; 4]);
    let is_enough = |rounds, done: &[u64; 4], refused: &[u64; 4]| {
        rounds >= TIMES && !done.contains(&0) && !refused.contains(&0) && swapper.has_done_enough()
    };
    while !is_enough(rounds, &done, &refused) {
        assert!(start.elapsed() < DEADLINE, "{rounds} rounds, done {done:?}, refused {refused:?}");
        for (at, place) in places.iter().enumerate() {
            match operation(place) {
                Ok(()) => done[at] += 1,
                Err(error) => {
                    let code = code_of(&error);
                    assert!(EXPECTED.contains(&code), "{error}");
                    refused[at] += 1;
                }
            }
        }
        rounds += 1;
        if rounds % 512 == 0 {
            assert_eq!(world.outside(), before, "something outside was changed");
        }
    }
    swapper.end();
    assert_eq!(world.outside(), before, "something outside was changed");
}

/// Reasons for which an operation is refused where something is exchanged.
const EXPECTED: [FilesCode; 4] =
    [FilesCode::NotDirectory, FilesCode::Exists, FilesCode::NotFound, FilesCode::UnsupportedKind];

fn path(path: &str) -> RelativePath {
    RelativePath::parse(path.as_bytes()).unwrap()
}

fn expect_inside(mut file: fs::File) -> io::Result<()> {
    let mut content = String::new();
    file.read_to_string(&mut content)?;
    assert_eq!(content, INSIDE, "a file outside was read");
    Ok(())
}

#[test]
fn open_below_a_directory() {
    race(Exchanged::Directory, |place| expect_inside(place.open()?.open_file(b"file")?));
}

#[test]
fn open_of_the_file_itself() {
    race(Exchanged::File, |place| expect_inside(place.parent()?.open_file(b"leaf")?));
}

#[test]
fn open_of_what_may_be_a_fifo() {
    race(Exchanged::Fifo, |place| expect_inside(place.parent()?.open_file(b"leaf")?));
}

#[test]
fn open_of_a_partial_file() {
    // Between the look at it and its opening there is little time: it takes more tries to meet it.
    let write = |place: &Place<'_>| {
        let parent = place.parent()?;
        let write = || parent.open_partial(b"leaf")?.write_all(INSIDE.as_bytes());
        let mut last = write();
        for _ in 1..8 {
            last = write();
        }
        last
    };
    race(Exchanged::File, write);
    race(Exchanged::HardLink, write);
}

#[test]
fn create() {
    race(Exchanged::Directory, |place| {
        place.open()?.create_new(b"created", 0o666)?;
        place.real.remove(b"created")
    });
}

#[test]
fn create_under_the_name_itself() {
    race(Exchanged::File, |place| match place.parent()?.create_new(b"leaf", 0o666) {
        Ok(_) => panic!("it has replaced something"),
        // What has the name is there all the time: to find that out is what is to be done.
        Err(error) if code_of(&error) == FilesCode::Exists => {
            expect_inside(place.parent()?.open_file(b"leaf")?)
        }
        Err(error) => Err(error),
    });
}

#[test]
fn mkdir() {
    race(Exchanged::Directory, |place| {
        place.open()?.make_directory(b"made")?;
        rmdir(&place.real, "made")
    });
}

#[test]
fn mkdir_of_all_that_is_missing() {
    race(Exchanged::Directory, |place| {
        let made = place.base.make_all(&place.path.join(b"new").unwrap().join(b"directory").unwrap());
        if made.is_ok() {
            rmdir(&place.real, "new/directory")?;
        }
        // The first of the two may have been made, and then the second was refused.
        if place.real.stat(b"new")?.is_some() {
            rmdir(&place.real, "new")?;
        }
        made.map(drop)
    });
}

#[test]
fn rename() {
    race(Exchanged::Directory, |place| {
        place.open()?.rename(b"from", b"to")?;
        place.real.rename(b"to", b"from")
    });
}

#[test]
fn rename_that_replaces_nothing() {
    race(Exchanged::Directory, |place| {
        place.open()?.rename_new(b"from", b"to")?;
        place.real.rename_new(b"to", b"from")
    });
}

#[test]
fn symlink_and_readlink() {
    race(Exchanged::Directory, |place| {
        let directory = place.open()?;
        assert_eq!(directory.read_link(b"link")?, INSIDE.as_bytes(), "a link outside was read");
        directory.make_link(b"target", b"made-link")?;
        place.real.remove(b"made-link")
    });
}

#[test]
fn unlink() {
    race(Exchanged::Directory, |place| {
        place.open()?.remove(b"doomed")?;
        place.real.create_new(b"doomed", 0o666).map(drop)
    });
}

#[test]
fn chmod_and_utimens_of_the_directory_itself() {
    race(Exchanged::Directory, |place| place.parent()?.set_attributes(b"victim", 0o711, TIME));
}

#[test]
fn chmod_and_utimens_below_a_directory() {
    race(Exchanged::Directory, |place| place.open()?.set_attributes(b"sub", 0o711, TIME));
}

#[test]
fn utimens_of_a_link() {
    // It is done to whatever has the name; that the other end of the link stays as it was is what counts.
    race(Exchanged::File, |place| {
        let parent = place.parent()?;
        parent.set_link_time(b"leaf", TIME)?;
        expect_inside(parent.open_file(b"leaf")?)
    });
}

#[test]
fn readdir() {
    race(Exchanged::Directory, |place| {
        for directory in [place.open()?, place.parent()?.open_directory(b"victim")?] {
            for entry in directory.entries()? {
                assert_ne!(*entry?.0, *b"secret", "a directory outside was read");
            }
        }
        Ok(())
    });
}

#[test]
fn stat() {
    let length = u64::try_from(INSIDE.len()).unwrap();
    race(Exchanged::Directory, |place| {
        let status = place.open()?.stat(b"file")?.ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(status.size, length, "the state of a file outside was read");
        Ok(())
    });
    race(Exchanged::File, |place| {
        let status = place.parent()?.stat(b"leaf")?.ok_or(io::ErrorKind::NotFound)?;
        if status.kind == Kind::Symlink {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        assert_eq!((status.kind, status.size), (Kind::File, length));
        Ok(())
    });
}

#[test]
fn a_directory_that_is_kept_open_stays_the_same() {
    race(Exchanged::Directory, |place| {
        let mut directories = Directories::new(place.base.clone());
        for _ in 0..4 {
            let directory = directories.get(&place.path)?;
            assert_eq!(directory.identity()?, place.real.identity()?, "another directory was opened");
        }
        Ok(())
    });
}

/// Removes a directory of the test's own, by the handle of the one that is exchanged.
fn rmdir(real: &Directory, name: &str) -> io::Result<()> {
    Ok(unlinkat(real, name, AtFlags::REMOVEDIR)?)
}
