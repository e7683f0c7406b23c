//! What a peer names is a directory or file at one moment and a symbolic link that leads out at the next, since a second process
//! exchanges the two all the time. Each kind of operation is done thousands of times meanwhile: nothing outside is read or changed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use files::directory::{Directories, Directory, code_of};
use files::path::RelativePath;
use wire_protocol::message::FilesCode;

use super::operations::TIME;
use super::swapper::Swapper;
use super::world::{INSIDE, World};

/// Exchanges, and rounds, at least.
const TIMES: u64 = 4000;
/// When a machine is too busy for that.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is exchanged, in `inside/a`, for a link to what has the same part in `outside`.
#[derive(Clone, Copy)]
enum Exchanged {
    Directory,
    File,
}

/// Does `operation` again and again, with the directory that a peer is given, and with the one that is exchanged, whatever its
/// name is now, for what has to be put in order. Both are to be seen: that it was done, and that it was refused.
fn race(exchanged: Exchanged, operation: impl Fn(&Directory, &Directory) -> io::Result<()>) {
    let world = World::new();
    let (name, link, target) = match exchanged {
        Exchanged::Directory => ("victim", "spare", "outside"),
        Exchanged::File => ("leaf", "leaf-link", "outside/secret"),
    };
    let (name, link) = (world.path("inside/a").join(name), world.path("inside/a").join(link));
    if matches!(exchanged, Exchanged::File) {
        fs::write(&name, INSIDE).unwrap();
    }
    symlink(world.path(target), &link).unwrap();
    let victim = Directory::open_trusted(&world.path("inside/a/victim")).unwrap();
    let before = world.outside();

    let swapper = Swapper::begin(&name, &link, world.path("count"));
    let start = Instant::now();
    let bases = [world.inside(), world.inside().without_openat2()];
    let (mut rounds, mut done, mut refused) = (0, [0_u64; 2], [0_u64; 2]);
    while (rounds < TIMES || done.contains(&0) || refused.contains(&0)) && start.elapsed() < DEADLINE {
        for (at, base) in bases.iter().enumerate() {
            match operation(base, &victim) {
                Ok(()) => done[at] += 1,
                Err(error) => {
                    let code = code_of(&error);
                    assert!(
                        matches!(code, FilesCode::NotDirectory | FilesCode::Exists | FilesCode::NotFound),
                        "{error}"
                    );
                    refused[at] += 1;
                }
            }
        }
        rounds += 1;
        if rounds % 256 == 0 {
            assert_eq!(world.outside(), before, "something outside was changed");
        }
    }
    let exchanges = swapper.end();
    assert_eq!(world.outside(), before, "something outside was changed");
    assert!(rounds >= TIMES && exchanges >= TIMES, "{rounds} rounds, {exchanges} exchanges");
    assert!(!done.contains(&0) && !refused.contains(&0), "done {done:?}, refused {refused:?}");
}

fn path(path: &str) -> RelativePath {
    RelativePath::parse(path.as_bytes()).unwrap()
}

fn victim(base: &Directory) -> io::Result<Directory> {
    base.walk_to(&path("a/victim"))
}

fn parent(base: &Directory) -> io::Result<Directory> {
    base.walk_to(&path("a"))
}

fn expect_inside(mut file: fs::File) -> io::Result<()> {
    let mut content = String::new();
    file.read_to_string(&mut content)?;
    assert_eq!(content, INSIDE, "a file outside was read");
    Ok(())
}

#[test]
fn open_below_a_directory() {
    race(Exchanged::Directory, |base, _| expect_inside(victim(base)?.open_file(b"file")?));
}

#[test]
fn open_further_down() {
    race(Exchanged::Directory, |base, _| {
        expect_inside(base.walk_to(&path("a/victim/sub/deep"))?.open_file(b"file")?)
    });
}

#[test]
fn open_of_the_file_itself() {
    race(Exchanged::File, |base, _| expect_inside(parent(base)?.open_file(b"leaf")?));
}

#[test]
fn open_of_a_partial_file() {
    race(Exchanged::File, |base, _| parent(base)?.open_partial(b"leaf")?.write_all(INSIDE.as_bytes()));
}

#[test]
fn create() {
    race(Exchanged::Directory, |base, real| {
        victim(base)?.create_new(b"created", 0o666)?;
        real.remove(b"created")
    });
}

#[test]
fn create_under_the_name_itself() {
    race(Exchanged::File, |base, _| match parent(base)?.create_new(b"leaf", 0o666) {
        Ok(_) => panic!("it has replaced something"),
        // What has the name is there all the time: to find that out is what is to be done.
        Err(error) if code_of(&error) == FilesCode::Exists => {
            expect_inside(parent(base)?.open_file(b"leaf")?)
        }
        Err(error) => Err(error),
    });
}

#[test]
fn mkdir() {
    race(Exchanged::Directory, |base, real| {
        victim(base)?.make_directory(b"made")?;
        rmdir(real, "made")
    });
}

#[test]
fn mkdir_of_all_that_is_missing() {
    race(Exchanged::Directory, |base, real| {
        let made = base.make_all(&path("a/victim/new/directory"));
        if made.is_ok() {
            rmdir(real, "new/directory")?;
        }
        // The first of the two may have been made, and then the second was refused.
        if real.stat(b"new")?.is_some() {
            rmdir(real, "new")?;
        }
        made.map(drop)
    });
}

#[test]
fn rename() {
    race(Exchanged::Directory, |base, real| {
        victim(base)?.rename(b"from", b"to")?;
        real.rename(b"to", b"from")
    });
}

#[test]
fn rename_that_replaces_nothing() {
    race(Exchanged::Directory, |base, real| {
        victim(base)?.rename_new(b"from", b"to")?;
        real.rename_new(b"to", b"from")
    });
}

#[test]
fn symlink_and_readlink() {
    race(Exchanged::Directory, |base, real| {
        let victim = victim(base)?;
        assert_eq!(victim.read_link(b"link")?, INSIDE.as_bytes(), "a link outside was read");
        victim.make_link(b"target", b"made-link")?;
        real.remove(b"made-link")
    });
}

#[test]
fn unlink() {
    race(Exchanged::Directory, |base, real| {
        victim(base)?.remove(b"doomed")?;
        real.create_new(b"doomed", 0o666).map(drop)
    });
}

#[test]
fn chmod_and_utimens_of_the_directory_itself() {
    race(Exchanged::Directory, |base, _| parent(base)?.set_attributes(b"victim", 0o711, TIME));
}

#[test]
fn chmod_and_utimens_below_a_directory() {
    race(Exchanged::Directory, |base, _| victim(base)?.set_attributes(b"sub", 0o711, TIME));
}

#[test]
fn utimens_of_a_link() {
    // It is done to whatever has the name; that the other end of the link stays as it was is what counts.
    race(Exchanged::File, |base, _| {
        let parent = parent(base)?;
        parent.set_link_time(b"leaf", TIME)?;
        expect_inside(parent.open_file(b"leaf")?)
    });
}

#[test]
fn readdir() {
    race(Exchanged::Directory, |base, _| {
        for directory in [victim(base)?, parent(base)?.open_directory(b"victim")?] {
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
    race(Exchanged::Directory, |base, _| {
        let status = victim(base)?.stat(b"file")?.ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(status.size, length, "the state of a file outside was read");
        Ok(())
    });
    race(Exchanged::File, |base, _| {
        let status = parent(base)?.stat(b"leaf")?.ok_or(io::ErrorKind::NotFound)?;
        match status.kind {
            files::directory::Kind::File => assert_eq!(status.size, length),
            kind => {
                assert_eq!(kind, files::directory::Kind::Symlink);
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        Ok(())
    });
}

#[test]
fn a_directory_that_is_kept_open_stays_the_same() {
    race(Exchanged::Directory, |base, real| {
        let mut directories = Directories::new(base.clone());
        let first = directories.get(&path("a/victim"))?;
        for _ in 0..4 {
            let again = directories.get(&path("a/victim"))?;
            assert_eq!(again.identity()?, real.identity()?, "the working directory was exchanged");
        }
        assert_eq!(first.identity()?, real.identity()?);
        Ok(())
    });
}

/// Removes a directory of the test's own, by the handle of the one that is exchanged.
fn rmdir(real: &Directory, name: &str) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(real, name, rustix::fs::AtFlags::REMOVEDIR)?)
}
