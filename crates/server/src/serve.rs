//! The server as a whole: runs until it is told to end, or its one service is done.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cli_support::control::Events;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tunnel::address::Address;
use tunnel::network::Network;
use tunnel::socket::OnDrop;

use crate::accept::{Acceptors, Listeners};
use crate::accounts_keeper;
use crate::control::{ControlEvent, ControlEvents};
use crate::counters::ReloadOutcome;
use crate::error::Error;
use crate::metrics;
use crate::reloadable_config::ReloadableConfig;
use crate::server::Server;
use crate::settings::Settings;
use crate::status::{self, Detail};

/// Listens on all of `addresses` of a network, or on none.
///
/// # Errors
/// [`Error::Listen`].
pub async fn listen(network: &Network, addresses: &[Address]) -> Result<Listeners, Error> {
    listen_beside(network, addresses, addresses).await
}

/// Listens on `fresh` ones of `addresses`.
async fn listen_beside(
    network: &Network,
    fresh: &[Address],
    addresses: &[Address],
) -> Result<Listeners, Error> {
    let mut listeners = Vec::with_capacity(fresh.len());
    for address in fresh {
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let listener = network.listen_beside(address, OnDrop::Ends, addresses).await.map_err(failed)?;
        listeners.push((address.clone(), listener));
    }
    Ok(listeners)
}

/// Serves until `shutdown` is ready, or the one service is done (a pipe is, once its client has gone). From `shutdown` on it
/// takes no new streams, and lets those that are live come to their end for as long as the grace lasts. Dropped before
/// that, it ends without a word to anybody.
///
/// Takes no signals: who does, makes `shutdown` of them. The other end of `events` is a [`Control`](crate::Control).
///
/// Whatever goes wrong on a connection ends that connection alone, with a line in the log. On a runtime of a single thread
/// everything waits while a message is written where it goes.
///
/// # Errors
/// Those of the service itself: a pipe that broke, or was stopped before its end. [`Error::NotDrained`] when streams
/// were still live in the end.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    events: ControlEvents,
) -> Result<(), Error> {
    let ControlEvents(mut events) = events;
    let (done, mut pipe_done) = mpsc::channel(1);
    let server = Arc::new(Server::new(settings, done));
    let served = run(&server, listeners, shutdown, &mut events, &mut pipe_done).await;
    // What was moved last is not lost.
    accounts_keeper::store(&server).await;
    served
}

/// As [`serve`], without what comes behind the end.
async fn run(
    server: &Arc<Server>,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    events: &mut Events<ControlEvent>,
    pipe_done: &mut mpsc::Receiver<Result<(), Error>>,
) -> Result<(), Error> {
    // Nothing goes on by itself where nobody would notice any more that a client was revoked.
    let _ended = server.ended.clone().drop_guard();
    let watched = Arc::clone(server);
    // Until the end, when streams still come to theirs.
    let _watching = AbortOnDropHandle::new(tokio::spawn(async move { watched.access.watch().await }));
    let _keeping = AbortOnDropHandle::new(tokio::spawn(accounts_keeper::keep(Arc::clone(server))));
    let mut acceptors = Acceptors::open(server, listeners);
    let telling = server.tell_left_out();
    tokio::pin!(shutdown, telling);
    loop {
        let event = tokio::select! {
            biased;
            () = &mut shutdown => break,
            never = &mut telling => match never {},
            event = events.next() => event,
            Some(result) = pipe_done.recv() => {
                acceptors.close().await;
                return result;
            }
        };
        // Nobody waits for an answer any more where one cannot be sent.
        match event {
            ControlEvent::Reload { config, addresses, answer } => {
                let applied = apply(server, &mut acceptors, config, &addresses).await;
                let outcome = if applied.is_ok() { ReloadOutcome::Applied } else { ReloadOutcome::Failed };
                server.counters.note_reload(outcome);
                answer.send(applied).ok();
            }
            ControlEvent::Recheck(answer) => {
                server.recheck();
                answer.send(()).ok();
            }
            ControlEvent::Status(answer) => {
                answer.send(status::of(server, Detail::Line)).ok();
            }
            ControlEvent::Server(answer) => {
                answer.send(Arc::downgrade(server)).ok();
            }
            ControlEvent::Metrics(format, answer) => {
                answer.send(metrics::write(server, format)).ok();
            }
            ControlEvent::NotReloaded => server.counters.note_reload(ReloadOutcome::Failed),
            ControlEvent::EndNow => {}
        }
    }
    let held = server.resumable.held();
    if held == 0 {
        acceptors.close().await;
        acceptors = Acceptors::none();
    } else {
        tracing::info!(streams = held, "waiting for the clients of streams that have lost their connection");
    }
    server.tell_left_out_once();
    server.handlers.stopped()?;
    drain(server, acceptors, events).await
}

/// Goes by another configuration: all of it, or nothing of it.
async fn apply(
    server: &Arc<Server>,
    acceptors: &mut Acceptors,
    config: ReloadableConfig,
    addresses: &[Address],
) -> Result<(), Error> {
    let fresh: Vec<Address> = addresses.iter().filter(|address| !acceptors.has(address)).cloned().collect();
    let listeners = listen_beside(&server.network, &fresh, addresses).await?;
    server.set_config(config);
    acceptors.change(server, addresses, listeners).await;
    Ok(())
}

/// Waits for the streams that are open, for as long as the grace lasts. Connections are accepted only as long as streams are held
/// whose clients may come for them.
async fn drain(
    server: &Arc<Server>,
    acceptors: Acceptors,
    events: &mut Events<ControlEvent>,
) -> Result<(), Error> {
    server.stopping.cancel();
    let lost_before = server.counters.resumption.lost.sum();
    let drained = async {
        server.resumable.none_held().await;
        acceptors.close().await;
        server.closed.cancel();
        server.connections.close();
        server.connections.wait().await;
    };
    let mut drained = Box::pin(drained);
    let grace = sleep(server.config().grace);
    tokio::pin!(grace);
    let streams = server.streams.count();
    if streams > 0 {
        tracing::info!(streams, "waiting for streams to come to their end");
    }
    loop {
        tokio::select! {
            biased;
            () = &mut drained => {
                server.assert_nothing_held();
                // What has lost its connection meanwhile could not be waited for.
                let lost = server.counters.resumption.lost.sum() - lost_before;
                return match usize::try_from(lost) {
                    Ok(0) => Ok(()),
                    streams => Err(Error::NotDrained { streams: streams.unwrap_or(usize::MAX) }),
                };
            }
            () = &mut grace => break,
            event = events.next() => match event {
                ControlEvent::EndNow => break,
                ControlEvent::Status(answer) => {
                    answer.send(status::of(server, Detail::Line)).ok();
                }
                ControlEvent::Server(answer) => {
                    answer.send(Arc::downgrade(server)).ok();
                }
                ControlEvent::Recheck(answer) => {
                    server.recheck();
                    answer.send(()).ok();
                }
                ControlEvent::Metrics(format, answer) => {
                    answer.send(metrics::write(server, format)).ok();
                }
                // Without an answer: a server that ends takes no other configuration.
                ControlEvent::Reload { .. } | ControlEvent::NotReloaded => {}
            },
        }
    }
    // What accepts goes with it, and nothing that is held is waited for.
    drop(drained);
    let streams = server.streams.count() + server.resumable.held();
    server.closed.cancel();
    server.connections.close();
    server.ending.cancel();
    timeout(RESET_DEADLINE, server.connections.wait()).await.ok();
    Err(Error::NotDrained { streams })
}

/// How long the clients have to hear that their streams are reset, since the server is stopping.
const RESET_DEADLINE: Duration = Duration::from_secs(3);
