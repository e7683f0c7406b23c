//! What clients ask of a server, and what it refuses.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use files::client::{self, PutRequest};
use files::control::Unlimited;
use files::error::Error;
use files::event::Event;
use files::filter::Filter;
use files::framing::{MessageReader, MessageWriter};
use files::listing::Listed;
use files::parts::Rendezvous;
use files::path::RelativePath;
use files::root::Root;
use files::sender::Sources;
use files::serve::{Share, serve, serve_shares};
use tempfile::tempdir;
use wire_protocol::message::*;

use super::memory_stream::{MemoryInput, MemoryOutput, pair};
use super::transfer::{OPTIONS, exchange, get, share};

fn path(path: &str) -> RelativePath {
    RelativePath::parse_or_root(path.as_bytes()).unwrap()
}

/// What a server says to `messages` on a stream for `access`, to its end, and what becomes of it there.
fn ask(
    share: &Share,
    access: FilesAccess,
    messages: &[FilesMessage],
) -> (Vec<FilesMessage>, Result<Option<FilesCode>, Error>) {
    let ((mut reader, writer), mut theirs) = pair();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let served = serve(&mut theirs.0, &theirs.1, share, access, b"me", &Unlimited, &mut |_| {});
            drop(theirs);
            served
        });
        for message in messages {
            writer.say(message).ok();
        }
        writer.flush().ok();
        let mut said = Vec::new();
        // A sender waits for answers behind its offers.
        while let Ok(Some(message)) = reader.next()
            && message != FilesMessage::OffersEnd
        {
            said.push(message);
        }
        writer.shutdown().ok();
        (said, server.join().unwrap())
    })
}

fn put(destination: &[u8], placement: Placement, existing: Existing, part: Part) -> FilesMessage {
    let options = TransferOptions { existing, ..OPTIONS };
    FilesMessage::Put { destination: destination.into(), placement, options, part }
}

fn named(path: &[u8]) -> FilesMessage {
    FilesMessage::Path { path: path.into() }
}

fn list(path: &[u8]) -> FilesMessage {
    FilesMessage::List { path: path.into(), is_recursive: false }
}

const GET: FilesMessage = FilesMessage::Get { checksum: false, part: Part::WHOLE };

#[test]
fn requests_that_cannot_be_done_fail_in_an_orderly_way() {
    use FilesAccess::{Add, Read, Replace};
    use FilesCode::{BadPath, Denied, NotFound, TooMany};
    let directory = tempdir().unwrap();
    let share = share(directory.path());
    let whole = Part::WHOLE;
    let into = |destination: &[u8]| put(destination, Placement::Into, Existing::Refuse, whole);
    let many: Vec<_> = (0..=MAX_PATHS).map(|_| named(b"a")).chain([GET]).collect();
    for (access, messages, code) in [
        (Read, &[into(b"")][..], Denied),
        (Add, &[put(b"", Placement::Into, Existing::Replace, whole)], Denied),
        (Add, &[list(b"")], Denied),
        (Replace, &[list(b"")], Denied),
        (Add, &[named(b"a"), GET], Denied),
        (Replace, &[named(b""), GET], Denied),
        (Add, &[put(b"", Placement::As, Existing::Refuse, whole)], BadPath),
        (Add, &[into(b"/etc")], BadPath),
        (Add, &[into(b"..")], BadPath),
        (Add, &[into(b"a/../b")], BadPath),
        (Add, &[into(b"a/")], BadPath),
        (Add, &[into(b"a\0b")], BadPath),
        (Add, &[into(b".x.0123456789abcdef.part")], BadPath),
        (Add, &[into(&[b'a'; 4001])], BadPath),
        (Read, &[list(b"../x")], BadPath),
        (Read, &[list(b".x.0123456789abcdef.part")], BadPath),
        (Read, &[list(b"missing")], NotFound),
        (Read, &[list(b"missing/too")], NotFound),
        (Read, &[GET], BadPath),
        (Read, &[named(b""), named(b"a"), GET], BadPath),
        (Read, &many, TooMany),
    ] {
        let (said, served) = ask(&share, access, messages);
        assert_eq!(said, [FilesMessage::Failed { code }], "{:?}", &messages[..messages.len().min(2)]);
        assert_eq!(served.unwrap(), Some(code));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_request_ends_the_stream() {
    let directory = tempdir().unwrap();
    let share = share(directory.path());
    let part = |index, count| put(b"", Placement::Into, Existing::Refuse, Part { index, count });
    let get = |index, count| FilesMessage::Get { checksum: false, part: Part { index, count } };
    for (access, messages) in [
        (FilesAccess::Add, &[part(1, 1)][..]),
        (FilesAccess::Add, &[part(0, 0)]),
        (FilesAccess::Add, &[part(0, 17)]),
        (FilesAccess::Read, &[named(b"a"), get(2, 2)]),
        (FilesAccess::Read, &[named(b"a"), list(b"a")]),
        (FilesAccess::Add, &[named(b"a"), part(0, 1)]),
        (FilesAccess::Add, &[FilesMessage::OffersEnd]),
        (FilesAccess::Read, &[FilesMessage::Finish]),
        (FilesAccess::Read, &[FilesMessage::Failed { code: FilesCode::Io }]),
    ] {
        let (said, served) = ask(&share, access, messages);
        assert_eq!(said, [], "{messages:?}");
        assert!(matches!(served, Err(Error::Protocol(_))), "{messages:?}: {served:?}");
    }
}

#[test]
fn paths_that_lead_nowhere_or_out_are_unreadable_and_the_others_come() {
    let directory = tempdir().unwrap();
    let inside = directory.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("file"), b"x").unwrap();
    fs::write(directory.path().join("secret"), b"x").unwrap();
    symlink("..", inside.join("up")).unwrap();
    let share = share(&inside);
    let names: [&[u8]; 6] = [b"../secret", b"/etc/passwd", b"missing", b"up/secret", b"file", &[b'a'; 8_000]];
    let messages: Vec<_> = names.iter().map(|name| named(name)).chain([GET]).collect();
    let (said, served) = ask(&share, FilesAccess::Read, &messages[..]);
    let unreadable = |path: &[u8], code| FilesMessage::Unreadable { path: path.into(), code };
    assert_eq!(said[0], FilesMessage::Ready { is_directory: false, is_large: false });
    assert_eq!(
        said[1..4],
        [
            unreadable(b"../secret", FilesCode::BadPath),
            unreadable(b"/etc/passwd", FilesCode::BadPath),
            unreadable(&[b'a'; 4000], FilesCode::BadPath),
        ]
    );
    assert_eq!(
        said[4..6],
        [unreadable(b"missing", FilesCode::NotFound), unreadable(b"secret", FilesCode::NotDirectory)]
    );
    let FilesMessage::Offer { entry } = &said[6] else { panic!("{said:?}") };
    assert_eq!(*entry.path, *b"file");
    // The client has left without an answer.
    assert!(served.is_err());
}

/// Lists what is at `at` in `share`.
fn listing(share: &Share, at: &str, is_recursive: bool) -> Result<Vec<(String, &'static str)>, Error> {
    let listed = Mutex::new(Vec::new());
    let outcome = exchange(share, FilesAccess::Read, 1, None, |(reader, writer), _, _, _| {
        client::list(reader, writer, &path(at), is_recursive, &mut |entry| {
            let (path, kind) = match entry {
                Listed::Entry(Entry { path, kind: EntryKind::File { .. }, .. }) => (path, "file"),
                Listed::Entry(Entry { path, kind: EntryKind::Directory, .. }) => (path, "directory"),
                Listed::Entry(Entry { path, .. }) => (path, "link"),
                Listed::Unreadable { path, .. } => (path, "unreadable"),
            };
            listed.lock().unwrap().push((String::from_utf8_lossy(&path).into_owned(), kind));
            Ok(())
        })
    });
    let [(client, server)] = <[_; 1]>::try_from(outcome.results).unwrap();
    server.unwrap();
    client.map(|()| listed.into_inner().unwrap())
}

#[test]
fn a_listing_shows_what_is_there_and_nothing_unfinished() {
    let directory = tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    fs::write(at("sub/deep/file"), b"xy").unwrap();
    fs::write(at("sub/.file.0123456789abcdef.part"), b"x").unwrap();
    fs::write(at("a"), b"x").unwrap();
    symlink("/etc", at("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let share = share(directory.path());
    let expect = |path: &str, is_recursive, expected: &[(&str, &str)]| {
        let listed = listing(&share, path, is_recursive).unwrap();
        let listed: Vec<_> = listed.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
        assert_eq!(listed, expected);
    };
    let (a, link, socket) = (("a", "file"), ("link", "link"), ("socket", "unreadable"));
    let sub = [("sub", "directory"), ("sub/deep", "directory"), ("sub/deep/file", "file")];
    expect("", false, &[a, link, socket, sub[0]]);
    expect("", true, &[a, link, socket, sub[0], sub[1], sub[2]]);
    expect("sub", false, &[sub[1]]);
    expect("sub", true, &[sub[1], sub[2]]);
    expect("sub/deep/file", true, &[sub[2]]);
    expect("link", true, &[link]);
    let through = listing(&share, "link/passwd", true);
    assert!(matches!(through, Err(Error::Refused(FilesCode::NotDirectory))), "{through:?}");
    let missing = listing(&share, "sub/x", true);
    assert!(matches!(missing, Err(Error::Refused(FilesCode::NotFound))), "{missing:?}");
}

#[test]
fn the_shares_are_listed_on_a_stream_for_that() {
    let shares = [("a".to_owned(), ShareAccess::ReadOnly), ("b".to_owned(), ShareAccess::Drop)];
    let ((mut reader, writer), (mut their_reader, their_writer)) = pair();
    thread::scope(|scope| {
        scope.spawn(|| serve_shares(&mut their_reader, &their_writer, &shares).unwrap());
        assert_eq!(client::shares(&mut reader, &writer).unwrap(), shares);
    });
}

/// Puts what `sources` are to `destination`, and gives whether it is a directory.
fn put_to(
    share: &Share,
    destination: &str,
    placement: Placement,
    sources: impl Fn() -> Sources + Sync,
) -> bool {
    let is_directory = Mutex::new(None);
    exchange(share, FilesAccess::Add, 1, None, |(reader, writer), part, rendezvous, events| {
        let request = PutRequest { destination: path(destination), placement, options: OPTIONS, part };
        let mut on_ready = |ready| *is_directory.lock().unwrap() = Some(ready);
        let on_ready: Option<&mut dyn FnMut(bool)> = Some(&mut on_ready);
        let filter = Filter::all();
        client::put(reader, writer, sources(), &request, &filter, rendezvous, on_ready, &Unlimited, events)
    })
    .unwrap();
    is_directory.into_inner().unwrap().expect("the server was ready")
}

#[test]
fn a_destination_is_a_directory_or_the_new_name() {
    let directory = tempdir().unwrap();
    let (stored, source) = (directory.path().join("stored"), directory.path().join("source"));
    fs::create_dir_all(stored.join("there")).unwrap();
    fs::write(&source, b"x").unwrap();
    let share = share(&stored);
    let roots = || Sources::Roots(vec![Root::new(&source).unwrap()]);
    let expect = |name: &str| assert_eq!(fs::read(stored.join(name)).unwrap(), b"x", "{name}");
    assert!(put_to(&share, "there", Placement::Automatic, roots));
    expect("there/source");
    assert!(!put_to(&share, "new/name", Placement::Automatic, roots));
    expect("new/name");
    assert!(put_to(&share, "other", Placement::Into, roots));
    expect("other/source");
    assert!(!put_to(&share, "as", Placement::As, roots));
    expect("as");
    let stream = || Sources::Stream { input: Box::new(Cursor::new(b"x")), name: path("x.tar") };
    assert!(!put_to(&share, "x.tar", Placement::As, stream));
    expect("x.tar");
}

#[test]
fn a_path_that_is_not_there_is_told_and_no_more() {
    let directory = tempdir().unwrap();
    let outcome = get(b"missing", &share(directory.path()), directory.path(), OPTIONS, 1, None);
    let [(client, server)] = <[_; 1]>::try_from(outcome.results).unwrap();
    client.unwrap();
    server.unwrap();
    let failed = |event: &Event| matches!(event, Event::Failed { code: FilesCode::NotFound, .. });
    assert!(outcome.events.iter().any(failed), "{:?}", outcome.events);
}

/// Has a server say `messages` to a client that lists, puts or gets by `client`.
fn told(
    messages: &[FilesMessage],
    client: impl FnOnce(&mut MessageReader<MemoryInput>, &MessageWriter<MemoryOutput>) -> Result<(), Error>,
) -> Result<(), Error> {
    let ((mut reader, writer), (mut their_reader, their_writer)) = pair();
    thread::scope(|scope| {
        scope.spawn(move || {
            for message in messages {
                their_writer.say(message).ok();
            }
            their_writer.flush().ok();
            their_reader.discard().ok();
            their_writer.shutdown().ok();
        });
        let result = client(&mut reader, &writer);
        writer.shutdown().ok();
        drop((reader, writer));
        result
    })
}

#[test]
fn servers_that_say_what_they_may_not_are_given_up() {
    let entry = |path: &[u8]| FilesMessage::Listed {
        entry: Entry {
            path: path.into(),
            kind: EntryKind::Directory,
            mode: 0o755,
            modified: FileTime { seconds: 0, nanoseconds: 0 },
        },
    };
    let share = FilesMessage::Share { name: "a".into(), access: ShareAccess::ReadOnly };
    let ready = FilesMessage::Ready { is_directory: true, is_large: false };
    let late = FilesMessage::Listed {
        entry: Entry {
            path: (*b"a").into(),
            kind: EntryKind::Directory,
            mode: 0o755,
            modified: FileTime { seconds: 0, nanoseconds: 1_000_000_000 },
        },
    };
    for messages in [
        &[entry(b"../x")][..],
        &[entry(b"/x")],
        &[entry(b"")],
        &[late],
        &[share],
        std::slice::from_ref(&ready),
        &[FilesMessage::Finish],
        &[FilesMessage::ListEnd, entry(b"a")],
    ] {
        let result = told(messages, |reader, writer| {
            client::list(reader, writer, &RelativePath::root(), true, &mut |_| Ok(()))
        });
        assert!(matches!(result, Err(Error::Protocol(_))), "{messages:?}: {result:?}");
    }
    let result = told(&[entry(b"a")], |reader, writer| client::shares(reader, writer).map(drop));
    assert!(matches!(result, Err(Error::Protocol(_))), "{result:?}");
    let directory = tempdir().unwrap();
    for messages in [
        &[FilesMessage::Have { number: 0, sha256: None }][..],
        &[FilesMessage::ListEnd],
        &[ready.clone(), ready.clone()],
        &[ready.clone(), FilesMessage::Failed { code: FilesCode::Io }],
        &[ready, FilesMessage::AskAttributes],
    ] {
        let result = told(messages, |reader, writer| put_nothing(reader, writer, directory.path()));
        assert!(matches!(result, Err(Error::Protocol(_))), "{messages:?}: {result:?}");
    }
    let refused = told(&[FilesMessage::Failed { code: FilesCode::Denied }], |reader, writer| {
        put_nothing(reader, writer, directory.path())
    });
    assert!(matches!(refused, Err(Error::Refused(FilesCode::Denied))), "{refused:?}");
}

/// Puts an empty directory.
fn put_nothing(
    reader: &mut MessageReader<MemoryInput>,
    writer: &MessageWriter<MemoryOutput>,
    directory: &Path,
) -> Result<(), Error> {
    let request = PutRequest {
        destination: RelativePath::root(),
        placement: Placement::Into,
        options: OPTIONS,
        part: Part::WHOLE,
    };
    let sources = Sources::Roots(vec![Root::new(directory).unwrap()]);
    let (filter, rendezvous) = (Filter::all(), Rendezvous::alone());
    client::put(reader, writer, sources, &request, &filter, rendezvous, None, &Unlimited, &mut |_| {})
}
