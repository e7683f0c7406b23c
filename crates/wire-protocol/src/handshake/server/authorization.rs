//! What is left once a client has proven who it is: the decision, and the ticket for the next time.

use alloc::boxed::Box;
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
use super::invite::InviteAttempt;
use crate::codec::encode;
use crate::error::Error;
use crate::handshake::{ChannelKeys, Exporter, FinishedVerified};
use crate::message::{
    ClientIdentity, DeniedCode, HandshakeMessage, Joined, MAX_GRANT_LEN, MAX_JOINED_NAME_LEN, Mode, Ticket,
    TicketContent,
};

/// A handshake that waits for the caller to admit or deny the client, which is authenticated or anonymous by now. The
/// caller decides afresh on every connection: a ticket says who a client is, not what it may do today.
#[derive(Debug)]
pub struct Authorization {
    pub(super) config: Arc<ServerConfig>,
    pub(super) now: Duration,
    pub(super) mode: Mode,
    pub(super) server_id: KeyId,
    pub(super) full_handshake_at: Duration,
    pub(super) asks_reason: bool,
    pub(super) client: ClientIdentity,
    pub(super) invite: Option<Box<InviteAttempt>>,
    pub(super) keys: ChannelKeys,
    pub(super) resumption: ResumptionSecret,
    pub(super) exporter: Exporter,
    #[expect(dead_code, reason = "a proof: nobody is let in without a verified Finished")]
    pub(super) verified: FinishedVerified,
}

impl Authorization {
    /// Who the client is.
    #[must_use]
    pub fn client(&self) -> &ClientIdentity {
        &self.client
    }

    /// The invite that the client wants to use. It is to be answered with [`Authorization::join`] or [`Authorization::deny`], and
    /// is of no account where the client is known already.
    #[must_use]
    pub fn invite(&self) -> Option<&InviteAttempt> {
        self.invite.as_deref()
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
    /// [`Error::ApiMisuse`] for a client with an invite; [`Error::Crypto`] when `rng` fails.
    pub fn welcome<R: TryCryptoRng + ?Sized>(
        self,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Established, Error> {
        if let Err(code) = self.check_policy() {
            self.deny(code, out)?;
            return Err(Error::Denied(code));
        }
        if self.invite.is_some() {
            return Err(Error::ApiMisuse("a client with an invite is to join, or to be denied"));
        }
        let ticket = self.ticket(rng)?;
        self.establish(&HandshakeMessage::Welcome { ticket }, out)
    }

    /// Lets in a client with an invite, whose key is on the server's list by now. Tells it what has come of the invite, with a
    /// ticket for the next time.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] for a client without an invite, and for a name or a grant that is too long; [`Error::Crypto`] when
    /// `rng` fails.
    pub fn join<R: TryCryptoRng + ?Sized>(
        self,
        joined: Joined,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Established, Error> {
        if self.invite.is_none() {
            return Err(Error::ApiMisuse("a client without an invite cannot join"));
        }
        if joined.name.len() > MAX_JOINED_NAME_LEN || joined.grant.len() > MAX_GRANT_LEN {
            return Err(Error::ApiMisuse("the name or the grant is too long for Joined"));
        }
        let ticket = self.ticket(rng)?;
        self.establish(&HandshakeMessage::Joined { joined, ticket }, out)
    }

    fn establish(mut self, message: &HandshakeMessage, out: &mut Vec<u8>) -> Result<Established, Error> {
        self.keys.send(message, out)?;
        let gave_ticket = matches!(
            message,
            HandshakeMessage::Welcome { ticket: Some(_) } | HandshakeMessage::Joined { ticket: Some(_), .. }
        );
        let Self { keys, mode, client, config, exporter, .. } = self;
        Ok(Established { keys, mode, client, limits: config.limits, gave_ticket, exporter })
    }

    /// Refuses the client, which learns no more than [`DeniedCode::without_reason`] where it has not asked for the reason, or
    /// wants to use an invite.
    ///
    /// # Errors
    /// [`Error::Crypto`] when sealing fails, which it does not.
    pub fn deny(mut self, code: DeniedCode, out: &mut Vec<u8>) -> Result<(), Error> {
        let code = if self.asks_reason && self.invite.is_none() { code } else { code.without_reason() };
        self.keys.send(&HandshakeMessage::Denied { code }, out)?;
        Ok(())
    }

    /// The ticket that the client gets, if it gets one.
    fn ticket<R: TryCryptoRng + ?Sized>(&self, rng: &mut R) -> Result<Option<Ticket>, Error> {
        match (&self.config.tickets, self.mode) {
            (Some(key), Mode::Rsa | Mode::Resumption) => self.mint_ticket(key, rng),
            _ => Ok(None),
        }
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
