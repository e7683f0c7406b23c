//! The session of an authorized client: serves one stream after another until the client leaves or loses its rights.

mod forwarded;
mod resumable;

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cli_support::metrics::{CountedStream, StreamOutcome};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tunnel::closing::{into_io, stopped};
use tunnel::dial::in_time;
use tunnel::listener::Source;
use tunnel::relay::relay;
use tunnel::socket::Socket;
use wire_protocol::message::{RefusedCode, Retention, Target};
use wire_protocol::stream::{Channel, Incoming, OpenedStream, ResumeRequest, RetentionBudget};

use crate::access::{Action, Denial, Origin, Principal, Request, Snapshot, permits};
use crate::limits::OpenChannel;
use crate::meter::Meter;
use crate::open::{OpenTarget, Seen};
use crate::revocation::Revocation;
use crate::server::Server;
use crate::services::handler::Served;
use crate::services::request::RequestContext;
use crate::services::reset::revoke;
use crate::services::terms::ClientTerms;
use crate::throttle::Throttle;

/// A client that is in, and its channel, on which nothing has happened yet.
pub(crate) struct Admitted {
    pub(crate) session: Session,
    pub(crate) channel: Channel<Socket>,
}

/// A client that is in.
#[derive(Debug)]
pub(crate) struct Session {
    server: Arc<Server>,
    source: Source,
    since: Timestamp,
    /// As it was judged last.
    principal: Arc<Mutex<Arc<Principal>>>,
    /// Changes of what it is judged by, since before it was judged first.
    changes: watch::Receiver<Snapshot>,
    /// It has come while the server is stopping, for streams that are held.
    is_late: bool,
    throttle: Throttle,
    /// What the resumable streams of the client may keep.
    budget: RetentionBudget,
    /// What it has open, or waits for.
    target: Arc<Mutex<Option<Arc<OpenTarget>>>>,
    /// Bytes of that.
    meter: Meter,
    /// It has lost the right to that: whatever serves it tells it so, and ends.
    revoked: Revocation,
    _place: OpenChannel,
}

impl Session {
    pub(crate) fn new(
        server: Arc<Server>,
        source: Source,
        principal: Principal,
        place: OpenChannel,
        changes: watch::Receiver<Snapshot>,
    ) -> Self {
        let meter = Meter::default();
        let throttle = server.limits.throttle(&principal.identity).metered(meter.clone());
        throttle.set_rate(principal.rights().max_rate());
        let new_budget = || server.resumable.client_budget();
        let budget = server.limits.retention_budget(&principal.identity, new_budget);
        let revoked = Revocation::until(&server.ending);
        Self {
            budget,
            is_late: server.stopping.is_cancelled(),
            server,
            source,
            since: Timestamp::now(),
            principal: Arc::new(Mutex::new(Arc::new(principal))),
            changes,
            throttle,
            target: Arc::default(),
            meter,
            revoked,
            _place: place,
        }
    }

    /// Serves the client to the end of its channel.
    pub(crate) async fn serve(&self, channel: Channel<Socket>) {
        let _seen = self.server.open.enter(self.seen());
        self.note_seen();
        let (served, denial) = {
            let mut served = pin!(self.serve_channel(channel));
            tokio::select! {
                served = &mut served => (served, None),
                denial = self.until_revoked() => {
                    self.revoked.cancel(denial.reset_code());
                    // Only dropping it would leave threads at work, and the client without the reason.
                    timeout(REVOCATION_DEADLINE, served).await.ok();
                    (Err(stopped(self.revoked.code())), Some(denial))
                }
            }
        };
        self.note_seen();
        self.log_end(served, denial);
    }

    /// Notes in the account of the client that it is here.
    fn note_seen(&self) {
        if let Some(account) = &self.principal().account.0 {
            account.note_seen(&self.source.name, Timestamp::now());
        }
    }

    /// Serves one stream after the other, to the end of the channel.
    async fn serve_channel(&self, mut channel: Channel<Socket>) -> io::Result<()> {
        loop {
            // What one wait gives is taken apart before the next, so that a task has no room for both.
            let Some((asking, asked)) = self.next_stream(channel).await? else { return Ok(()) };
            let idle = match asked {
                Asked::Open(..) if self.is_late => Some(asking.refuse_open(RefusedCode::Stopping).await?),
                Asked::Open(target, retention) => self.serve_stream(asking, &target, retention).await?,
                // On the heap, so that the many others have no room for it.
                Asked::Resume(request) => Box::pin(self.resume_stream(asking, &request)).await?,
            };
            let Some(idle) = idle else { return Ok(()) };
            channel = idle;
        }
    }

    /// Waits for the next stream that the client asks for; `None` where the channel has ended instead.
    async fn next_stream(
        &self,
        mut channel: Channel<Socket>,
    ) -> io::Result<Option<(Channel<Socket>, Asked)>> {
        let Server { stopping, closed, .. } = &*self.server;
        let stopping = if self.is_late { closed } else { stopping };
        self.note(None);
        // What ends a channel is on the heap, and so is a parked one, so that the many others have no room for it.
        let ended = loop {
            let idle_timeout = self.server.config().idle_timeout;
            let incoming = tokio::select! {
                biased;
                () = self.revoked.cancelled() => break Box::pin(revoke(channel, self.revoked.code())).await,
                () = stopping.cancelled() => break Box::pin(in_time(channel.close())).await,
                incoming = timeout(idle_timeout, channel.next_incoming()) => incoming,
            };
            let Ok(incoming) = incoming else {
                tracing::debug!(client = self.principal().name, "connection idle for too long");
                break Box::pin(in_time(channel.close())).await;
            };
            match incoming? {
                Incoming::Open(target) => return Ok(Some((channel, Asked::Open(target, None)))),
                Incoming::OpenResumable(target, retention) => {
                    return Ok(Some((channel, Asked::Open(target, Some(retention)))));
                }
                Incoming::Resume(request) => return Ok(Some((channel, Asked::Resume(request)))),
                Incoming::Park(lease) => {
                    break Box::pin(self.serve_parked(channel, lease, idle_timeout)).await;
                }
                Incoming::SignOfLife => {}
                Incoming::Close => break Box::pin(in_time(channel.close())).await,
            }
        };
        ended.map(|()| None)
    }

    /// Serves one stream; `None` where the channel has ended with it. With `retention` the stream is to outlive its channel.
    async fn serve_stream(
        &self,
        channel: Channel<Socket>,
        target: &Target,
        retention: Option<Retention>,
    ) -> io::Result<Option<Channel<Socket>>> {
        let _open = self.server.streams.begin();
        let counted = self.server.counters.streams.begin(target.into());
        let account = self.principal().account.clone();
        if let Some(account) = &account.0 {
            account.note_stream();
        }
        let carried = self.carry_stream(channel, target, retention, &counted).await;
        if let (Some(account), true) = (&account.0, counted.is_refused()) {
            account.note_refused();
        }
        counted.end(match &carried {
            Ok(_) => StreamOutcome::Completed,
            Err(_) if self.revoked.is_cancelled() && !self.server.ending.is_cancelled() => {
                StreamOutcome::Revoked
            }
            Err(_) => StreamOutcome::Failed,
        });
        carried
    }

    /// As [`Session::serve_stream`], for a stream that is counted.
    async fn carry_stream(
        &self,
        channel: Channel<Socket>,
        target: &Target,
        retention: Option<Retention>,
        counted: &CountedStream<'_>,
    ) -> io::Result<Option<Channel<Socket>>> {
        let announced = match retention {
            Some(_) => self.announce(&channel, target)?,
            None => None,
        };
        // On the heap, so that the room for it is given back once a connection stands, of which there may be thousands.
        let (stream, target) = match Box::pin(self.open_stream(channel, target, retention, counted)).await? {
            Served::Idle(channel) => return Ok(Some(channel)),
            Served::Ended => return Ok(None),
            Served::Connection { stream, target } => (stream, target),
        };
        match stream {
            // On the heap, each: a stream has room for one way of being carried, not for all.
            OpenedStream::Plain(stream) => {
                if let Some(announced) = announced {
                    announced.cannot_be_taken_over();
                }
                let terms = self.terms();
                Box::pin(relay(stream, target, &terms)).await.map(Some).map_err(into_io)
            }
            OpenedStream::Resumable(stream) => self.carry_announced(stream, target, announced)?.await,
        }
    }

    /// Opens a stream, or refuses it. All but connections is served to its end.
    async fn open_stream(
        &self,
        channel: Channel<Socket>,
        target: &Target,
        retention: Option<Retention>,
        counted: &CountedStream<'_>,
    ) -> io::Result<Served> {
        // Rights may have changed since the handshake.
        let principal = match self.judge_again(&self.server.access.look()) {
            Ok(principal) => principal,
            Err(denial) => return revoke(channel, denial.reset_code()).await,
        };
        self.note(Some(Arc::new(OpenTarget::new(target.clone(), Timestamp::now()))));
        let request = RequestContext {
            principal: &principal,
            current: &self.principal,
            source: &self.source,
            origin: self.origin(),
            target,
            retention,
            budget: &self.budget,
            resumable: &self.server.resumable,
            config: &self.server.config(),
            network: &self.server.network,
            meter: &self.meter,
            throttle: &self.throttle,
            drops: &self.server.drops,
            log_limits: &self.server.log_limits,
            audit: self.server.audit(),
            counters: &self.server.counters,
            stream: counted,
            stopping: &self.server.stopping,
            revoked: &self.revoked,
            open: &self.target,
        };
        self.server.handlers.serve(channel, &request).await
    }

    /// On which terms a stream is carried.
    fn terms(&self) -> ClientTerms<'_> {
        let (throttle, revoked, drained) = (&self.throttle, &self.revoked, &self.server.stopping);
        ClientTerms { throttle, revoked, drained }
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
    async fn until_revoked(&self) -> Denial {
        let mut changes = self.changes.clone();
        let mut used_up = self.server.accounts.as_ref().map(|accounts| accounts.used_up());
        loop {
            tokio::select! {
                // Where nobody publishes any more, the server has ended.
                changed = changes.changed() => if changed.is_err() { std::future::pending().await },
                () = until(self.principal().grant.expires) => {}
                () = told(used_up.as_mut()), if self.principal().rights().quota.is_some() => {}
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
        permits(&Request { principal, source: self.source.ip(), action: open.action() }).map(drop)
    }

    /// As the file of clients says, or as before where that says nothing.
    fn judge_again(&self, snapshot: &Snapshot) -> Result<Arc<Principal>, Denial> {
        let before = self.principal();
        let Some(judged) = self.server.reauthorize(&before.identity, self.origin(), snapshot) else {
            let (principal, source) = (&*before, self.source.ip());
            permits(&Request { principal, source, action: Action::Enter })?;
            return Ok(before);
        };
        let principal = Arc::new(judged?);
        self.throttle.set_rate(principal.rights().max_rate());
        *self.principal.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&principal);
        Ok(principal)
    }

    fn origin(&self) -> Origin {
        Origin { source: self.source.ip(), is_local: self.source.is_local() }
    }

    fn seen(&self) -> Seen {
        let (principal, target) = (Arc::clone(&self.principal), Arc::clone(&self.target));
        Seen {
            principal,
            target,
            from: self.source.name.as_str().into(),
            since: self.since,
            meter: self.meter.clone(),
        }
    }

    fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.principal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, target: Option<Arc<OpenTarget>>) {
        self.seen().note(target, &self.server.counters);
    }
}

/// What a client asks for on an idle channel.
enum Asked {
    /// A stream, which is to outlive its channel where there is something to be kept of it.
    Open(Target, Option<Retention>),
    /// One of its streams, from another channel.
    Resume(ResumeRequest),
}

/// Waits until the quota of a client is used up, of any client; for ever where nobody counts.
async fn told(used_up: Option<&mut watch::Receiver<()>>) {
    let is_told = match used_up {
        Some(used_up) => used_up.changed().await.is_ok(),
        None => false,
    };
    if !is_told {
        std::future::pending::<()>().await;
    }
}

/// Waits until a moment of the clock comes; for ever where there is none.
async fn until(moment: Option<Timestamp>) {
    let Some(moment) = moment else { return std::future::pending().await };
    let left = Timestamp::now().duration_until(moment);
    // On the heap, since few rights ever expire.
    Box::pin(sleep(Duration::try_from(left).unwrap_or_default())).await;
}

/// How long whatever serves a client that has lost its rights may take to tell it so, and to end.
const REVOCATION_DEADLINE: Duration = Duration::from_secs(5);
