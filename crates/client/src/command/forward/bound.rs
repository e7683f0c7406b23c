//! The forwards through one server, once everything that they listen on here is bound.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use cli_support::forward::{LocalForward, RemoteForward};
use tokio::task::JoinSet;
use tunnel::address::Address;
use tunnel::ingress::Ingress;
use tunnel::listener::Listener;
use tunnel::network::Network;
use tunnel::pool::Pool;
use tunnel::resumptions::Resumptions;

use crate::Error;
use crate::command::forward::counted_connector::CountedConnector;
use crate::command::forward::event::Event;
use crate::command::forward::local_listener::{self, LocalListener};
use crate::command::forward::start_order::StartOrder;
use crate::command::forward::tunnels::Tunnels;
use crate::command::forward::upstream::Upstream;
use crate::command::forward::{dynamic, local, remote};
use crate::config::Forward;
use crate::connect::{Connector, Credentials};
use crate::server::Server;

/// The forwards through one server, with what they listen on here.
#[derive(Debug)]
pub(super) struct BoundForwards {
    pub(super) upstream: Arc<Upstream>,
    local: Vec<(LocalForward, LocalListener)>,
    dynamic: Vec<Listener>,
    remote: Vec<RemoteForward>,
}

impl BoundForwards {
    /// Binds what `forward` listens on here, beside all that is `listened_on`.
    ///
    /// # Errors
    /// [`Error::Listen`], and those of a key that cannot be read.
    pub(super) async fn bind(
        network: &Network,
        credentials: &Credentials,
        forward: Forward,
        tunnels: &Tunnels,
        listened_on: &[Address],
    ) -> Result<Self, Error> {
        let Forward {
            server,
            trust,
            local: locals,
            remote,
            dynamic: dynamics,
            header,
            wait,
            udp_timeout,
            resume,
        } = forward;
        let mut server = Server::from_options(&server, &trust, credentials.home())?;
        server.network = network.clone();
        let mut local = Vec::with_capacity(locals.len());
        for forward in locals {
            let listener = LocalListener::bind(network, &forward, listened_on).await?;
            local.push((forward, listener));
        }
        let mut dynamic = Vec::with_capacity(dynamics.len());
        for forward in dynamics {
            dynamic.push(local_listener::listen(network, &forward.listen, listened_on).await?);
        }
        let connector = Connector::new(credentials.clone(), server);
        let pool = Pool::new(CountedConnector::new(connector, Arc::clone(&tunnels.counts)));
        let tunnels = tunnels.clone();
        let (streams, traffic) = (tunnels.streams.clone(), tunnels.counts.traffic.clone());
        let resumptions = if resume { tunnels.resumptions.clone() } else { Resumptions::none() };
        let ending = tunnels.ending.clone();
        let monitor = tunnels.monitor.clone();
        let ingress = Ingress { pool, streams, traffic, wait, udp_timeout, resumptions, ending, monitor };
        let network = network.clone();
        let upstream = Upstream {
            network,
            ingress,
            tunnels,
            header,
            reached: AtomicU64::new(0),
            several_servers: Once::new(),
        };
        Ok(Self { upstream: Arc::new(upstream), local, dynamic, remote })
    }

    /// How many forwards there are.
    pub(super) fn count(&self) -> usize {
        self.local.len() + self.dynamic.len() + self.remote.len()
    }

    /// Starts everything. `supervisors` ends with an error where a part of it ends before the program drains.
    pub(super) fn start(self, supervisors: &mut JoinSet<Result<(), Error>>) {
        let Self { upstream, local, dynamic, remote } = self;
        // In the order of the command line: with port 0 that is how they are told apart.
        for (forward, listener) in &local {
            local::announce(&upstream, forward, listener);
        }
        for listener in &dynamic {
            dynamic::announce(&upstream, listener);
        }
        for (forward, listener) in local {
            upstream.tunnels.spawn(local::serve(Arc::clone(&upstream), forward, listener));
        }
        for listener in dynamic {
            upstream.tunnels.spawn(dynamic::serve(Arc::clone(&upstream), listener));
        }
        let mut order = StartOrder::default();
        for forward in remote {
            let next = order.next();
            let order = std::mem::replace(&mut order, next);
            supervisors.spawn(remote::supervise(Arc::clone(&upstream), forward, order));
        }
        supervisors.spawn(async move {
            let server = upstream.address();
            let connected = || {
                upstream.tunnels.counts.reached.one(());
                upstream.reached.fetch_add(1, Ordering::Relaxed);
                upstream.tunnels.observer.tell(&Event::Connected { server: &server });
            };
            let pool = &upstream.ingress.pool;
            tokio::select! {
                ended = pool.keep_up(connected) => ended,
                never = pool.follow(upstream.tunnels.monitor.as_deref()) => match never {},
            }
        });
    }
}
