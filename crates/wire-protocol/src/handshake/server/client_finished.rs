//! The end of the client's flight, and what a server holds until it is there.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteOccasion;
use crypto_core::schedule::{HandshakeStage, Side, TrafficSecret};

use super::authorization::Authorization;
use super::config::ServerConfig;
use super::invite::InviteAttempt;
use crate::error::{Error, PeerMisbehaved};
use crate::handshake::{ChannelKeys, Exporter, FinishedVerified, Flight, UntilFinished};
use crate::message::{ClientIdentity, HandshakeMessage, Mode};

/// What a server holds while it waits for the client's flight.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) config: Arc<ServerConfig>,
    pub(super) now: Duration,
    pub(super) mode: Mode,
    pub(super) server_id: KeyId,
    pub(super) full_handshake_at: Duration,
    /// Whether the client wants to know the reason where it is denied.
    pub(super) asks_reason: bool,
    pub(super) stage: HandshakeStage,
    pub(super) client_secret: TrafficSecret,
    pub(super) flight: Flight,
}

/// Waits for ClientFinished, the proof that the client has the keys of the handshake. Behind ClientAuth an invite may come
/// before it.
#[derive(Debug)]
pub struct ExpectClientFinished {
    pending: Pending,
    client: ClientIdentity,
    invite: Invitation,
}

/// Whether there is an invite.
#[derive(Debug)]
enum Invitation {
    /// None may come.
    Impossible,
    /// One may come, and is for this occasion then.
    Possible(InviteOccasion),
    /// It has come.
    Presented(Box<InviteAttempt>),
}

/// What a message of the client's flight leads to.
#[derive(Debug)]
pub(super) enum UntilDone {
    /// There is more to come.
    Waiting(Box<ExpectClientFinished>),
    /// The flight is over.
    Done(Box<Authorization>),
}

impl ExpectClientFinished {
    /// For a client that the hello has settled, or an anonymous one.
    pub(super) fn new(pending: Pending, client: ClientIdentity) -> Self {
        Self { pending, client, invite: Invitation::Impossible }
    }

    /// For a client that has proven in RSA mode that it has the key `client`.
    pub(super) fn after_client_auth(pending: Pending, t2: [u8; 32], client: KeyId) -> Self {
        let occasion = InviteOccasion { transcript: t2, server: pending.server_id, client };
        Self { pending, client: ClientIdentity::Key(client), invite: Invitation::Possible(occasion) }
    }

    pub(super) fn handle(mut self: Box<Self>, message: &mut [u8]) -> Result<UntilDone, Error> {
        let Pending { flight, client_secret, .. } = &mut self.pending;
        match (flight.receive_until_finished(client_secret, message)?, &self.invite) {
            (UntilFinished::Finished(verified), _) => Ok(UntilDone::Done(Box::new(self.into_done(verified)))),
            (UntilFinished::Other(HandshakeMessage::Invite(invite)), &Invitation::Possible(occasion)) => {
                self.invite = Invitation::Presented(Box::new(InviteAttempt::new(invite, occasion)));
                Ok(UntilDone::Waiting(self))
            }
            (UntilFinished::Other(_), _) => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }

    fn into_done(self, verified: FinishedVerified) -> Authorization {
        let Self { pending, client, invite } = self;
        let t3 = pending.flight.transcript.hash();
        let stage = pending.stage.into_application_stage();
        Authorization {
            keys: ChannelKeys::new(
                stage.traffic_secret(Side::Server, &t3),
                stage.traffic_secret(Side::Client, &t3),
            ),
            resumption: stage.resumption_secret(&t3),
            exporter: Exporter::new(&stage, t3),
            config: pending.config,
            now: pending.now,
            mode: pending.mode,
            server_id: pending.server_id,
            full_handshake_at: pending.full_handshake_at,
            asks_reason: pending.asks_reason,
            client,
            invite: match invite {
                Invitation::Presented(attempt) => Some(attempt),
                Invitation::Impossible | Invitation::Possible(_) => None,
            },
            verified,
        }
    }
}
