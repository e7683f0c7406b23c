//! The content of a file as it is sent: chunk by chunk, straight from the file into the memory where records are sealed.

use std::io::{self, IoSliceMut};

use wire_protocol::message::{FilesCode, FilesMessage, HASH_LEN, MAX_DATA_LEN};

use crate::answers::{Answers, Want};
use crate::cause::Cause;
use crate::chunks::{ChunkHasher, FileHasher, chunk_len};
use crate::control::Control;
use crate::error::Error;
use crate::event::Event;
use crate::framing::{MessageWriter, Output, Sent};
use crate::source::{Segment, SourceError, SourceFile, StreamSource, into_u64};

/// Why the content of a file has ended with Abandon, and not with End.
#[derive(Debug)]
pub(crate) enum Ended {
    /// There is a reason on this side.
    Abandoned(Cause),
    /// The receiver does not want it any more.
    Unwanted(FilesCode),
}

/// Where content goes.
pub(crate) struct Sink<'a, W> {
    pub(crate) writer: &'a MessageWriter<W>,
    pub(crate) answers: &'a Answers,
    pub(crate) control: &'a dyn Control,
    pub(crate) events: &'a mut dyn FnMut(Event),
    pub(crate) zeros: Zeros,
}

/// The hash of a chunk of zeros, kept since a file with large holes has many of these.
#[derive(Debug, Default)]
pub(crate) struct Zeros(Option<(u64, [u8; HASH_LEN])>);

impl Zeros {
    fn hash(&mut self, length: u64, control: &dyn Control) -> Result<[u8; HASH_LEN], Error> {
        match self.0 {
            Some((known, hash)) if known == length => Ok(hash),
            _ => {
                let mut hasher = ChunkHasher::new();
                hasher.update_hole(length, control)?;
                let hash = hasher.finish();
                self.0 = Some((length, hash));
                Ok(hash)
            }
        }
    }
}

/// Content up to this length is copied, together with the messages around it.
const SMALL: usize = 16 * 1024;

/// Why the content does not go on.
enum Stop {
    /// The content ends with Abandon.
    Abandon(Ended),
    /// So does the exchange.
    Exchange(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Exchange(error)
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Changed => changed(),
            SourceError::Io(error) => unreadable(&error),
            SourceError::Ended(error) => Self::Exchange(error),
        }
    }
}

fn changed() -> Stop {
    Stop::Abandon(Ended::Abandoned(FilesCode::Changed.into()))
}

fn unreadable(error: &io::Error) -> Stop {
    Stop::Abandon(Ended::Abandoned(error.into()))
}

impl<W: Output> Sink<'_, W> {
    /// Sends a file from the first chunk that the receiver lacks: all between Begin and End, or Abandon.
    ///
    /// # Errors
    /// What ends the exchange.
    pub(crate) fn send_file(
        &mut self,
        file: io::Result<SourceFile>,
        identity: [u8; HASH_LEN],
        sha256: Option<[u8; HASH_LEN]>,
        want: &Want,
    ) -> Result<Option<Ended>, Error> {
        self.writer.say(&FilesMessage::Begin { number: want.number })?;
        let sent = file.map_err(|error| unreadable(&error)).and_then(|mut file| {
            if file.identity() != identity {
                return Err(changed());
            }
            let hash = self.chunks(&mut file, want)?;
            if file.is_unchanged() { Ok(hash) } else { Err(changed()) }
        });
        self.end(want.number, sent, sha256)
    }

    /// Ends content, in one or the other way.
    fn end(
        &mut self,
        number: u32,
        sent: Result<[u8; HASH_LEN], Stop>,
        sha256: Option<[u8; HASH_LEN]>,
    ) -> Result<Option<Ended>, Error> {
        match sent {
            Ok(hash) => {
                self.answers.sent(number, true);
                self.writer.say(&FilesMessage::End { hash, sha256 })?;
                Ok(None)
            }
            Err(Stop::Abandon(ended)) => {
                self.answers.sent(number, false);
                let (Ended::Abandoned(Cause { code, .. }) | Ended::Unwanted(code)) = ended;
                self.writer.say(&FilesMessage::Abandon { code })?;
                Ok(Some(ended))
            }
            Err(Stop::Exchange(error)) => Err(error),
        }
    }

    fn chunks(&mut self, file: &mut SourceFile, want: &Want) -> Result<[u8; HASH_LEN], Stop> {
        let size = file.size();
        let chunk = chunk_len(Some(size));
        let mut file_hash = FileHasher::new(size, want.held);
        let mut offset = u64::from(want.held).saturating_mul(chunk);
        let mut known = want.hashes.iter();
        while offset < size {
            let end = size.min(offset.saturating_add(chunk));
            let hash = match known.next() {
                Some(theirs) if self.hash(file, offset, end)? == *theirs => {
                    self.writer.say(&FilesMessage::Same)?;
                    (self.events)(Event::Advanced { bytes: end - offset, is_moved: false });
                    *theirs
                }
                _ => self.chunk(file, offset, end, want.number)?,
            };
            file_hash.add(&hash);
            offset = end;
        }
        Ok(file_hash.finish())
    }

    /// The hash of a chunk, which is read for it.
    fn hash(&mut self, file: &mut SourceFile, offset: u64, end: u64) -> Result<[u8; HASH_LEN], Stop> {
        if file.segment(offset, end) == Segment::Hole(end - offset) {
            return Ok(self.zeros.hash(end - offset, self.control)?);
        }
        let mut hasher = ChunkHasher::new();
        file.read_all(offset, end, self.control, |bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    /// Sends a chunk.
    fn chunk(
        &mut self,
        file: &mut SourceFile,
        start: u64,
        end: u64,
        number: u32,
    ) -> Result<[u8; HASH_LEN], Stop> {
        let mut hasher = ChunkHasher::new();
        let mut offset = start;
        let mut is_hole = false;
        while offset < end {
            if let Some(code) = self.answers.rejected(number)? {
                return Err(Stop::Abandon(Ended::Unwanted(code)));
            }
            let segment = file.segment(offset, end);
            let length = match segment {
                Segment::Hole(length) => {
                    self.writer.say(&FilesMessage::Hole { length })?;
                    is_hole = length == end - start;
                    if !is_hole {
                        hasher.update_hole(length, self.control)?;
                    }
                    length
                }
                Segment::Data(length) => {
                    let most = self.control.most_at_once().clamp(1, MAX_DATA_LEN);
                    let length = length.min(into_u64(most));
                    self.data(file, offset, usize::try_from(length).unwrap_or(MAX_DATA_LEN), &mut hasher)?;
                    length
                }
            };
            let is_moved = matches!(segment, Segment::Data(_));
            (self.events)(Event::Advanced { bytes: length, is_moved });
            if is_moved {
                self.control.moved(usize::try_from(length).unwrap_or(usize::MAX))?;
            } else if self.control.is_stopped() {
                return Err(Error::Stopped.into());
            }
            offset += length;
        }
        let hash = if is_hole { self.zeros.hash(end - start, self.control)? } else { hasher.finish() };
        self.writer.say(&FilesMessage::ChunkEnd { hash })?;
        Ok(hash)
    }

    /// Sends a piece of a chunk.
    fn data(
        &mut self,
        file: &SourceFile,
        offset: u64,
        length: usize,
        hasher: &mut ChunkHasher,
    ) -> Result<(), Stop> {
        if length <= SMALL {
            let mut buffer = [0; SMALL];
            let buffer = &mut buffer[..length];
            let read = file.read(buffer, offset).map_err(|error| unreadable(&error))?;
            if read < length {
                return Err(changed());
            }
            hasher.update(buffer);
            return Ok(self.writer.say_content(buffer)?);
        }
        let mut position = offset;
        let announced = u32::try_from(length).unwrap_or(u32::MAX);
        let sent = self.writer.say_content_with(announced, |places| {
            let filled = file.read_vectored(places, position)?;
            position += into_u64(filled);
            let mut left = filled;
            for place in places.iter() {
                let length = place.len().min(left);
                hasher.update(&place[..length]);
                left -= length;
            }
            Ok(filled)
        })?;
        match sent {
            Sent::All => Ok(()),
            Sent::SourceFailed { missing, error } => {
                // What was announced has to come, whatever it is.
                self.writer.fill_up(missing, |places| {
                    places.iter_mut().for_each(|place| place.fill(0));
                    Ok(places.iter().map(|place| place.len()).sum())
                })?;
                match error.kind() {
                    io::ErrorKind::UnexpectedEof => Err(changed()),
                    _ => Err(unreadable(&error)),
                }
            }
        }
    }

    /// Sends what a stream gives, to its end: all between Begin and End, or Abandon.
    ///
    /// # Errors
    /// What ends the exchange.
    pub(crate) fn send_stream(
        &mut self,
        stream: &mut StreamSource<'_>,
        number: u32,
    ) -> Result<Option<Ended>, Error> {
        self.writer.say(&FilesMessage::Begin { number })?;
        let sent = self.stream_chunks(stream, number);
        self.end(number, sent, stream.sha256())
    }

    fn stream_chunks(&mut self, stream: &mut StreamSource<'_>, number: u32) -> Result<[u8; HASH_LEN], Stop> {
        let chunk = usize::try_from(chunk_len(None)).unwrap_or(MAX_DATA_LEN);
        let mut hashes = Vec::new();
        let mut hasher = ChunkHasher::new();
        let mut left = chunk;
        loop {
            if let Some(code) = self.answers.rejected(number)? {
                return Err(Stop::Abandon(Ended::Unwanted(code)));
            }
            // The next piece tells whether there is another chunk at all.
            let piece = stream
                .next(left.min(self.control.most_at_once().max(1)))
                .map_err(|error| unreadable(&error))?;
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            let mut rest = piece;
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            self.writer.say_content_with(length, |places| Ok(copy(&mut rest, places)))?;
            let length = piece.len();
            (self.events)(Event::Advanced { bytes: into_u64(length), is_moved: true });
            self.control.moved(length)?;
            left -= length;
            if left == 0 {
                hashes.push(self.end_chunk(&mut hasher)?);
                left = chunk;
            }
        }
        if left < chunk {
            hashes.push(self.end_chunk(&mut hasher)?);
        }
        let mut file_hash = FileHasher::new(stream.length, 0);
        hashes.iter().for_each(|hash| file_hash.add(hash));
        Ok(file_hash.finish())
    }

    fn end_chunk(&mut self, hasher: &mut ChunkHasher) -> Result<[u8; HASH_LEN], Stop> {
        let hash = std::mem::replace(hasher, ChunkHasher::new()).finish();
        self.writer.say(&FilesMessage::ChunkEnd { hash })?;
        Ok(hash)
    }
}

/// Fills places with the beginning of `rest`.
fn copy(rest: &mut &[u8], places: &mut [IoSliceMut<'_>]) -> usize {
    let mut copied = 0;
    for place in places {
        let (now, later) = rest.split_at(place.len().min(rest.len()));
        place[..now.len()].copy_from_slice(now);
        *rest = later;
        copied += now.len();
    }
    copied
}
