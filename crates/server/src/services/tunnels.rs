//! Tunnels: the target that a client asks for is connected to, if the client may, and the two are relayed.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;

use tokio::time::Instant;
use tunnel::address::Address;
use tunnel::drops::FlowDrops;
use tunnel::egress::{self, Destination, Opened};
use tunnel::escape::escape;
use tunnel::network::Network;
use tunnel::proxy_header::{self, ProxyHeader};
use tunnel::resumption::Resumption;
use tunnel::socket::Socket;
use wire_protocol::message::{ClientIdentity, RefusedCode, Target};
use wire_protocol::stream::Channel;

use crate::access::Permit;
use crate::config::NamedService;
use crate::services::handler::{Handler, Served};
use crate::services::refusal::Refusal;
use crate::services::request::RequestContext;
use crate::services::terms::ClientTerms;

/// Serves tunnels.
#[derive(Debug)]
pub(crate) struct Tunnels;

impl Handler for Tunnels {
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        permit: Permit,
    ) -> io::Result<Served> {
        let (terms, asked) = (request.terms(), Instant::now());
        Ok(match egress::open(channel, &TunnelRequest { request, permit, terms, asked }).await? {
            Opened::Connection { stream, target } => Served::Connection { stream, target },
            Opened::Over(channel) => Served::Idle(channel),
        })
    }
}

/// What a client asks for, and the policy permits so far.
struct TunnelRequest<'a> {
    request: &'a RequestContext<'a>,
    /// Of the target as it was asked for.
    permit: Permit,
    terms: ClientTerms<'a>,
    asked: Instant,
}

impl<'a> egress::Request for TunnelRequest<'a> {
    type Terms = ClientTerms<'a>;
    type Refusal = Refusal;

    fn terms(&self) -> &ClientTerms<'a> {
        &self.terms
    }

    fn network(&self) -> &Network {
        self.request.network
    }

    fn destination(&self) -> Result<Destination<'_>, Refusal> {
        match self.request.target {
            Target::Tcp { host, port } => Ok(Destination::Host(host, *port)),
            Target::Udp { host, port } => Ok(Destination::Datagrams(host, *port)),
            Target::Unix { path } => {
                let address = Cow::Owned(Address::Unix(path.into()));
                Ok(Destination::Permitted(address, self.permit.header()))
            }
            Target::Service { name } => {
                let NamedService { target, header, .. } =
                    self.request.config.service(name).ok_or(RefusedCode::NotOffered)?;
                Ok(Destination::Permitted(Cow::Borrowed(target), *header))
            }
            _ => Err(RefusedCode::NotOffered.into()),
        }
    }

    /// A name is looked up at the client's own expense.
    fn asker(&self) -> &str {
        &self.request.principal.name
    }

    fn permit(&self, address: SocketAddr) -> Result<ProxyHeader, Refusal> {
        Ok(self.request.permits(Some(address))?.header())
    }

    fn note_reached(&self, address: Option<SocketAddr>, header: ProxyHeader) {
        if !matches!(self.request.target, Target::Udp { .. }) {
            self.request.counters.dialed.note((), self.asked.elapsed());
        }
        self.request.note_reached(address, header);
    }

    fn header(&self, here: Option<SocketAddr>) -> Vec<u8> {
        let client = identity(&self.request.principal.identity);
        let destination = self.request.source.proxied_to.or(here);
        proxy_header::v2(self.request.source.address, destination, client.as_deref())
    }

    fn drops(&self, host: &str, port: u16) -> FlowDrops {
        let session = format!("{} to {}:{port}", self.request.principal.name, escape(host.as_bytes()));
        self.request.drops.flow(session)
    }

    fn resumption(&self) -> Option<Resumption> {
        self.request.resumable.grant(self.request.retention?, self.request.budget)
    }

    fn refuse(&self, refusal: Refusal) -> RefusedCode {
        let is_of_system = refusal.is_of_system();
        let code = self.request.note_refusal(refusal);
        if is_of_system {
            self.request.counters.not_dialed.one(code.into());
        }
        code
    }
}

/// A client's identity as targets are told of it.
fn identity(identity: &ClientIdentity) -> Option<String> {
    match identity {
        ClientIdentity::Anonymous => None,
        ClientIdentity::Key(_) | ClientIdentity::Psk(_) => Some(identity.to_string()),
    }
}
