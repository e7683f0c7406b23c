//! The answers of a receiver: taken in as they come, checked, and kept for the sender, which has files to read meanwhile.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use wire_protocol::message::{FilesCode, FilesMessage, HASH_LEN, MAX_HASHES, MAX_NAME_LEN};

use crate::control::Control;
use crate::error::Error;
use crate::framing::{Input, MessageReader};
use crate::parts::STOP_INTERVAL;

/// What two threads know of the answers: one reads, the other one sends.
#[derive(Debug)]
pub(crate) struct Answers {
    state: Mutex<State>,
    changed: Condvar,
    is_dry_run: bool,
}

#[derive(Debug, Default)]
struct State {
    awaited: HashMap<u32, Awaited>,
    wants: VecDeque<Want>,
    resolved: Vec<(u32, Resolution)>,
    /// The Want whose hashes are coming.
    comparing: Option<Want>,
    /// Hashes that are kept.
    kept: usize,
    phase: Phase,
    ready: Option<bool>,
    failed: Option<Error>,
    is_over: bool,
    /// Whether the thread that sends waits for a change.
    is_awaited: bool,
}

/// An offer that has not been answered to the end.
#[derive(Debug)]
struct Awaited {
    /// The chunks of a file, 0 where they are not known; `None` for what is no file.
    chunks: Option<u32>,
    state: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Offered,
    Wanted,
    Sent,
    Abandoned,
}

/// What the other side may say, apart from answers to offers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Ready or Failed, before anything else.
    Beginning,
    #[default]
    Answering,
    /// It has refused all.
    Refused,
    /// AskAttributes, once all offers are answered.
    MayAsk,
    HasAsked,
    /// Finish.
    MayFinish,
    Finished,
}

/// Content that the receiver wants.
#[derive(Debug)]
pub(crate) struct Want {
    /// The number of the offer.
    pub(crate) number: u32,
    /// Chunks that it has.
    pub(crate) held: u32,
    /// Chunks behind these that it may have.
    pub(crate) compare: u32,
    /// Their hashes. Where they are fewer, what is behind these is sent.
    pub(crate) hashes: Vec<[u8; HASH_LEN]>,
    /// Hashes that have come.
    received: u32,
}

/// How an offer has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Have {
        sha256: Option<[u8; HASH_LEN]>,
    },
    Done {
        sha256: Option<[u8; HASH_LEN]>,
        stored_as: Option<Box<[u8]>>,
    },
    Rejected {
        code: FilesCode,
    },
    /// In a dry run: it would be sent, but for so many chunks.
    Would {
        held: u32,
    },
}

/// What there is to do for the sender.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) resolved: Vec<(u32, Resolution)>,
    pub(crate) want: Option<Want>,
}

/// Most answers that are taken in before the thread that sends learns of them.
const MOST_UNTOLD: u32 = 64;
/// Most hashes that are kept, of all Wants together: 8 MiB. What is beyond them is sent, whether the receiver has it or not.
const MAX_KEPT: usize = 262_144;

impl Answers {
    /// With `expects_ready`, the first one has to be Ready or Failed.
    pub(crate) fn new(expects_ready: bool, is_dry_run: bool) -> Self {
        let phase = if expects_ready { Phase::Beginning } else { Phase::Answering };
        let state = Mutex::new(State { phase, ..State::default() });
        Self { state, changed: Condvar::new(), is_dry_run }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what comes until the end of the stream. What is wrong about it is told to the sender, whose end it is.
    pub(crate) fn read<R: Input>(&self, reader: &mut MessageReader<R>) {
        let mut untold = 0;
        loop {
            let message = reader.next();
            // What comes right behind is taken in first: to wake the other thread costs more than that.
            let goes_on = untold < MOST_UNTOLD
                && matches!(message, Ok(Some(_)))
                && reader.has_received().unwrap_or(false);
            let mut state = self.lock();
            let end = match message {
                Ok(Some(message)) => state.take_in(message, self.is_dry_run).err(),
                Ok(None) => {
                    state.is_over = true;
                    match (state.phase, &state.failed) {
                        (Phase::Finished, _) | (_, Some(_)) => None,
                        _ => Some(Error::Channel(std::io::ErrorKind::UnexpectedEof.into())),
                    }
                }
                Err(error) => Some(error),
            };
            // That it was refused is followed by the end of the stream.
            let has_ended =
                state.is_over || end.as_ref().is_some_and(|error| !matches!(error, Error::Refused(_)));
            state.is_over = has_ended;
            if let Some(error) = end {
                state.failed.get_or_insert(error);
            }
            let is_awaited = state.is_awaited;
            drop(state);
            untold += 1;
            if has_ended || !goes_on {
                untold = 0;
                // To wake nobody takes a call to the system as well.
                if is_awaited {
                    self.changed.notify_all();
                }
            }
            if has_ended {
                return;
            }
        }
    }

    /// An offer is about to be made; of a file with so many chunks, 0 where they are not known.
    pub(crate) fn offered(&self, number: u32, chunks: Option<u32>) {
        self.lock().awaited.insert(number, Awaited { chunks, state: Content::Offered });
    }

    /// The content of a file is about to end, whole or not.
    pub(crate) fn sent(&self, number: u32, is_whole: bool) {
        if let Some(awaited) = self.lock().awaited.get_mut(&number) {
            awaited.state = if is_whole { Content::Sent } else { Content::Abandoned };
        }
    }

    /// Why the receiver does not want what it wanted, where that is so.
    ///
    /// # Errors
    /// What has ended the exchange.
    pub(crate) fn rejected(&self, number: u32) -> Result<Option<FilesCode>, Error> {
        let mut state = self.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.awaited.contains_key(&number) {
            return Ok(None);
        }
        let rejected = state.resolved.iter().rev().find(|(resolved, _)| *resolved == number);
        Ok(Some(match rejected {
            Some((_, Resolution::Rejected { code })) => *code,
            _ => FilesCode::Io,
        }))
    }

    /// What there is to do. With `waits`, waits until there is something.
    ///
    /// # Errors
    /// What has ended the exchange.
    pub(crate) fn turn(&self, waits: bool, control: &dyn Control) -> Result<Turn, Error> {
        let mut state = self.lock();
        loop {
            state.check(control)?;
            if !waits || !state.resolved.is_empty() || !state.wants.is_empty() {
                let resolved = mem::take(&mut state.resolved);
                let want = state.wants.pop_front();
                if let Some(want) = &want {
                    state.kept -= want.hashes.len();
                }
                return Ok(Turn { resolved, want });
            }
            state = self.wait_for_change(state);
        }
    }

    /// Waits for Ready: whether the destination is a directory.
    ///
    /// # Errors
    /// As [`Answers::turn`].
    pub(crate) fn wait_ready(&self, control: &dyn Control) -> Result<bool, Error> {
        self.wait(control, |state| state.ready)
    }

    /// The last offer has been made, and AskAttributes may come behind the answers.
    pub(crate) fn expect_ask(&self) {
        self.lock().phase = Phase::MayAsk;
    }

    /// Waits for AskAttributes.
    ///
    /// # Errors
    /// As [`Answers::turn`].
    pub(crate) fn wait_asked(&self, control: &dyn Control) -> Result<(), Error> {
        self.wait(control, |state| (state.phase == Phase::HasAsked).then_some(()))
    }

    /// Finish is about to be said, and may be answered.
    pub(crate) fn expect_finish(&self) {
        self.lock().phase = Phase::MayFinish;
    }

    /// Waits for the end of the stream, behind Finish.
    ///
    /// # Errors
    /// As [`Answers::turn`].
    pub(crate) fn wait_finished(&self, control: &dyn Control) -> Result<(), Error> {
        self.wait(control, |state| (state.phase == Phase::Finished && state.is_over).then_some(()))
    }

    fn wait<T>(&self, control: &dyn Control, found: impl Fn(&State) -> Option<T>) -> Result<T, Error> {
        let mut state = self.lock();
        loop {
            state.check(control)?;
            if let Some(found) = found(&state) {
                return Ok(found);
            }
            state = self.wait_for_change(state);
        }
    }

    fn wait_for_change<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.is_awaited = true;
        state = self.changed.wait_timeout(state, STOP_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        state.is_awaited = false;
        state
    }
}

impl State {
    fn check(&mut self, control: &dyn Control) -> Result<(), Error> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if control.is_stopped() { Err(Error::Stopped) } else { Ok(()) }
    }

    fn take_in(&mut self, message: FilesMessage, is_dry_run: bool) -> Result<(), Error> {
        if self.comparing.is_some() && !matches!(message, FilesMessage::Hashes { .. }) {
            return Err(Error::Protocol("hashes that were announced have not come"));
        }
        if self.phase == Phase::Beginning {
            return match message {
                FilesMessage::Ready { is_directory, .. } => {
                    self.ready = Some(is_directory);
                    self.phase = Phase::Answering;
                    Ok(())
                }
                FilesMessage::Failed { code } => {
                    self.phase = Phase::Refused;
                    Err(Error::Refused(code))
                }
                _ => Err(Error::Protocol("it answers before it is ready")),
            };
        }
        match message {
            FilesMessage::Have { number, sha256 } => {
                let awaited = self.take(number)?;
                if awaited.state != Content::Offered {
                    return Err(Error::Protocol("it has what it wanted"));
                }
                self.resolved.push((number, Resolution::Have { sha256 }));
            }
            FilesMessage::Done { number, sha256, stored_as } => {
                let awaited = self.take(number)?;
                if stored_as.as_ref().is_some_and(|name| name.is_empty() || name.len() > MAX_NAME_LEN) {
                    return Err(Error::Protocol("it stores something under what is no name"));
                }
                let is_due = match awaited.state {
                    Content::Offered => awaited.chunks.is_none(),
                    state => state == Content::Sent,
                };
                if !is_due {
                    return Err(Error::Protocol("something is stored that was not sent"));
                }
                self.resolved.push((number, Resolution::Done { sha256, stored_as }));
            }
            FilesMessage::Rejected { number, code } => {
                self.take(number)?;
                self.resolved.push((number, Resolution::Rejected { code }));
            }
            FilesMessage::Want { number, held, compare } => self.want(number, held, compare, is_dry_run)?,
            FilesMessage::Hashes { hashes } => self.compare(&hashes)?,
            FilesMessage::AskAttributes if self.phase == Phase::MayAsk && self.awaited.is_empty() => {
                self.phase = Phase::HasAsked;
            }
            FilesMessage::Finish if self.phase == Phase::MayFinish => self.phase = Phase::Finished,
            _ => return Err(Error::Protocol("a receiver does not say this now")),
        }
        Ok(())
    }

    fn take(&mut self, number: u32) -> Result<Awaited, Error> {
        self.awaited.remove(&number).ok_or(Error::Protocol("it answers what was not offered"))
    }

    fn want(&mut self, number: u32, held: u32, compare: u32, is_dry_run: bool) -> Result<(), Error> {
        let awaited =
            self.awaited.get_mut(&number).ok_or(Error::Protocol("it wants what was not offered"))?;
        if awaited.state != Content::Offered {
            return Err(Error::Protocol("it wants something twice"));
        }
        let chunks = awaited.chunks.ok_or(Error::Protocol("it wants the content of what has none"))?;
        if u64::from(held) + u64::from(compare) > chunks.into() || (is_dry_run && compare > 0) {
            return Err(Error::Protocol("it has more of a file than there is"));
        }
        if is_dry_run {
            self.awaited.remove(&number);
            self.resolved.push((number, Resolution::Would { held }));
            return Ok(());
        }
        awaited.state = Content::Wanted;
        let want = Want { number, held, compare, hashes: Vec::new(), received: 0 };
        if compare == 0 {
            self.wants.push_back(want);
        } else {
            self.comparing = Some(want);
        }
        Ok(())
    }

    fn compare(&mut self, hashes: &[[u8; HASH_LEN]]) -> Result<(), Error> {
        let want =
            self.comparing.as_mut().ok_or(Error::Protocol("it tells hashes that were not announced"))?;
        let count = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        if hashes.is_empty() || hashes.len() > MAX_HASHES || count > want.compare - want.received {
            return Err(Error::Protocol("it tells hashes that were not announced"));
        }
        want.received += count;
        let room = MAX_KEPT - self.kept;
        // Only the first ones in a row are of use.
        if want.hashes.len() + hashes.len() == usize::try_from(want.received).unwrap_or(0) {
            let kept = &hashes[..hashes.len().min(room)];
            self.kept += kept.len();
            want.hashes.extend_from_slice(kept);
        }
        if want.received == want.compare {
            self.wants.extend(self.comparing.take());
        }
        Ok(())
    }
}
