//! What both kinds of stream need for a handshake: the time of day, how much to read, what to open, what an end means, and how
//! to turn a client away.

use std::io;
use std::time::{Duration, SystemTime};
use std::vec::Vec;

use super::error::closed_during_handshake;
use crate::Error;
use crate::frame::{self, FrameKind};
use crate::handshake::Handshake;
use crate::handshake::client::ClientConfig;
use crate::handshake::server::Authorization;
use crate::message::{Abort, AbortCode, ClientIdentity, DeniedCode, Target};

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

/// What is to be said to a client where `authorize` decides, and nobody takes invites.
pub(super) fn judge(
    authorization: &Authorization,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> Result<(), DeniedCode> {
    authorization.check_policy()?;
    match authorization.invite() {
        Some(_) => Err(DeniedCode::NotAllowed),
        None => authorize(authorization.client()),
    }
}

/// What it means that the connection has ended while `handshake` waits for a message of which `has_begun` says whether a part
/// is there.
pub(super) fn ended<H: Handshake>(handshake: &H, has_begun: bool) -> io::Error {
    match handshake.when_closed() {
        Some(error) => error.into(),
        None => closed_during_handshake(handshake.peer_may_leave() && !has_begun),
    }
}

/// As [`ended`], where reading has failed: a connection that was reset has been closed, too.
pub(super) fn failed<H: Handshake>(handshake: &H, error: io::Error) -> io::Error {
    match (error.kind(), handshake.when_closed()) {
        (io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted, Some(closed)) => closed.into(),
        _ => error,
    }
}

/// What is read at once while a handshake goes on.
pub(super) const HANDSHAKE_CHUNK: usize = 4096;
