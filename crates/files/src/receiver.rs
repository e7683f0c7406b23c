//! Takes in what a sender offers: answers its offers, stores what is wanted, and leaves under a final name nothing but what is whole.

mod attributes;
mod commit;
mod content;
mod exchange;
mod existing;
mod goals;
mod locked;
mod offers;
mod progress;
mod reservation;
mod space;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wire_protocol::message::{FilesMessage, MAX_ENTRIES, Part, TransferOptions};

use crate::claims::{Claims, End};
use crate::control::{Control, Room, Unbounded};
use crate::directory::Directory;
use crate::error::Error;
use crate::event::{Event, Side};
use crate::framing::{Input, MessageReader, MessageWriter, Output};
use crate::keep_alive::KeepAlive;
use crate::parts::Rendezvous;
use crate::path::RelativePath;
use crate::receiver::commit::Group;
use crate::receiver::exchange::{Exchange, into_path};
use crate::receiver::goals::Goals;

pub use crate::receiver::exchange::OfferFilter;
pub use crate::receiver::goals::Placed;
pub use crate::receiver::locked::PATIENCE;

/// The request that a receiver is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A Put: the sender knows the options.
    Put,
    /// A Get: the sender knows no options, and is asked for the attributes of directories.
    Get,
}

/// A receiver before it runs: the destination, and how it stores.
pub struct Receiver {
    /// Nothing is reached but beneath this one.
    pub directory: Directory,
    /// The destination beneath it, which need not exist.
    pub base: RelativePath,
    /// What the destination is.
    pub placed: Placed,
    /// How to store.
    pub options: TransferOptions,
    /// The request.
    pub role: Role,
    /// The files that come on this stream.
    pub part: Part,
    /// Room for what is stored.
    pub room: Arc<dyn Room>,
    /// The names that transfers write to.
    pub claims: Claims,
    /// Ends this transfer where a later one of the same owner takes a name over from it: what wakes its thread, if anything does.
    pub end: Option<End>,
    /// How long it waits, in all, for transfers of other processes that write the same files for the same sender.
    pub patience: Duration,
    /// Stands for the sender: partial files of different owners have different names.
    pub owner: Box<[u8]>,
    /// The first names that paths of offers may have; `None` where there may be any.
    pub roots: Option<BTreeSet<Box<[u8]>>>,
    /// Declines offers.
    pub filter: Option<OfferFilter>,
    /// Where the content of a single file goes in place of a file.
    pub sink: Option<Box<dyn Write + Send>>,
    /// Where the streams of a Get meet.
    pub rendezvous: Rendezvous,
    /// Whether directories that were there before keep their attributes.
    pub only_made: bool,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("base", &self.base)
            .field("placed", &self.placed)
            .field("options", &self.options)
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// One for a Put on one stream, without limits.
    #[must_use]
    pub fn new(
        directory: Directory,
        base: RelativePath,
        placed: Placed,
        options: TransferOptions,
        owner: &[u8],
    ) -> Self {
        Self {
            directory,
            base,
            placed,
            options,
            role: Role::Put,
            part: Part::WHOLE,
            room: Arc::new(Unbounded),
            claims: Claims::new(),
            end: None,
            patience: PATIENCE,
            owner: owner.into(),
            roots: None,
            filter: None,
            sink: None,
            rendezvous: Rendezvous::alone(),
            only_made: false,
        }
    }

    /// Receives, from behind Ready until all is on disk and both sides have said Finish.
    ///
    /// # Errors
    /// What ends the exchange before that: what has come until then can be gone on with.
    pub fn run<R: Input, W: Output + Send + 'static>(
        self,
        reader: &mut MessageReader<R>,
        writer: &MessageWriter<W>,
        control: &dyn Control,
        events: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let keep_alive = KeepAlive::begin(writer.clone())?;
        let made_above = self.claims.made_by(&self.owner);
        let makes = !self.options.dry_run;
        let room = Arc::clone(&self.room);
        let goals = Goals::new(self.directory, self.base, self.placed, makes, made_above, room);
        let mut exchange = Exchange {
            writer,
            control,
            events,
            goals,
            options: self.options,
            tells_dry_run: self.role == Role::Put,
            room: self.room,
            claims: self.claims.of(&self.owner, self.end),
            owner: self.owner,
            roots: self.roots,
            filter: self.filter,
            declined: Vec::new(),
            sink: self.sink,
            is_sink_taken: false,
            only_made: self.only_made,
            tells_directories: self.part.index == 0,
            offers: 0,
            has_all: false,
            wanted: HashMap::new(),
            group: Group::new(self.options.existing),
            patience: self.patience,
        };
        let asks = self.role == Role::Get && self.part.index == 0;
        let received = receive(&mut exchange, reader, asks, self.rendezvous);
        if received.is_err() {
            // What is whole gets its name, though nobody may learn it any more.
            let _ = exchange.commit().and_then(|()| exchange.writer.flush());
        }
        drop(keep_alive);
        received
    }
}

/// Takes messages until the sender's Finish.
fn receive<R: Input, W: Output>(
    exchange: &mut Exchange<'_, W>,
    reader: &mut MessageReader<R>,
    asks: bool,
    mut rendezvous: Rendezvous,
) -> Result<(), Error> {
    let mut unreadable = 0;
    let mut has_met = false;
    loop {
        if !reader.has_received()? {
            exchange.commit()?;
            exchange.writer.flush()?;
        }
        if exchange.has_all && exchange.wanted.is_empty() && !has_met {
            exchange.commit()?;
            exchange.writer.flush()?;
            has_met = true;
            // Where another stream has failed, that one says so.
            rendezvous.arrive(exchange.control)?;
            if asks {
                exchange.say(&FilesMessage::AskAttributes)?;
                exchange.writer.flush()?;
            }
        }
        let Some(message) = reader.next()? else {
            return Err(Error::Protocol("the stream ends before its Finish"));
        };
        if exchange.is_stopped() {
            return Err(Error::Stopped);
        }
        match message {
            FilesMessage::Offer { entry } => exchange.offer(entry)?,
            FilesMessage::Unreadable { path, code } => {
                unreadable += 1;
                if exchange.has_all || unreadable > MAX_ENTRIES {
                    return Err(Error::Protocol("there are more offers than there may be"));
                }
                let path: Arc<PathBuf> = Arc::new(into_path(path.into_vec()));
                (exchange.events)(Event::Failed { path, size: 0, code, system: None, side: Side::Sender });
            }
            FilesMessage::OffersEnd if !exchange.has_all => {
                exchange.has_all = true;
                (exchange.events)(Event::AllFound);
            }
            FilesMessage::Begin { number } => exchange.content(reader, number)?,
            FilesMessage::Attributes { path, mode, modified } => {
                exchange.attributes(&path, mode, modified)?;
            }
            FilesMessage::Finish if exchange.has_all && exchange.unresolved() == 0 => {
                exchange.goals.give_back();
                exchange.say(&FilesMessage::Finish)?;
                return exchange.writer.flush();
            }
            _ => return Err(Error::Protocol("a message comes where it may not")),
        }
    }
}
