//! The client's last state: it waits to be let in.

use crypto_core::schedule::ResumptionSecret;

use super::config::{ClientConfig, Established, ExpectedServer, MAX_TICKET_LEN, ResumptionTicket};
use crate::error::{Error, InvalidMessage, PeerMisbehaved};
use crate::handshake::{ChannelKeys, Exporter};
use crate::message::{
    HandshakeMessage, Joined, MAX_GRANT_LEN, MAX_JOINED_NAME_LEN, Mode, ServerLimits, Ticket,
};

/// Waits for the last message of the server in a handshake: Welcome, or with an invite Joined.
#[derive(Debug)]
pub struct ExpectWelcome {
    pub(super) config: ClientConfig,
    pub(super) mode: Mode,
    pub(super) limits: ServerLimits,
    pub(super) keys: ChannelKeys,
    pub(super) resumption: ResumptionSecret,
    pub(super) exporter: Exporter,
}

impl ExpectWelcome {
    pub(super) fn handle(mut self, message: &mut [u8]) -> Result<Established, Error> {
        let (message, _) = self.keys.receive(message)?;
        match message {
            HandshakeMessage::Welcome { ticket } if !self.has_invite() => Ok(self.established(None, ticket)),
            HandshakeMessage::Joined { joined, ticket } if self.has_invite() => {
                if joined.name.len() > MAX_JOINED_NAME_LEN || joined.grant.len() > MAX_GRANT_LEN {
                    return Err(InvalidMessage::TooLong.into());
                }
                Ok(self.established(Some(joined), ticket))
            }
            HandshakeMessage::Denied { code } => Err(Error::Denied(code)),
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }

    /// Whether the client has said an invite.
    pub(super) fn has_invite(&self) -> bool {
        self.config.invite.is_some()
    }

    fn established(self, joined: Option<Joined>, ticket: Option<Ticket>) -> Established {
        Established {
            keys: self.keys,
            mode: self.mode,
            server_key: match self.config.server {
                ExpectedServer::Key { key, .. } => key,
                ExpectedServer::Psk(_) => None,
            },
            limits: self.limits,
            ticket: ticket
                .filter(|ticket| ticket.ticket.len() <= MAX_TICKET_LEN)
                .map(|ticket| resumption_ticket(&self.resumption, ticket)),
            joined,
            opening: self.config.open,
            exporter: self.exporter,
        }
    }
}

fn resumption_ticket(resumption: &ResumptionSecret, ticket: Ticket) -> ResumptionTicket {
    ResumptionTicket {
        secret: resumption.ticket_secret(&ticket.nonce),
        ticket: ticket.ticket,
        lifetime_seconds: ticket.lifetime_seconds,
    }
}
