//! What an exchange asks of the program that runs it: whether to go on, how fast, and how much may be stored.

use std::num::NonZeroU64;

use wire_protocol::message::{Entry, EntryKind, FilesCode, MAX_DATA_LEN};

use crate::error::Error;

/// Holds an exchange to a rate, and ends it.
pub trait Control: Send + Sync {
    /// So many bytes of content have moved. It may sleep, for a rate.
    ///
    /// # Errors
    /// [`Error::Stopped`], which ends the exchange.
    fn moved(&self, bytes: usize) -> Result<(), Error>;

    /// An entry was named, in so many bytes, which are none of its content.
    ///
    /// # Errors
    /// [`Error::Stopped`], which ends the exchange.
    fn named(&self, bytes: usize) -> Result<(), Error> {
        let _ = bytes;
        Ok(())
    }

    /// Whether the exchange is to end.
    fn is_stopped(&self) -> bool;

    /// Most bytes of content that are sent at once: for a rate, so few that others who share it do not wait long for them.
    fn most_at_once(&self) -> usize {
        MAX_DATA_LEN
    }
}

/// Bytes that an entry takes which is listed or offered.
pub(crate) fn named_len(entry: &Entry) -> usize {
    let target = if let EntryKind::Symlink { target } = &entry.kind { target.len() } else { 0 };
    entry.path.len() + target + ENTRY_LEN
}

/// The kind, size, mode and time of an entry, about.
const ENTRY_LEN: usize = 32;

/// As much as passes in a tenth of a second at `rate` bytes per second, and a record at least.
#[must_use]
pub fn most_at_rate(rate: NonZeroU64) -> usize {
    usize::try_from(rate.get() / 10).unwrap_or(MAX_DATA_LEN).clamp(LEAST_AT_ONCE, MAX_DATA_LEN)
}

/// The payload of a record.
const LEAST_AT_ONCE: usize = 16 * 1024;

/// Neither holds to a rate nor ends anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Control for Unlimited {
    fn moved(&self, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

/// Bytes that an entry counts for in a share, whose content has `bytes`: whatever there is takes a place in the table of a file system
/// too, which empty files alone would fill.
#[must_use]
pub fn charge(bytes: u64) -> u64 {
    bytes.max(LEAST_CHARGE)
}

/// What an empty file, a directory or a link counts for.
const LEAST_CHARGE: u64 = 4096;

/// How much may be stored in a share.
pub trait Room: Send + Sync {
    /// Takes room for `bytes`.
    ///
    /// # Errors
    /// The reason why there is none, and then none is taken.
    fn reserve(&self, bytes: u64) -> Result<(), FilesCode>;

    /// Gives back what was reserved and is not used, or not any more.
    fn release(&self, bytes: u64);
}

/// As much as the disk has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unbounded;

impl Room for Unbounded {
    fn reserve(&self, _: u64) -> Result<(), FilesCode> {
        Ok(())
    }

    fn release(&self, _: u64) {}
}
