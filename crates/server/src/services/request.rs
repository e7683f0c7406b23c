//! What a client asks for, and all that is known of it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tunnel::drops::DropCounter;
use tunnel::listener::Source;
use tunnel::proxy_header::ProxyHeader;
use tunnel::socket::Socket;
use wire_protocol::message::Target;
use wire_protocol::stream::SecureStream;

use crate::access::{Action, Denial, Origin, Permit, Principal, Request, permits};
use crate::log::LogLimits;
use crate::open::{Meter, OpenTarget};
use crate::reloadable_config::ReloadableConfig;
use crate::services::refusal::Refusal;
use crate::throttle::Throttle;

/// A request for a stream: who asks, from where, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) source: &'a Source,
    pub(crate) origin: Origin,
    pub(crate) target: &'a Target,
    pub(crate) config: &'a ReloadableConfig,
    /// Counts the bytes of the stream.
    pub(crate) meter: &'a Meter,
    pub(crate) throttle: &'a Throttle,
    /// Counts datagrams that are dropped.
    pub(crate) drops: &'a DropCounter,
    pub(crate) log_limits: &'a LogLimits,
    /// Cancelled once the server takes no new streams any more.
    pub(crate) stopping: &'a CancellationToken,
    /// Cancelled once the client has lost the right to what it has open.
    pub(crate) revoked: &'a CancellationToken,
    /// What the client has open, which is judged again when its rights change.
    pub(crate) open: &'a Mutex<Option<OpenTarget>>,
}

impl RequestContext<'_> {
    /// What the policy says to it, where `address` is what the host of the target has led to.
    pub(crate) fn permits(&self, address: Option<SocketAddr>) -> Result<Permit, Denial> {
        let action = Action::Open { target: self.target, address, header: None };
        permits(&Request { principal: self.principal, source: self.origin.source, action })
    }

    /// Notes which address the host of the target has led to, and which header the target is sent: both decide on whether the
    /// client may keep the stream when its rights change.
    pub(crate) fn note_reached(&self, address: Option<SocketAddr>, header: ProxyHeader) {
        if let Some(open) = &mut *self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            open.address = address;
            open.header = Some(header);
        }
    }

    /// Tells the client, and the log within its limit, that it does not get the stream, and gives the channel back, idle.
    pub(crate) async fn refuse(
        &self,
        stream: SecureStream<Socket>,
        refusal: Refusal,
    ) -> io::Result<SecureStream<Socket>> {
        refusal.tell(stream, self.target, &self.source.name, &self.principal.name, self.log_limits).await
    }
}
