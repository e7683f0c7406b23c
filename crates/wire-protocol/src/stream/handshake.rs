//! What both kinds of stream need for a handshake: the time of day, how much to read, what to open, and how to turn a client
//! away.

use std::time::{Duration, SystemTime};
use std::vec::Vec;

use crate::Error;
use crate::frame::{self, FrameKind};
use crate::handshake::client::ClientConfig;
use crate::message::{Abort, AbortCode, Target};

/// The frame that tells a client why there will be no channel.
#[must_use]
pub fn abort_frame(code: AbortCode) -> Vec<u8> {
    frame::write(FrameKind::Abort, &Abort { code })
}

/// Time since the Unix epoch; a clock that stands before it counts as standing at it, which no ticket survives.
pub(super) fn unix_time() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// The target that `connect` opens.
pub(super) fn target_of(config: &mut ClientConfig) -> Result<Target, Error> {
    match config.open.get_or_insert(Target::Pipe) {
        Target::Listen { .. } => {
            Err(Error::ApiMisuse("a listen target has no data: connect_channel, then open_listen"))
        }
        target => Ok(target.clone()),
    }
}

/// What is read at once while a handshake goes on.
pub(super) const HANDSHAKE_CHUNK: usize = 4096;
