//! A channel without its socket.

use std::boxed::Box;

use crypto_core::schedule::Side;

use super::clock::Clock;
use super::half::{ReceiveHalf, SendHalf};
use super::session::{Peer, Session};
use crate::channel::{Receiver, Sender};
use crate::handshake::{ChannelKeys, client, server};
use crate::message::Target;

/// A channel without its socket, for a move between asynchronous and blocking: see `SecureStream::into_parts`.
///
/// Its two directions, and what the handshake has settled, stay where they are as it is moved: keys leave no copies behind,
/// and what holds a stream across an `await` is small.
#[derive(Debug)]
pub struct Parts {
    /// What the handshake has settled.
    pub session: Box<Session>,
    pub(crate) reading: Box<ReceiveHalf>,
    pub(crate) writing: Box<SendHalf>,
}

impl Parts {
    fn new(side: Side, keys: ChannelKeys, session: Session, early: &[u8], opening: Option<&Target>) -> Self {
        let clock = Clock::start();
        let sender = Sender::new(side, keys.sealer, opening, clock.now());
        Self {
            session: Box::new(session),
            reading: Box::new(ReceiveHalf::new(Receiver::new(&sender, keys.opener, early), clock)),
            writing: Box::new(SendHalf::new(sender, clock)),
        }
    }

    pub(super) fn of_client(established: client::Established, early: &[u8]) -> Self {
        let session = Session {
            mode: established.mode,
            peer: Peer::Server(established.server_key),
            limits: established.limits,
            ticket: established.ticket,
            joined: established.joined,
            gave_ticket: false,
            exporter: established.exporter,
        };
        Self::new(Side::Client, established.keys, session, early, established.opening.as_ref())
    }

    pub(super) fn of_server(established: server::Established, early: &[u8]) -> Self {
        let session = Session {
            mode: established.mode,
            peer: Peer::Client(established.client),
            limits: established.limits,
            ticket: None,
            joined: None,
            gave_ticket: established.gave_ticket,
            exporter: established.exporter,
        };
        Self::new(Side::Server, established.keys, session, early, None)
    }
}
