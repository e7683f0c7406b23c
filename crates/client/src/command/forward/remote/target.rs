//! The target here of a stream that the server opens.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;

use cli_support::forward::{RemoteForward, TargetSpec};
use tunnel::address::Address;
use tunnel::dial;
use tunnel::drops::FlowDrops;
use tunnel::egress::{self, Destination};
use tunnel::escape::escape;
use tunnel::network::Network;
use tunnel::proxy_header::{self, ProxyHeader};
use tunnel::resumption::Resumption;
use tunnel::terms::Unlimited;
use wire_protocol::message::{RefusedCode, Retention, Target};

use crate::command::forward::upstream::Upstream;

/// A stream that the server opens for a forward.
pub(super) struct TargetRequest<'a> {
    upstream: &'a Upstream,
    forward: &'a RemoteForward,
    asked: Target,
    /// What the server asks for where the stream is to outlive its channel.
    retention: Option<Retention>,
    terms: Unlimited,
    refused: OnceLock<RefusedCode>,
}

/// Why the server does not get a stream.
#[derive(Debug)]
pub(super) struct Refusal {
    code: RefusedCode,
    /// What the system says, which is for the log alone.
    error: Option<io::Error>,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { code: dial::refusal(&error), error: Some(error) }
    }
}

impl From<RefusedCode> for Refusal {
    fn from(code: RefusedCode) -> Self {
        Self { code, error: None }
    }
}

impl<'a> TargetRequest<'a> {
    /// What the server asks for, by way of `forward`.
    pub(super) fn new(
        upstream: &'a Upstream,
        forward: &'a RemoteForward,
        (asked, retention): (Target, Option<Retention>),
    ) -> Self {
        let (udp_timeout, traffic) = (upstream.ingress.udp_timeout, upstream.ingress.traffic.clone());
        let ending = upstream.tunnels.ending.clone();
        let monitor = upstream.ingress.monitor.clone();
        let terms = Unlimited { udp_timeout, traffic, resumptions: None, ending, monitor };
        Self { upstream, forward, asked, retention, terms, refused: OnceLock::new() }
    }

    /// What the server was told, where it did not get the stream.
    pub(super) fn refused(&self) -> Option<RefusedCode> {
        self.refused.get().copied()
    }

    /// Only a target of this side's choice is told who has come in: what a SOCKS client asks for is somebody else's.
    fn proxy_header(&self) -> ProxyHeader {
        match self.asked {
            Target::Forwarded { .. } => self.upstream.header,
            _ => ProxyHeader::None,
        }
    }
}

impl egress::Request for TargetRequest<'_> {
    type Terms = Unlimited;
    type Refusal = Refusal;

    fn terms(&self) -> &Unlimited {
        &self.terms
    }

    fn network(&self) -> &Network {
        &self.upstream.network
    }

    fn destination(&self) -> Result<Destination<'_>, Refusal> {
        match (&self.asked, &self.forward.target) {
            (Target::Forwarded { .. }, Some(TargetSpec::Tcp { host, port }))
            | (Target::Tcp { host, port }, None) => Ok(Destination::Host(host, *port)),
            (Target::Forwarded { .. }, Some(TargetSpec::Unix(path))) => {
                let address = Cow::Owned(Address::Unix(path.into()));
                Ok(Destination::Permitted(address, self.proxy_header()))
            }
            (Target::Forwarded { .. }, Some(TargetSpec::Udp { host, port }))
            | (Target::Udp { host, port }, None) => Ok(Destination::Datagrams(host, *port)),
            _ => Err(RefusedCode::NotOffered.into()),
        }
    }

    /// Visitors of the server may name many hosts that nobody answers for: their names go at the expense of each other, and not
    /// of the server's own.
    fn asker(&self) -> &str {
        "visitors"
    }

    fn permit(&self, _: SocketAddr) -> Result<ProxyHeader, Refusal> {
        Ok(self.proxy_header())
    }

    fn note_reached(&self, _: Option<SocketAddr>, _: ProxyHeader) {}

    fn header(&self, _: Option<SocketAddr>) -> Vec<u8> {
        let (origin, destination) = match &self.asked {
            Target::Forwarded { origin, destination } => (origin.parse().ok(), destination.parse().ok()),
            _ => (None, None),
        };
        proxy_header::v2(origin, destination, None)
    }

    fn drops(&self, host: &str, port: u16) -> FlowDrops {
        self.upstream.tunnels.drops.flow(format!("to {}:{port}", escape(host.as_bytes())))
    }

    fn resumption(&self) -> Option<Resumption> {
        let asked = self.retention?;
        let Resumption { retention, reservation } = self.upstream.ingress.resumptions.next()?;
        Some(Resumption { retention: retention.min(asked), reservation })
    }

    fn refuse(&self, Refusal { code, error }: Refusal) -> RefusedCode {
        self.refused.set(code).ok();
        let Some(error) = error else { return code };
        match self.destination() {
            Ok(Destination::Datagrams(host, port)) => {
                tracing::info!(host, port, %error, "datagrams cannot be sent there");
            }
            Ok(Destination::Host(host, port)) => {
                let target = Address::Tcp { host: host.to_owned(), port };
                tracing::info!(%target, %error, "the target cannot be reached");
            }
            Ok(Destination::Permitted(target, _)) => {
                tracing::info!(%target, %error, "the target cannot be reached");
            }
            Err(_) => {}
        }
        code
    }
}
