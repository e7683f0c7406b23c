//! The events that forwards report to the user while they run, as text or as JSON.

use std::fmt;
use std::sync::Arc;

use cli_support::forward::Transport;
use serde::Serialize;

/// An event that forwards report to the user, or to the program that has started them.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// Connections are taken.
    Listening {
        /// How.
        kind: Kind,
        /// Where, with the port that was chosen.
        address: &'a str,
        /// Where they are carried to; `None` where each says that itself.
        target: Option<&'a str>,
        /// By which server. Nothing that is printed says so.
        #[serde(skip)]
        server: &'a str,
    },
    /// The status page is there.
    Status {
        /// Its URL, or the path of its socket.
        url: &'a str,
    },
    /// The server can be reached.
    Connected {
        /// Its address.
        server: &'a str,
    },
}

/// The kind of a forward: the side that listens, and the one that names the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Here, for a target at the server.
    Local,
    /// At the server, for a target here.
    Remote,
    /// Here, for a target at the server that each names itself.
    Dynamic,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { kind, address, target, .. } => {
                let kind = match kind {
                    Kind::Local => "local",
                    Kind::Remote => "remote",
                    Kind::Dynamic => "dynamic",
                };
                write!(f, "{kind:<8} {address}")?;
                target.map_or(Ok(()), |target| write!(f, " -> {target}"))
            }
            Self::Status { url } => write!(f, "{:<8} {url}", "status"),
            Self::Connected { server } => write!(f, "connected to {server}"),
        }
    }
}

/// An address that is listened on, as it is shown.
pub(super) fn shown(address: &impl fmt::Display, transport: Transport) -> String {
    match transport {
        Transport::Stream => address.to_string(),
        Transport::Datagram => format!("{address}/udp"),
    }
}

/// The function that is told what happens.
#[derive(Clone)]
pub(super) struct Observer(Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Observer {
    pub(super) fn new(tell: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}
