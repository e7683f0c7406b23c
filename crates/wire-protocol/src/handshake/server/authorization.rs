//! What is left once a client has proven who it is: the decision, and the ticket for the next time.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::schedule::ResumptionSecret;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use rand_core::TryCryptoRng;
use zeroize::Zeroize as _;

use super::config::{ClientAuth, Established, ServerConfig, TICKET_CHAIN_LIFETIME, TICKET_LIFETIME};
use crate::codec::encode;
use crate::error::Error;
use crate::handshake::{ChannelKeys, FinishedVerified};
use crate::message::{ClientIdentity, DeniedCode, HandshakeMessage, Mode, Ticket, TicketContent};

/// A handshake that waits for the caller to admit or deny the client, which is authenticated or anonymous by now. The
/// caller decides afresh on every connection: a ticket says who a client is, not what it may do today.
#[derive(Debug)]
pub struct Authorization {
    pub(super) config: Arc<ServerConfig>,
    pub(super) now: Duration,
    pub(super) mode: Mode,
    pub(super) server_id: KeyId,
    pub(super) full_handshake_at: Duration,
    pub(super) client: ClientIdentity,
    pub(super) keys: ChannelKeys,
    pub(super) resumption: ResumptionSecret,
    #[expect(dead_code, reason = "a proof: nobody is let in without a verified Finished")]
    pub(super) verified: FinishedVerified,
}

impl Authorization {
    /// Who the client is.
    #[must_use]
    pub fn client(&self) -> &ClientIdentity {
        &self.client
    }

    /// How the two authenticated each other.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What [`ClientAuth`] says of the client, before anything else is asked.
    ///
    /// # Errors
    /// The reason to refuse a client that has to say who it is and has not.
    pub fn check_policy(&self) -> Result<(), DeniedCode> {
        match (self.config.client_auth, &self.client) {
            (ClientAuth::Required, ClientIdentity::Anonymous) => Err(DeniedCode::ClientKeyRequired),
            _ => Ok(()),
        }
    }

    /// Lets the client in, with a ticket for the next time.
    ///
    /// A pre-shared key gets none: its handshake is as cheap as a resumption and proves more.
    ///
    /// # Errors
    /// [`Error::Denied`] when [`Authorization::check_policy`] refuses the client, which `out` then tells it;
    /// [`Error::Crypto`] when `rng` fails.
    pub fn welcome<R: TryCryptoRng + ?Sized>(
        mut self,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Established, Error> {
        if let Err(code) = self.check_policy() {
            self.deny(code, out)?;
            return Err(Error::Denied(code));
        }
        let ticket = match (&self.config.tickets, self.mode) {
            (Some(key), Mode::Rsa | Mode::Resumption) => self.mint_ticket(key, rng)?,
            _ => None,
        };
        self.keys.send(&HandshakeMessage::Welcome { ticket }, out)?;
        Ok(Established { keys: self.keys, mode: self.mode, client: self.client, limits: self.config.limits })
    }

    /// Refuses the client.
    ///
    /// # Errors
    /// [`Error::Crypto`] when sealing fails, which it does not.
    pub fn deny(mut self, code: DeniedCode, out: &mut Vec<u8>) -> Result<(), Error> {
        self.keys.send(&HandshakeMessage::Denied { code }, out)?;
        Ok(())
    }

    /// `None` where the chain ends here, so that a full handshake is due next time in any case.
    fn mint_ticket<R: TryCryptoRng + ?Sized>(
        &self,
        key: &TicketKey,
        rng: &mut R,
    ) -> Result<Option<Ticket>, Error> {
        let chain_left = (self.full_handshake_at + TICKET_CHAIN_LIFETIME).saturating_sub(self.now);
        let lifetime = TICKET_LIFETIME.min(chain_left);
        let lifetime_seconds = u32::try_from(lifetime.as_secs()).expect("a day is fewer seconds than 2^32");
        if lifetime_seconds == 0 {
            return Ok(None);
        }
        let nonce = *Secret::<16>::random(rng)?.expose();
        let mut content = TicketContent {
            server_id: self.server_id,
            secret: *self.resumption.ticket_secret(&nonce).expose(),
            issued_at: self.now.as_secs(),
            full_handshake_at: self.full_handshake_at.as_secs(),
            client: self.client.clone(),
        };
        let mut encoded = Vec::new();
        encode(&content, &mut encoded);
        let ticket = key.seal(rng, self.now, &encoded)?;
        encoded.zeroize();
        content.secret.zeroize();
        Ok(Some(Ticket { lifetime_seconds, nonce, ticket }))
    }
}
