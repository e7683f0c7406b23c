//! Listening for clients (section 7.3): one lease for each address, and the parked channels on which what comes in
//! there is handed to the client.
//!
//! ```text
//! acceptor -> PendingQueue -> whichever parked channel of the lease is free -> Open, relay -> parked again
//! ```

mod acceptor;
mod leases;
mod listener;
mod parking;
mod visitors;

use std::io;
use std::sync::Arc;

use cli_support::admin::LeaseHeld;
use tunnel::drops::DropCounter;
use tunnel::network::Network;
use tunnel::socket::Socket;
use wire_protocol::message::{
    ClientIdentity, LEASE_LEN, ListenAddress, ListenKind, ListenState, RefusedCode, Target,
};
use wire_protocol::stream::Channel;

use crate::access::{Permit, Principal};
use crate::services::handler::{Handler, Served};
use crate::services::listen::leases::Leases;
pub(crate) use crate::services::listen::parking::Parking;
use crate::services::request::RequestContext;

/// Listens for clients.
#[derive(Debug)]
pub(crate) struct Listening(Arc<Leases>);

impl Listening {
    /// With descriptors for so many `visitors`, who have come in by a lease and are not on a channel yet.
    pub(crate) fn new(network: Network, drops: DropCounter, visitors: usize) -> Self {
        Self(Arc::new(Leases::new(network, drops, visitors)))
    }

    /// Whether the server could listen for a client there, without listening.
    pub(crate) async fn look(
        &self,
        client: &Principal,
        address: &ListenAddress,
        kind: ListenKind,
    ) -> ListenState {
        self.0.look(&client.identity, &client.name, address, kind).await
    }

    /// What a parked channel of `owner` waits for; `None` where it holds no lease of this id.
    pub(crate) fn parking(&self, owner: &ClientIdentity, id: &[u8; LEASE_LEN]) -> Option<Parking> {
        self.0.parking(owner, id)
    }

    /// Addresses that are listened on.
    pub(crate) fn leases(&self) -> usize {
        self.0.count()
    }

    /// The addresses that are listened on for clients.
    pub(crate) fn leased(&self) -> Vec<LeaseHeld> {
        self.0.list()
    }
}

impl Handler for Listening {
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Served> {
        let Target::Listen { address, kind, lease } = request.target else {
            return request.refuse(channel, RefusedCode::NotOffered.into()).await.map(Served::Idle);
        };
        let (owner, asker) = (&request.principal.identity, &request.principal.name);
        match self.0.claim(owner, asker, address, *kind, *lease).await {
            Ok(lease) => lease.hold(channel, request.stopping, request.revoked).await.map(Served::from),
            Err(refusal) => request.refuse(channel, refusal).await.map(Served::Idle),
        }
    }
}
