//! `client forward`: tunnels that stay up.
//!
//! ```text
//! local    a listener here      --> a warm channel --> a target there          -L
//! dynamic  a SOCKS proxy here   --> a warm channel --> what each client asks   -D
//! remote   a listener there     --> a parked channel --> a target here         -R
//! stdio    standard input, output <-> a channel <-> a target there             -W
//! ```

mod bound;
mod counted_connector;
mod counts;
mod datagrams;
mod dynamic;
mod event;
mod local;
mod local_listener;
mod remote;
mod start_order;
mod stdio;
mod tunnels;
mod upstream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cli_support::forward::StdioForward;
use cli_support::hardening;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;
use tunnel::network::Network;
use tunnel::pool::END_DEADLINE;

use crate::Error;
use crate::command::forward::bound::BoundForwards;
use crate::command::forward::counts::Servers;
use crate::command::forward::event::Observer;
use crate::command::forward::tunnels::Tunnels;
use crate::config::{self, Forward};
use crate::connect::Credentials;
use crate::control::{ControlEvent, ControlEvents};
use crate::server::Server;

pub use self::event::{Event, Kind};

/// Forwards whose listeners here are bound, so that connections wait for them already.
#[derive(Debug)]
pub struct Forwards {
    tunnels: Tunnels,
    bound: Vec<BoundForwards>,
}

/// Binds what `forwards` listen on here, on the `network` by which servers and targets are reached too. Everything that can
/// be wrong here is found before anybody is told that something works. Once they run, what happens is told to `tell`.
///
/// # Errors
/// [`Error::NothingToForward`], those of [`config::check`], those of a key that cannot be read, [`Error::Listen`].
pub async fn bind(
    network: &Network,
    credentials: &Credentials,
    forwards: Vec<Forward>,
    tell: impl Fn(&Event<'_>) + Send + Sync + 'static,
) -> Result<Forwards, Error> {
    if forwards.is_empty() {
        return Err(Error::NothingToForward);
    }
    config::check(&forwards)?;
    let tunnels = Tunnels::new(network, hardening::raise_descriptor_limit(), &forwards, Observer::new(tell));
    let listened_on: Vec<Address> = forwards.iter().flat_map(Forward::listened_on).cloned().collect();
    let mut bound = Vec::with_capacity(forwards.len());
    for forward in forwards {
        bound.push(BoundForwards::bind(network, credentials, forward, &tunnels, &listened_on).await?);
    }
    Ok(Forwards { tunnels, bound })
}

impl Forwards {
    /// Forwards until `shutdown` is ready, or nothing is left to forward. Connections that are open then may come to their
    /// end for `grace` at most. Dropped before that, they take nothing new, and connections that are open
    /// go on.
    ///
    /// Takes no signals: who does, makes `shutdown` of them. The other end of `events` is a
    /// [`Control`](crate::Control).
    ///
    /// # Errors
    /// A server that is not the one that is trusted or does not let the client in, [`Error::Replaced`] once nothing is left
    /// to forward, [`Error::NotDrained`].
    pub async fn run(
        self,
        grace: Duration,
        shutdown: impl Future<Output = ()>,
        events: ControlEvents,
    ) -> Result<(), Error> {
        let Self { tunnels, bound } = self;
        let ControlEvents(mut events) = events;
        // However this ends, dropped included, no task is left behind that takes connections.
        let _ended = tunnels.draining.clone().drop_guard();
        let mut supervisors = JoinSet::new();
        let mut pools = Vec::with_capacity(bound.len());
        let upstreams: Vec<_> = bound.iter().map(|bound| Arc::clone(&bound.upstream)).collect();
        let mut forwarding: usize = bound.iter().map(BoundForwards::count).sum();
        for bound in bound {
            pools.push(Arc::clone(&bound.upstream.ingress.pool));
            bound.start(&mut supervisors);
        }
        let idle = || pools.iter().map(|pool| pool.idle()).sum();
        let states = || upstreams.iter().map(|upstream| upstream.state()).collect();
        let servers = || Servers { all: pools.len(), up: pools.iter().filter(|pool| pool.is_up()).count() };
        tokio::pin!(shutdown);
        let replaced = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break None,
                Some(ended) = supervisors.join_next() => {
                    match ended.map_err(|error| Error::Runtime(io::Error::other(error))).flatten() {
                        // The others have nothing to do with it.
                        Err(error @ Error::Replaced { .. }) if forwarding > 1 => {
                            forwarding -= 1;
                            tracing::error!(%error, "a forward has ended: the others go on");
                        }
                        // The connections that came before have nothing to do with it either.
                        Err(error @ Error::Replaced { .. }) => {
                            tracing::warn!(%error, "nothing new comes: ending with the connections that are open");
                            break Some(error);
                        }
                        ended => {
                            ended?;
                            break None;
                        }
                    }
                }
                event = events.next() => match event {
                    ControlEvent::Status(answer) => {
                        answer.send(tunnels.status(idle(), states())).ok();
                    }
                    ControlEvent::Metrics(format, answer) => {
                        answer.send(tunnels.metrics(format, idle(), servers())).ok();
                    }
                    ControlEvent::EndNow => {}
                },
            }
        };

        tunnels.draining.cancel();
        tunnels.tracker.close();
        let grace = sleep(grace);
        tokio::pin!(grace);
        let drained = loop {
            tokio::select! {
                biased;
                () = tunnels.tracker.wait() => break true,
                () = &mut grace => break false,
                // Told to end while they end on their own account: somebody does not want to wait.
                () = &mut shutdown, if replaced.is_some() => break false,
                event = events.next() => match event {
                    ControlEvent::EndNow => break false,
                    ControlEvent::Status(answer) => {
                        answer.send(tunnels.status(idle(), states())).ok();
                    }
                    ControlEvent::Metrics(format, answer) => {
                        answer.send(tunnels.metrics(format, idle(), servers())).ok();
                    }
                },
            }
        };
        if !drained {
            tunnels.ending.cancel();
            timeout(END_DEADLINE, tunnels.tracker.wait()).await.ok();
        }
        for pool in &pools {
            pool.end().await;
        }
        // Leases are given back meanwhile, and a handshake comes to its end: to the server a cut would be a failure.
        let all_ended = async {
            while supervisors.join_next().await.is_some() {}
            // A lease that was granted meanwhile has parked channels, which end with it.
            tunnels.tracker.wait().await;
        };
        let all_ended = timeout(END_DEADLINE, all_ended).await.is_ok();
        supervisors.shutdown().await;
        if drained && all_ended {
            tunnels.assert_nothing_held();
        }
        match replaced {
            Some(error) => Err(error),
            None if drained => Ok(()),
            None => Err(Error::NotDrained),
        }
    }
}

/// Forwards standard input and output to one target, until `stopped` is cancelled. With `resume` that outlives a lost connection to
/// the server.
///
/// # Errors
/// [`Error`]; [`Error::EndedEarly`] when data may have been lost.
pub async fn forward_stdio(
    credentials: &Credentials,
    server: Server,
    target: &StdioForward,
    resume: bool,
    stopped: CancellationToken,
) -> Result<(), Error> {
    stdio::forward(credentials, server, &target.target.to_wire(), resume, stopped).await
}
