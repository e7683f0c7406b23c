//! A client and a server of one share that move files between them, with any number of streams.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use files::claims::Claims;
use files::client::{self, GetRequest, PutRequest};
use files::control::{Unbounded, Unlimited};
use files::directory::Directory;
use files::error::Error;
use files::event::Event;
use files::filter::Filter;
use files::parts::Rendezvous;
use files::path::RelativePath;
use files::receiver::{Placed, Receiver, Role};
use files::root::Root;
use files::sender::Sources;
use files::serve::{Share, serve};
use wire_protocol::message::*;

use super::memory_stream::{MemoryStream, pair};

pub(super) const OPTIONS: TransferOptions = TransferOptions {
    existing: Existing::Refuse,
    preserve: true,
    checksum: false,
    verify_disk: false,
    dry_run: false,
};

/// What a transfer has come to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Of each stream, at the client and at the server.
    pub(super) results: Vec<(Result<(), Error>, Result<(), Error>)>,
    /// At the client.
    pub(super) events: Vec<Event>,
    /// Bytes that went in both directions.
    pub(super) carried: usize,
}

impl Outcome {
    /// Expects that all has gone well.
    #[track_caller]
    pub(super) fn unwrap(self) -> Self {
        for (client, server) in &self.results {
            assert!(client.is_ok() && server.is_ok(), "{client:?} and {server:?}: {:?}", self.events);
        }
        let failed: Vec<_> =
            self.events.iter().filter(|event| matches!(event, Event::Failed { .. })).collect();
        assert!(failed.is_empty(), "{failed:?}");
        self
    }

    pub(super) fn count(&self, what: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| what(event)).count()
    }
}

pub(super) fn share(directory: &Path) -> Share {
    Share {
        directory: Directory::open_trusted(directory).unwrap(),
        access: ShareAccess::ReadWrite,
        room: Arc::new(Unbounded),
        claims: Claims::new(),
        end: None,
    }
}

/// Serves `share` on one stream for each of `rendezvous`, and runs `client` at the other end of each. `cut` says after how many bytes
/// from the client the first stream is cut.
pub(super) fn exchange(
    share: &Share,
    access: FilesAccess,
    count: u16,
    cut: Option<usize>,
    client: impl Fn(&mut MemoryStream, Part, Rendezvous, &mut dyn FnMut(Event)) -> Result<(), Error> + Sync,
) -> Outcome {
    let events = Mutex::new(Vec::new());
    let run = |index: u16, rendezvous: Rendezvous| {
        let (mut ours, mut theirs) = pair();
        if let (Some(bytes), 0) = (cut, index) {
            ours.1.with_output(|output| output.cut_after(bytes));
        }
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let result = serve(&mut theirs.0, &theirs.1, share, access, b"me", &Unlimited, &mut |_| {});
                let carried = theirs.1.with_output(|output| output.carried());
                drop(theirs);
                (result.map(drop), carried)
            });
            let mut tell = |event| events.lock().unwrap().push(event);
            let result = client(&mut ours, Part { index, count }, rendezvous, &mut tell);
            let carried = ours.1.with_output(|output| output.carried());
            drop(ours);
            let (served, back) = server.join().unwrap();
            ((result, served), carried + back)
        })
    };
    let ended: Vec<_> = thread::scope(|scope| {
        let parts = Rendezvous::new(count).into_iter().zip(0..);
        let parts: Vec<_> = parts.map(|(part, index)| scope.spawn(move || run(index, part))).collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let carried = ended.iter().map(|(_, carried)| carried).sum();
    let results = ended.into_iter().map(|(results, _)| results).collect();
    Outcome { results, events: events.into_inner().unwrap(), carried }
}

/// Puts `tree` into `share`.
pub(super) fn put(
    tree: &Path,
    share: &Share,
    options: TransferOptions,
    count: u16,
    cut: Option<usize>,
) -> Outcome {
    let access = match options.existing {
        Existing::Replace => FilesAccess::Replace,
        _ => FilesAccess::Add,
    };
    exchange(share, access, count, cut, |stream, part, rendezvous, events| {
        put_part(tree, options, stream, part, rendezvous, events)
    })
}

/// Puts a part of `tree` on one stream.
pub(super) fn put_part(
    tree: &Path,
    options: TransferOptions,
    (reader, writer): &mut MemoryStream,
    part: Part,
    rendezvous: Rendezvous,
    events: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    let destination = RelativePath::root();
    let request = PutRequest { destination, placement: Placement::Into, options, part };
    let sources = Sources::Roots(vec![Root::new(tree).unwrap()]);
    let filter = Filter::all();
    client::put(reader, writer, sources, &request, &filter, rendezvous, None, &Unlimited, events)
}

/// Gets what has `name` in `share`, into `destination`.
pub(super) fn get(
    name: &[u8],
    share: &Share,
    destination: &Path,
    options: TransferOptions,
    count: u16,
    cut: Option<usize>,
) -> Outcome {
    exchange(share, FilesAccess::Read, count, cut, |(reader, writer), part, rendezvous, events| {
        let paths = vec![RelativePath::parse(name).unwrap()];
        let request = GetRequest { paths, checksum: options.checksum, part };
        let directory = Directory::open_trusted(destination).unwrap();
        let mut receiver = Receiver::new(directory, RelativePath::root(), Placed::Into, options, b"server");
        receiver.role = Role::Get;
        receiver.part = part;
        receiver.roots = Some(BTreeSet::from([name.into()]));
        receiver.rendezvous = rendezvous;
        client::get(reader, writer, &request, receiver, &mut |_| {}, &Unlimited, events)
    })
}

/// Asks for the first of `count` parts, and leaves the others out. Gives whether the server wanted them to be asked for.
pub(super) fn get_first_of(count: u16, name: &[u8], share: &Share, destination: &Path) -> bool {
    let wanted = Mutex::new(None);
    exchange(share, FilesAccess::Read, 1, None, |(reader, writer), _, _, events| {
        let part = Part { index: 0, count };
        let request = GetRequest { paths: vec![RelativePath::parse(name).unwrap()], checksum: false, part };
        let directory = Directory::open_trusted(destination).unwrap();
        let mut parts = Rendezvous::new(count);
        let others = Mutex::new(parts.split_off(1));
        let mut receiver = Receiver::new(directory, RelativePath::root(), Placed::Into, OPTIONS, b"server");
        receiver.role = Role::Get;
        receiver.part = part;
        receiver.roots = Some(BTreeSet::from([name.into()]));
        receiver.rendezvous = parts.remove(0);
        let mut on_ready = |is_large| {
            *wanted.lock().unwrap() = Some(is_large);
            others.lock().unwrap().clear();
        };
        client::get(reader, writer, &request, receiver, &mut on_ready, &Unlimited, events)
    })
    .unwrap();
    wanted.into_inner().unwrap().expect("the server was ready")
}
