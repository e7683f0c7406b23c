//! The client's last state: it waits to be let in.

use crypto_core::schedule::ResumptionSecret;

use super::config::{ClientConfig, Established, ExpectedServer, MAX_TICKET_LEN, ResumptionTicket};
use crate::error::{Error, PeerMisbehaved};
use crate::handshake::ChannelKeys;
use crate::message::{HandshakeMessage, Mode, ServerLimits, Ticket};

/// Waits for Welcome, the last message of the server in a handshake.
#[derive(Debug)]
pub struct ExpectWelcome {
    pub(super) config: ClientConfig,
    pub(super) mode: Mode,
    pub(super) limits: ServerLimits,
    pub(super) keys: ChannelKeys,
    pub(super) resumption: ResumptionSecret,
}

impl ExpectWelcome {
    pub(super) fn handle(mut self, message: &mut [u8]) -> Result<Established, Error> {
        let (message, _) = self.keys.receive(message)?;
        match message {
            HandshakeMessage::Welcome { ticket } => Ok(Established {
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
                opening: self.config.open,
            }),
            HandshakeMessage::Denied { code } => Err(Error::Denied(code)),
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
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
