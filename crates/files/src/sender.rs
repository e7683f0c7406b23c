//! The side of an exchange that has the files: it offers them, and sends what the receiver wants of them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::Arc;
use std::{fmt, panic, thread};

use wire_protocol::message::{FilesCode, FilesMessage, MAX_ENTRIES, MAX_OUTSTANDING, Part};

use crate::answers::{Answers, Resolution, Want};
use crate::cause::Cause;
use crate::chunks::chunk_len;
use crate::content::{Ended, Sink, Zeros};
use crate::control::{Control, named_len};
use crate::directory::error_of;
use crate::error::Error;
use crate::event::{Event, Side};
use crate::filter::Filter;
use crate::framing::{Input, MessageReader, MessageWriter, Output};
use crate::offers::{Next, Offered, Offers, Origin, stream_offer};
use crate::parts::Rendezvous;
use crate::path::RelativePath;
use crate::root::{Locator, Root};
use crate::source::StreamSource;
use crate::walk::{Order, Step, Walk};

/// What is sent.
pub enum Sources {
    /// Files and trees.
    Roots(Vec<Root>),
    /// What a stream gives, as a file of this name.
    Stream {
        /// The stream.
        input: Box<dyn Read + Send>,
        /// The name.
        name: RelativePath,
    },
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(roots) => f.debug_tuple("Roots").field(roots).finish(),
            Self::Stream { name, .. } => f.debug_struct("Stream").field("name", name).finish_non_exhaustive(),
        }
    }
}

/// Sends files on one stream.
#[derive(Debug)]
pub struct Sender<'a> {
    /// What is sent.
    pub sources: Sources,
    /// What is left out.
    pub filter: &'a Filter,
    /// The part of it that goes on this stream.
    pub part: Part,
    /// Whether files are offered with their SHA-256.
    pub has_checksums: bool,
    /// Whether nothing is sent, only told what would be.
    pub is_dry_run: bool,
    /// What is awaited.
    pub ending: Ending,
}

/// What comes between the last file and the end, on the first stream of a transfer.
#[derive(Debug)]
pub enum Ending {
    /// In a Put: the Attributes of directories, once all streams have brought all of theirs.
    Meeting {
        /// This stream's end of the meeting.
        rendezvous: Rendezvous,
        /// Whether there are Attributes at all.
        has_attributes: bool,
    },
    /// In a Get: the Attributes of directories, once the receiver asks for them.
    Asked,
}

/// Waits for Ready before the first offer, and is told whether the destination is a directory.
pub type OnReady<'a> = &'a mut dyn FnMut(bool);

impl Sender<'_> {
    /// Sends everything. In a Put, which has been said before, takes the server's Ready as well, and waits for it with `on_ready`. The
    /// stream is at its end in both directions then, also where the other side has refused all of it.
    ///
    /// # Errors
    /// What has ended it. Apart from [`Error::Refused`], the stream is of no more use. It waits for the other side's end even then: to
    /// be sure of an end, shut the socket down.
    pub fn run<R: Input + Send, W: Output>(
        self,
        reader: &mut MessageReader<R>,
        writer: &MessageWriter<W>,
        on_ready: Option<OnReady<'_>>,
        control: &dyn Control,
        events: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let is_put = matches!(self.ending, Ending::Meeting { .. });
        let answers = Answers::new(is_put, self.is_dry_run);
        thread::scope(|scope| {
            let reading = thread::Builder::new()
                .name("answers".into())
                .stack_size(READER_STACK)
                .spawn_scoped(scope, || answers.read(reader))?;
            let table = HashMap::new();
            let sink = Sink { writer, answers: &answers, control, events, zeros: Zeros::default() };
            let mut running = Running { sink, sender: self, table, next_number: 0 };
            let result = running.run(is_put, on_ready);
            if result.is_err() {
                // The other side ends too, and with it the thread that reads. Why it fails is known already.
                writer.shutdown().ok();
            }
            reading.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
            result
        })
    }
}

/// Bytes of the stack of the thread that reads answers.
const READER_STACK: usize = 256 * 1024;
/// Offers that are made before content is looked for again.
const OFFERS_AT_ONCE: usize = 32;

/// A sender at work.
struct Running<'a, 's, W> {
    sink: Sink<'a, W>,
    sender: Sender<'s>,
    /// What has been offered and not been answered to the end.
    table: HashMap<u32, Offered>,
    next_number: u32,
}

impl<W: Output> Running<'_, '_, W> {
    fn run(&mut self, is_put: bool, on_ready: Option<OnReady<'_>>) -> Result<(), Error> {
        let Sink { writer, answers, control, .. } = self.sink;
        if let Some(on_ready) = on_ready {
            writer.flush()?;
            on_ready(answers.wait_ready(control)?);
        }
        let mut sources = std::mem::replace(&mut self.sender.sources, Sources::Roots(Vec::new()));
        match &mut sources {
            Sources::Roots(roots) => self.run_roots(roots)?,
            Sources::Stream { input, name } => self.run_stream(&mut **input, name)?,
        }
        writer.flush()?;
        if is_put {
            answers.wait_ready(control)?;
        }
        if self.meet()?
            && let Sources::Roots(roots) = &sources
        {
            self.attributes(roots)?;
        }
        answers.expect_finish();
        writer.say(&FilesMessage::Finish)?;
        writer.shutdown()?;
        answers.wait_finished(control)
    }

    fn run_roots(&mut self, roots: &[Root]) -> Result<(), Error> {
        let walk = Walk::new(roots, self.sender.filter, self.sender.part, Order::Parents);
        let mut offers = Some(Offers::new(walk, roots, self.sender.has_checksums));
        let mut locator = Locator::new(roots);
        loop {
            let mut most = OFFERS_AT_ONCE;
            while let Some(source) = &mut offers
                && most > 0
                && self.table.len() < MAX_OUTSTANDING
            {
                most -= 1;
                if self.sender.has_checksums {
                    // The file is read before its offer, which may take long.
                    self.sink.writer.flush()?;
                    most = 0;
                }
                let next = source.next(self.sink.control)?;
                if !self.offer(next)? {
                    offers = None;
                }
            }
            if self.table.is_empty() && offers.is_none() {
                return Ok(());
            }
            let may_offer = offers.is_some() && self.table.len() < MAX_OUTSTANDING;
            if let Some(want) = self.turn(!may_offer)? {
                self.send(&mut locator, &want)?;
            }
        }
    }

    fn run_stream(&mut self, input: &mut dyn Read, name: &RelativePath) -> Result<(), Error> {
        if self.sender.part.index == 0 {
            self.offer(Some(stream_offer(name)))?;
        }
        self.offer(None)?;
        while !self.table.is_empty() {
            let Some(want) = self.turn(true)? else { continue };
            self.start(&want);
            let mut stream = StreamSource::new(input, self.sender.has_checksums);
            let ended = self.sink.send_stream(&mut stream, want.number)?;
            if let Some(offered) = self.table.get_mut(&want.number) {
                (offered.size, offered.sha256) = (Some(stream.length), stream.sha256());
            }
            self.ended(want.number, ended);
        }
        Ok(())
    }

    /// Offers what is next, or says that there is nothing more. Gives whether there may be more.
    fn offer(&mut self, next: Option<Next>) -> Result<bool, Error> {
        let Sink { writer, answers, .. } = self.sink;
        let next = match next {
            Some(Next::Offer(offer)) if self.next_number >= MAX_ENTRIES => RelativePath::parse(&offer.0.path)
                .ok()
                .map(|path| Next::Unreadable(path, FilesCode::TooMany.into())),
            next => next,
        };
        match next {
            Some(Next::Offer(offer)) => {
                let (entry, offered) = *offer;
                self.sink.control.named(named_len(&entry))?;
                let number = self.next_number;
                self.next_number += 1;
                if !offered.is_implied {
                    let (path, size) = (Arc::clone(&offered.path), offered.size.unwrap_or(0));
                    self.tell(Event::Found { path, size });
                }
                answers.offered(number, offered.chunks());
                self.table.insert(number, offered);
                writer.say(&FilesMessage::Offer { entry })?;
                Ok(true)
            }
            Some(Next::Unreadable(path, Cause { code, system })) => {
                writer.say(&FilesMessage::Unreadable { path: path.as_bytes().into(), code })?;
                let path = Arc::new(path.to_path_buf());
                self.tell(Event::Failed { path, size: 0, code, system, side: Side::Sender });
                if code == FilesCode::TooMany { self.offer(None) } else { Ok(true) }
            }
            None => {
                if matches!(self.sender.ending, Ending::Asked) && self.sender.part.index == 0 {
                    answers.expect_ask();
                }
                writer.say(&FilesMessage::OffersEnd)?;
                self.tell(Event::AllFound);
                Ok(false)
            }
        }
    }

    /// Takes answers in, and waits for some with `waits`. Gives what is wanted next.
    fn turn(&mut self, waits: bool) -> Result<Option<Want>, Error> {
        let mut turn = self.sink.answers.turn(false, self.sink.control)?;
        if waits && turn.resolved.is_empty() && turn.want.is_none() {
            self.sink.writer.flush()?;
            turn = self.sink.answers.turn(true, self.sink.control)?;
        }
        for (number, resolution) in turn.resolved {
            if let Some(offered) = self.table.remove(&number)
                && !offered.is_implied
            {
                self.resolved(offered, resolution);
            }
        }
        Ok(turn.want.filter(|want| self.table.contains_key(&want.number)))
    }

    fn resolved(&mut self, offered: Offered, resolution: Resolution) {
        let Offered { path, size, sha256, abandoned, .. } = offered;
        let size = size.unwrap_or(0);
        self.tell(match resolution {
            Resolution::Have { sha256: theirs } => Event::Unchanged { path, size, sha256: sha256.or(theirs) },
            Resolution::Done { .. } if self.sender.is_dry_run => Event::Would { path, size },
            Resolution::Done { sha256: theirs, stored_as } => {
                let stored_as = stored_as.map(|name| OsString::from_vec(name.into_vec()).into());
                Event::Done { path, size, stored_as, sha256: theirs.or(sha256) }
            }
            Resolution::Rejected { code } => {
                let side = if abandoned.is_some() { Side::Sender } else { Side::Receiver };
                let Cause { code, system } = abandoned.unwrap_or(code.into());
                Event::Failed { path, size, code, system, side }
            }
            Resolution::Would { held } => {
                let held = u64::from(held).saturating_mul(chunk_len(Some(size)));
                Event::Would { path, size: size.saturating_sub(held) }
            }
        });
    }

    /// Sends what is wanted.
    fn send(&mut self, locator: &mut Locator<'_>, want: &Want) -> Result<(), Error> {
        self.start(want);
        let Some(offered) = self.table.get(&want.number) else { return Ok(()) };
        let Origin::File { root, identity } = offered.origin else { return Ok(()) };
        let file = RelativePath::parse(offered.path.as_os_str().as_bytes())
            .map_err(error_of)
            .and_then(|path| locator.open(root, &path));
        let sha256 = offered.sha256;
        let ended = self.sink.send_file(file, identity, sha256, want)?;
        self.ended(want.number, ended);
        Ok(())
    }

    fn start(&mut self, want: &Want) {
        let Some(offered) = self.table.get(&want.number) else { return };
        let (path, size) = (Arc::clone(&offered.path), offered.size.unwrap_or(0));
        let chunk = chunk_len(offered.size);
        let bytes = |chunks: u32| u64::from(chunks).saturating_mul(chunk).min(size);
        let held = bytes(want.held.saturating_add(want.compare));
        let compare = held - bytes(want.held);
        self.tell(Event::Started { path, size, held, compare });
    }

    fn ended(&mut self, number: u32, ended: Option<Ended>) {
        if let (Some(Ended::Abandoned(cause)), Some(offered)) = (ended, self.table.get_mut(&number)) {
            offered.abandoned = Some(cause);
        }
    }

    /// Waits until the attributes of directories may be sent: whether they are to be.
    fn meet(&mut self) -> Result<bool, Error> {
        let Sink { answers, control, .. } = self.sink;
        match &mut self.sender.ending {
            Ending::Meeting { rendezvous, has_attributes } => {
                let all_are_there = rendezvous.arrive(control)?;
                Ok(all_are_there && *has_attributes && !self.sender.is_dry_run && self.sender.part.index == 0)
            }
            Ending::Asked if self.sender.part.index == 0 => {
                answers.wait_asked(control)?;
                Ok(true)
            }
            Ending::Asked => Ok(false),
        }
    }

    /// Sends the attributes of directories, those of what is in a directory before its own.
    fn attributes(&self, roots: &[Root]) -> Result<(), Error> {
        let part = self.sender.part;
        for step in Walk::new(roots, self.sender.filter, part, Order::DirectoriesBehind) {
            if self.sink.control.is_stopped() {
                return Err(Error::Stopped);
            }
            if let Step::Entry(found) = step {
                self.sink.writer.say(&FilesMessage::Attributes {
                    path: found.path.as_bytes().into(),
                    mode: found.status.mode,
                    modified: found.status.modified,
                })?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) {
        (self.sink.events)(event);
    }
}
