//! A server's key as it comes over the wire: not authenticated, so that only a pin can make it trusted.

use alloc::vec::Vec;

use crypto_core::identity::PublicKey;

use super::config::ExpectedServer;
use crate::codec::decode;
use crate::error::{Error, PeerMisbehaved};
use crate::frame::{self, FrameKind};
#[cfg(doc)]
use crate::handshake::Handshake;
use crate::message::{Abort, KeyOffer};

/// Asks for a server's key without trusting it: the first half of trust on first use. The handshake can follow
/// on the same connection.
#[derive(Debug)]
pub struct KeyFetch(());

impl KeyFetch {
    /// Appends the request to `out`.
    #[must_use]
    pub fn start(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&frame::write_empty(FrameKind::KeyRequest));
        Self(())
    }

    /// As [`Handshake::message_len`].
    ///
    /// # Errors
    /// As there.
    pub fn message_len(&self, prefix: &[u8]) -> Result<Option<usize>, Error> {
        frame::frame_len_among(prefix, &KEY_OFFERS)
    }

    /// Takes the answer: a key that nobody has vouched for.
    ///
    /// # Errors
    /// Whatever ends the attempt.
    pub fn handle(self, message: &[u8]) -> Result<PublicKey, Error> {
        parse_key_offer(message)
    }
}

/// What may come in answer to a KeyRequest.
pub(super) const KEY_OFFERS: [FrameKind; 2] = [FrameKind::KeyOffer, FrameKind::Abort];

pub(super) fn parse_key_offer(message: &[u8]) -> Result<PublicKey, Error> {
    match frame::parse(message)? {
        (FrameKind::KeyOffer, body) => {
            let offer: KeyOffer = decode(body)?;
            Ok(PublicKey::from_spki_der(&offer.spki)?)
        }
        (FrameKind::Abort, body) => Err(Error::Aborted(decode::<Abort>(body)?.code)),
        _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
    }
}

/// Takes an offered key where it is the pinned one. The offer itself is not authenticated: only the pin is.
pub(super) fn accept_key(server: &mut ExpectedServer, offered: PublicKey) -> Result<(), Error> {
    match server {
        ExpectedServer::Key { id, key, .. } if *id == offered.id() => {
            *key = Some(offered);
            Ok(())
        }
        ExpectedServer::Key { id, .. } => {
            Err(Error::ServerKeyMismatch { expected: *id, offered: offered.id() })
        }
        ExpectedServer::Psk(_) => Err(PeerMisbehaved::UnexpectedMessage.into()),
    }
}
