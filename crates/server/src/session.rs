//! One connection: the handshake, the decision who may come in, then one stream after another.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::dial::in_time;
use tunnel::listener::Source;
use tunnel::socket::Socket;
use wire_protocol::message::{DeniedCode, Target};
use wire_protocol::stream::{self, Channel, Incoming};

use crate::access::{Action, Denial, Enrolment, Origin, Principal, Request, Snapshot, permits};
use crate::admission::fault::{self, Fault};
use crate::admission::{HANDSHAKE_DEADLINE, HandshakePermit};
use crate::open::{Meter, OpenTarget, Seen};
use crate::quota::QuotaKey;
use crate::server::Server;
use crate::services::request::RequestContext;
use crate::services::reset::{revoke, revoked};
use crate::throttle::Throttle;

/// A client that is in.
#[derive(Debug)]
struct Session<'a> {
    server: &'a Server,
    source: &'a Source,
    origin: Origin,
    /// As it was judged last.
    principal: Arc<Mutex<Arc<Principal>>>,
    throttle: Throttle,
    /// What it has open, or waits for.
    target: Arc<Mutex<Option<OpenTarget>>>,
    /// Bytes of that.
    meter: Meter,
    /// It has lost the right to that: whatever serves it tells it so, and ends.
    revoked: CancellationToken,
}

impl Server {
    /// Serves a connection to its end. `accountable` is the source that answers for failures.
    pub(crate) async fn serve_connection(
        self: &Arc<Self>,
        socket: Socket,
        source: Source,
        accountable: Option<IpAddr>,
        permit: HandshakePermit,
    ) {
        let origin = Origin { source: source.ip(), is_local: source.is_local() };
        // Before the client is judged, so that no change goes by between the two.
        let changes = self.access.subscribe();
        let mut admitted = None;
        // On the heap, so that the room for it is given back once it is done.
        let handshake =
            Box::pin(stream::accept_channel(socket, self.handshake_config(origin), &permit, |client| {
                let principal = self.authorize(client, origin).map_err(|denial| {
                    self.tell_refused(client, &source, denial);
                    denial.code()
                })?;
                let key = QuotaKey::of(&principal, accountable);
                let most = principal.rights().max_channels();
                let in_all = self.config().max_channels;
                let channel =
                    self.limits.begin_channel(key, most, in_all).ok_or(DeniedCode::TooManyChannels)?;
                admitted = Some((principal, channel));
                Ok(())
            }));
        let handshake = tokio::select! {
            handshake = timeout(HANDSHAKE_DEADLINE, handshake) => handshake.unwrap_or_else(|_| {
                let message =
                    format!("the handshake took longer than {} seconds", HANDSHAKE_DEADLINE.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }),
            // A client that is not in yet does not hold up the end.
            () = self.stopping.cancelled() => return,
        };
        let reached = permit.reached();
        drop(permit);

        match (handshake, admitted) {
            (Ok(channel), Some((principal, _place))) => {
                tracing::debug!(
                    peer = source.name,
                    client = principal.name,
                    mode = %channel.session().mode,
                    "connection established"
                );
                if principal.enrolment == Enrolment::Enrolled {
                    self.admission.note_known(accountable, Instant::now());
                }
                let meter = Meter::default();
                let throttle = self.limits.throttle(&principal.identity).metered(meter.clone());
                throttle.set_rate(principal.rights().max_rate());
                let session = Session {
                    server: self,
                    source: &source,
                    origin,
                    throttle,
                    principal: Arc::new(Mutex::new(Arc::new(principal))),
                    target: Arc::default(),
                    meter,
                    revoked: CancellationToken::new(),
                };
                let _seen = self.open.enter(session.seen());
                let (served, denial) = {
                    let mut served = pin!(session.serve(channel));
                    tokio::select! {
                        served = &mut served => (served, None),
                        denial = session.until_revoked(changes) => {
                            session.revoked.cancel();
                            // Only dropping it would leave threads at work, and the client without the reason.
                            timeout(REVOCATION_DEADLINE, served).await.ok();
                            (Err(revoked()), Some(denial))
                        }
                    }
                };
                session.log_end(served, denial);
            }
            (Ok(_), None) => {
                tracing::error!(peer = source.name, "a client was let in that nobody has judged");
            }
            (Err(error), _) => self.log_failure(&source, accountable, &error, fault::of(&error, reached)),
        }
    }

    /// Notes that a handshake has come to nothing. "connection failed" with its peer is one stable line for each, for fail2ban
    /// and the like: only garbage and clients that do not belong here get it. Every text in it is our own.
    fn log_failure(&self, source: &Source, accountable: Option<IpAddr>, error: &io::Error, fault: Fault) {
        if fault == Fault::Client {
            self.admission.charge(accountable, Instant::now());
        }
        let (peer, limits) = (&source.name, &self.log_limits);
        match fault {
            Fault::Client | Fault::Denied => {
                if limits.failed.admits() {
                    tracing::warn!(peer, error = error.to_string(), "connection failed");
                }
            }
            Fault::Full | Fault::Busy => {
                if limits.turned_away.admits() {
                    tracing::info!(peer, %error, "connection turned away");
                }
            }
            // A first contact, which shows the key to somebody and comes back, or a balancer that looks after us.
            Fault::Nobody if error.kind() == io::ErrorKind::ConnectionAborted => {
                tracing::debug!(peer, %error, "connection closed");
            }
            Fault::Nobody => {
                if limits.unfinished.admits() {
                    tracing::info!(peer, %error, "handshake not finished");
                }
            }
        }
    }
}

impl Session<'_> {
    async fn serve(&self, mut channel: Channel<Socket>) -> io::Result<()> {
        let stopping = &self.server.stopping;
        loop {
            self.note(None);
            let idle_timeout = self.server.config().idle_timeout;
            let incoming = tokio::select! {
                biased;
                () = self.revoked.cancelled() => return revoke(channel).await,
                () = stopping.cancelled() => return in_time(channel.close()).await,
                incoming = timeout(idle_timeout, channel.next_incoming()) => incoming,
            };
            let Ok(incoming) = incoming else {
                tracing::debug!(client = self.principal().name, "connection idle for too long");
                return in_time(channel.close()).await;
            };
            match incoming? {
                Incoming::Open(target) => {
                    let served = self.serve_stream(channel, target).await?;
                    let Some(idle) = served else { return Ok(()) };
                    channel = idle;
                }
                Incoming::Park(lease) => {
                    // Rights may have changed since the handshake.
                    let Ok(principal) = self.judge_again(&self.server.access.look()) else {
                        return revoke(channel).await;
                    };
                    let Some(parking) = self.server.handlers.parking(&principal.identity, &lease) else {
                        return in_time(channel.close()).await;
                    };
                    self.note(Some(parking.target()));
                    // Its lease may not have ended yet, and nobody judges by that change again.
                    if self.may_keep_open(&principal).is_err() {
                        return revoke(channel).await;
                    }
                    let streams = &self.server.streams;
                    // On the heap, so that the many channels that are never parked have no room for it.
                    let (throttle, revoked) = (&self.throttle, &self.revoked);
                    return Box::pin(parking.serve(
                        channel,
                        throttle,
                        idle_timeout,
                        stopping,
                        revoked,
                        streams,
                    ))
                    .await;
                }
                Incoming::SignOfLife => {}
                Incoming::Close => return in_time(channel.close()).await,
            }
        }
    }

    /// Serves one stream; `None` where the channel has ended with it.
    async fn serve_stream(
        &self,
        channel: Channel<Socket>,
        target: Target,
    ) -> io::Result<Option<Channel<Socket>>> {
        // Rights may have changed since the handshake.
        let Ok(principal) = self.judge_again(&self.server.access.look()) else {
            return revoke(channel).await;
        };
        self.note(Some(target.clone()));
        let _open = self.server.streams.begin();
        let request = RequestContext {
            principal: &principal,
            current: &self.principal,
            source: self.source,
            origin: self.origin,
            target: &target,
            config: &self.server.config(),
            network: &self.server.network,
            meter: &self.meter,
            throttle: &self.throttle,
            drops: &self.server.drops,
            log_limits: &self.server.log_limits,
            stopping: &self.server.stopping,
            revoked: &self.revoked,
            open: &self.target,
        };
        self.server.handlers.serve(channel, request).await
    }

    /// Notes how a connection of a client has ended that was in; with `denial` where it has lost the right to be in, or to what
    /// it had open.
    fn log_end(&self, served: io::Result<()>, denial: Option<Denial>) {
        let (peer, client) = (&self.source.name, &self.principal().name);
        let Err(error) = served else {
            tracing::debug!(peer, client, "connection closed");
            return;
        };
        if !self.server.log_limits.ended_early.admits() {
            return;
        }
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let target = target.map(|open| open.target.to_string());
        let denied = denial.map(tracing::field::display);
        tracing::info!(peer, client, target, error = error.to_string(), denied, "connection ended early");
    }

    /// Waits until the client may no longer be in, or may no longer have what it has open, and says why. Its rights are judged
    /// by each of the `changes`, and when they expire.
    async fn until_revoked(&self, mut changes: watch::Receiver<Snapshot>) -> Denial {
        loop {
            tokio::select! {
                // Where nobody publishes any more, the server has ended.
                changed = changes.changed() => if changed.is_err() { std::future::pending().await },
                () = until(self.principal().grant.expires) => {}
            }
            let snapshot = changes.borrow_and_update().clone();
            let judged = self.judge_again(&snapshot);
            if let Err(denial) = judged.and_then(|principal| self.may_keep_open(&principal)) {
                return denial;
            }
        }
    }

    /// Whether the client may have what it has open, if anything is.
    fn may_keep_open(&self, principal: &Principal) -> Result<(), Denial> {
        let open = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(open) = open else { return Ok(()) };
        permits(&Request { principal, source: self.origin.source, action: open.action() }).map(drop)
    }

    /// As the file of clients says, or as before where that says nothing.
    fn judge_again(&self, snapshot: &Snapshot) -> Result<Arc<Principal>, Denial> {
        let before = self.principal();
        let Some(judged) = self.server.reauthorize(&before.identity, self.origin, snapshot) else {
            let (principal, source) = (&*before, self.origin.source);
            permits(&Request { principal, source, action: Action::Enter })?;
            return Ok(before);
        };
        let principal = Arc::new(judged?);
        self.throttle.set_rate(principal.rights().max_rate());
        *self.principal.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&principal);
        Ok(principal)
    }

    fn seen(&self) -> Seen {
        let (principal, target) = (Arc::clone(&self.principal), Arc::clone(&self.target));
        Seen { principal, target, meter: self.meter.clone() }
    }

    fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.principal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, target: Option<Target>) {
        self.meter.reset();
        let open = target.map(|target| OpenTarget::new(target, Timestamp::now()));
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

/// Waits until a moment of the clock comes; for ever where there is none.
async fn until(moment: Option<Timestamp>) {
    let Some(moment) = moment else { return std::future::pending().await };
    let left = Timestamp::now().duration_until(moment);
    sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// How long whatever serves a client that has lost its rights may take to tell it so, and to end.
const REVOCATION_DEADLINE: Duration = Duration::from_secs(5);
