//! What a server is to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto_core::identity::ServerKey;
use crypto_core::psk::PreSharedKey;
use crypto_core::ticket::TicketKey;

use crate::Live;
use crate::access::AccessFile;
use crate::service::Service;

/// Everything that [`crate::serve()`] needs but the sockets.
#[derive(Debug)]
pub struct Settings {
    /// Who the server is.
    pub identity: Identity,
    /// Seals tickets.
    pub tickets: Arc<TicketKey>,
    /// Who may come in.
    pub access: AccessFile,
    /// What there is for them.
    pub service: Service,
    /// What can be given anew while it runs.
    pub live: Live,
}

/// Who a server is, and so how clients prove that they mean it.
#[derive(Debug)]
pub enum Identity {
    /// The holder of an RSA key.
    Key(Arc<ServerKey>),
    /// The holder of pre-shared keys, by their ids. No RSA at all.
    Psk(BTreeMap<String, Arc<PreSharedKey>>),
}

/// Whether clients that nobody has allowed may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// They may not. Only while nobody has been allowed yet, messages are taken from this machine.
    Refused,
    /// They may send messages and use the pipe.
    Welcome,
}
