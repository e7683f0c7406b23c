//! One connection: the handshake, the decision who may come in, then one stream after another.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use program::crew;
use program::dial::in_time;
use program::listener::Source;
use program::proxy_header::ProxyHeader;
use program::socket::Socket;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wire_protocol::message::{DeniedCode, RefusedCode, Target};
use wire_protocol::stream::{self, Incoming, SecureStream};

use crate::access::{Principal, Origin, Rights, Enrolment, Transport};
use crate::admission::fault::{self, Fault};
use crate::admission::{HANDSHAKE_DEADLINE, HalfOpen};
use crate::open::{Meter, Seen};
use crate::quota::QuotaKey;
use crate::server::Server;
use crate::service::Service;
use crate::service::farewell::{revoke, revoked};
use crate::service::refusal::Refusal;
use crate::service::tunnel::{self, Visit};
use crate::throttle::Throttle;

impl OpenTarget {
    pub(crate) fn new(target: Target, since: Timestamp) -> Self {
        Self { target, since, address: None, header: None }
    }
}

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

/// What a client has open.
#[derive(Debug, Clone)]
pub(crate) struct OpenTarget {
    pub(crate) target: Target,
    pub(crate) since: Timestamp,
    /// Where its host has led to.
    address: Option<SocketAddr>,
    /// Whether the target was told who connects, once it is connected to.
    header: Option<ProxyHeader>,
}

impl Server {
    /// Serves a connection to its end. `accountable` is the source that answers for failures.
    pub(crate) async fn serve_connection(
        self: &Arc<Self>,
        socket: Socket,
        source: Source,
        accountable: Option<IpAddr>,
        place: HalfOpen,
    ) {
        let origin = if source.is_local() { Origin::Local } else { Origin::Remote };
        let mut admitted = None;
        let handshake = stream::accept_channel(socket, self.handshake_config(origin), &place, |client| {
            let principal = self
                .authorize(client, source.ip(), origin)
                .inspect_err(|_| self.tell_refused(client, &source))?;
            let key = QuotaKey::of(&principal, accountable);
            let most = principal.rights.max_channels();
            let in_all = self.live().max_channels;
            let channel =
                self.limits.begin_channel(key, most, in_all).ok_or(DeniedCode::TooManyChannels)?;
            admitted = Some((principal, channel));
            Ok(())
        });
        let handshake = tokio::select! {
            handshake = timeout(HANDSHAKE_DEADLINE, handshake) => handshake.unwrap_or_else(|_| {
                let message =
                    format!("the handshake took longer than {} seconds", HANDSHAKE_DEADLINE.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }),
            // Whoever is not in yet does not hold up the end.
            () = self.stopping.cancelled() => return,
        };
        let reached = place.reached();
        drop(place);

        match (handshake, admitted) {
            (Ok(stream), Some((principal, channel))) => {
                tracing::debug!(
                    peer = source.name,
                    client = principal.name,
                    mode = %stream.session().mode,
                    "connection established"
                );
                if principal.enrolment == Enrolment::Enrolled {
                    self.admission.note_known(accountable, Instant::now());
                }
                let meter = Meter::default();
                let throttle = self.limits.throttle(channel.key()).metered(meter.clone());
                throttle.set_rate(principal.rights.max_rate());
                // Before the first look at the rights, so that no change goes by between the two.
                let rechecks = self.rechecks.subscribe();
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
                let served = {
                    let mut served = pin!(session.serve(stream));
                    tokio::select! {
                        served = &mut served => served,
                        () = session.until_revoked(rechecks) => {
                            session.revoked.cancel();
                            // Only dropping it would leave threads at work, and the client without the reason.
                            timeout(FAREWELL, served).await.ok();
                            Err(revoked())
                        }
                    }
                };
                session.log_end(served);
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
    async fn serve(&self, mut stream: SecureStream<Socket>) -> io::Result<()> {
        let stopping = &self.server.stopping;
        loop {
            self.note(None);
            let idle_timeout = self.server.live().idle_timeout;
            let incoming = tokio::select! {
                biased;
                () = self.revoked.cancelled() => return revoke(stream).await,
                () = stopping.cancelled() => return in_time(stream.close()).await,
                incoming = timeout(idle_timeout, stream.next_incoming()) => incoming,
            };
            let Ok(incoming) = incoming else {
                tracing::debug!(client = self.principal().name, "connection idle for too long");
                return in_time(stream.close()).await;
            };
            match incoming? {
                Incoming::Open(target) => {
                    let served = self.serve_stream(stream, target).await?;
                    let Some(idle) = served else { return Ok(()) };
                    stream = idle;
                    // The next one may have little to do.
                    crew::come_back().await;
                }
                Incoming::Park(lease) => {
                    let principal = self.principal();
                    let Some(parking) = self.server.leases.parking(&principal.identity, &lease) else {
                        return in_time(stream.close()).await;
                    };
                    self.note(Some(parking.target()));
                    let streams = &self.server.streams;
                    // On the heap, so that the many channels that are never parked have no room for it.
                    let (throttle, revoked) = (&self.throttle, &self.revoked);
                    return Box::pin(parking.serve(
                        stream,
                        throttle,
                        idle_timeout,
                        stopping,
                        revoked,
                        streams,
                    ))
                    .await;
                }
                Incoming::SignOfLife => {}
                Incoming::Close => return in_time(stream.answer_close()).await,
            }
        }
    }

    /// Serves one stream; `None` where the channel has ended with it.
    async fn serve_stream(
        &self,
        stream: SecureStream<Socket>,
        target: Target,
    ) -> io::Result<Option<SecureStream<Socket>>> {
        // Rights may have changed since the handshake.
        let Ok(principal) = self.judge_again() else { return revoke(stream).await };
        self.note(Some(target.clone()));
        let _open = self.server.streams.begin();
        let refusal: Refusal = match (&target, &self.server.service) {
            (Target::Message, Service::Messages(messages)) => {
                if principal.rights.messages() {
                    return messages
                        .receive(stream, &principal, QuotaKey::of(&principal, self.source.ip()), &self.meter, &self.revoked)
                        .await
                        .map(Some);
                }
                RefusedCode::NotAllowed.into()
            }
            (Target::Pipe, Service::Pipe(_)) if !principal.rights.pipe() => RefusedCode::NotAllowed.into(),
            (Target::Pipe, Service::Pipe(pipe)) => match pipe.claim() {
                Some(ends) => {
                    let result = ends.serve(stream, &self.meter, &self.revoked).await;
                    // The server is ending already when nobody is there to be told.
                    self.server.done.send(result).await.ok();
                    return Ok(None);
                }
                None => RefusedCode::Busy.into(),
            },
            (Target::Listen { address, kind, lease }, Service::Messages(_)) => {
                let claimed = if principal.rights.allows_listen(address) {
                    self.server.leases.claim(&principal.identity, &principal.name, address, *kind, *lease).await
                } else {
                    Err(RefusedCode::NotAllowed.into())
                };
                match claimed {
                    Ok(lease) => return lease.hold(stream, &self.server.stopping, &self.revoked).await,
                    Err(refusal) => refusal,
                }
            }
            (
                Target::Tcp { .. } | Target::Unix { .. } | Target::Udp { .. } | Target::Service { .. },
                Service::Messages(_),
            ) => {
                let visit = Visit {
                    principal: &principal,
                    source: self.source,
                    throttle: &self.throttle,
                    drops: &self.server.drops,
                    log_limits: &self.server.log_limits,
                    stopping: &self.server.stopping,
                    revoked: &self.revoked,
                    reached: &|address, header| self.note_reached(address, header),
                };
                return tunnel::serve(stream, &target, visit, &self.server.live()).await.map(Some);
            }
            _ => RefusedCode::NotOffered.into(),
        };
        let log_limits = &self.server.log_limits;
        refusal.tell(stream, &target, &self.source.name, &principal.name, log_limits).await.map(Some)
    }

    /// Notes how a connection of a client has ended that was in.
    fn log_end(&self, served: io::Result<()>) {
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
        tracing::info!(peer, client, target, error = error.to_string(), "connection ended early");
    }

    /// Waits until the client may no longer be in, or may no longer have what it has open.
    async fn until_revoked(&self, mut rechecks: watch::Receiver<()>) {
        loop {
            let next = self.principal().expires.map_or(RECHECK_EVERY, |expires| {
                let left = Timestamp::now().duration_until(expires);
                Duration::try_from(left).unwrap_or_default().min(RECHECK_EVERY)
            });
            // Where nobody can call for a look any more, the server has ended.
            timeout(next, rechecks.changed()).await.ok();
            let Ok(principal) = self.judge_again() else { return };
            let target = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if target.is_some_and(|open| !allows(&principal.rights, &open)) {
                return;
            }
        }
    }

    /// As the file of clients says now, or as before where that says nothing.
    fn judge_again(&self) -> Result<Arc<Principal>, DeniedCode> {
        let before = self.principal();
        let judged = self.server.reauthorize(&before.identity, self.source.ip(), self.origin);
        let Some(judged) = judged else {
            let has_expired = before.expires.is_some_and(|expires| expires <= Timestamp::now());
            return if has_expired { Err(DeniedCode::NotAllowed) } else { Ok(before) };
        };
        let principal = Arc::new(judged?);
        self.throttle.set_rate(principal.rights.max_rate());
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

    fn note_reached(&self, address: Option<SocketAddr>, header: ProxyHeader) {
        if let Some(open) = &mut *self.target.lock().unwrap_or_else(PoisonError::into_inner) {
            open.address = address;
            open.header = Some(header);
        }
    }
}

/// Whether a client with these rights could have this open.
fn allows(rights: &Rights, open: &OpenTarget) -> bool {
    let reaches = |transport, host: &str, port| match open.address {
        Some(address) => rights.allows_address(transport, host, address),
        None => rights.may_resolve(transport, host, port),
    };
    // A connection without a header is not what a right to one with it permits.
    let is_told = |now| open.header != Some(ProxyHeader::None) || now == ProxyHeader::None;
    match &open.target {
        Target::Message => rights.messages(),
        Target::Pipe => rights.pipe(),
        Target::Tcp { host, port } => {
            let told = |address| rights.tcp_header(host, address);
            reaches(Transport::Tcp, host, *port) && open.address.is_none_or(|address| is_told(told(address)))
        }
        Target::Udp { host, port } => reaches(Transport::Udp, host, *port),
        Target::Unix { path } => rights.allows_unix(path) && is_told(rights.unix_header(path)),
        Target::Service { name } => rights.allows_service(name),
        Target::Listen { address, .. } => rights.allows_listen(address),
        Target::Forwarded { .. } => false,
    }
}

/// A file may have been edited by hand, and a clock set anew.
const RECHECK_EVERY: Duration = Duration::from_secs(10);
/// How long whatever serves a client that has lost its rights may take to tell it so, and to end.
const FAREWELL: Duration = Duration::from_secs(5);
