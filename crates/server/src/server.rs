//! What all connections of a server share.

use std::sync::Arc;
use std::time::Instant;

use cli_support::admin::{Counts, Status};
use crypto_core::ticket::TicketKey;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::counter::Counter;
use tunnel::drops::DropCounter;
use tunnel::listener::Source;
use tunnel::network::Network;
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{ClientIdentity, ServerLimits};

use crate::access::{AccessWatcher, Advice, Denial, Origin, Principal, Snapshot, enter};
use crate::admission::Admission;
use crate::descriptors::Shares;
use crate::error::Error;
use crate::limits::Limits;
use crate::log::LogLimits;
use crate::open::OpenSessions;
use crate::reloadable_config::ReloadableConfig;
use crate::services::Handlers;
use crate::settings::{Identity, Settings};
use crate::tried_invites::TriedInvites;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    identity: Identity,
    tickets: Arc<TicketKey>,
    pub(crate) access: AccessWatcher,
    /// Held by the one thread that takes an invite.
    pub(crate) taking: Arc<Semaphore>,
    pub(crate) tried_invites: TriedInvites,
    pub(crate) handlers: Handlers,
    config: watch::Sender<Arc<ReloadableConfig>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) log_limits: LogLimits,
    pub(crate) network: Network,
    pub(crate) streams: Counter,
    pub(crate) open: OpenSessions,
    pub(crate) drops: DropCounter,
    /// No new streams any more.
    pub(crate) stopping: CancellationToken,
    /// Nobody watches over the connections any more: they end, whatever they are at.
    pub(crate) ended: CancellationToken,
    /// All connections, which the end of the program waits for.
    pub(crate) connections: TaskTracker,
    started: Instant,
}

impl Server {
    pub(crate) fn new(settings: Settings, done: mpsc::Sender<Result<(), Error>>) -> Self {
        let Settings { identity, tickets, access, services, config, network } = settings;
        let drops = DropCounter::default();
        let shares = Shares::of(cli_support::hardening::raise_descriptor_limit());
        Self {
            identity,
            tickets,
            access: AccessWatcher::new(access),
            taking: Arc::new(Semaphore::new(1)),
            tried_invites: TriedInvites::default(),
            handlers: services.register(&network, &drops, shares.visitors, done),
            config: watch::Sender::new(Arc::new(config)),
            admission: Arc::new(Admission::new(&shares)),
            limits: Arc::new(Limits::new(shares.channels)),
            log_limits: LogLimits::default(),
            network,
            streams: Counter::default(),
            open: OpenSessions::default(),
            drops,
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            connections: TaskTracker::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn config(&self) -> Arc<ReloadableConfig> {
        Arc::clone(&self.config.borrow())
    }

    pub(crate) fn set_config(&self, config: ReloadableConfig) {
        self.config.send_replace(Arc::new(config));
        self.recheck();
    }

    /// Looks again at every client that is in.
    pub(crate) fn recheck(&self) {
        self.access.recheck();
    }

    /// As [`Snapshot::authorize`], by what the file of clients says now.
    pub(crate) fn authorize(&self, client: &ClientIdentity, origin: Origin) -> Result<Principal, Denial> {
        if !self.could_be(client) {
            return enter(Principal::unproved(client), origin);
        }
        self.access.look().authorize(client, origin, self.config().anonymous)
    }

    /// As [`Snapshot::reauthorize`].
    pub(crate) fn reauthorize(
        &self,
        client: &ClientIdentity,
        origin: Origin,
        snapshot: &Snapshot,
    ) -> Option<Result<Principal, Denial>> {
        if !self.could_be(client) {
            return Some(enter(Principal::unproved(client), origin));
        }
        snapshot.reauthorize(client, origin, self.config().anonymous)
    }

    /// Says in the log who was refused, and how to let it in.
    pub(crate) fn tell_refused(&self, client: &ClientIdentity, source: &Source, denial: Denial) {
        if !self.log_limits.refused.admits() {
            return;
        }
        let Advice { client, command } = Advice::of(client, source.ip(), denial, self.access.file().home());
        tracing::info!(peer = source.name, client, reason = %denial, allow = command, "client refused");
    }

    /// Whether a client can have proved to this server that it is who it says. A ticket says so too, and whoever shares the
    /// ticket key, or has stolen it, can write anything into one: a pre-shared key counts only where it is in use.
    fn could_be(&self, client: &ClientIdentity) -> bool {
        self.identity.could_name(client)
    }

    /// What this server brings to a handshake now. Everything in it is shared, so this costs next to nothing.
    pub(crate) fn handshake_config(&self, origin: Origin) -> Arc<ServerConfig> {
        let (identity, psks) = match &self.identity {
            Identity::Key(key) => (Some(Arc::clone(key)), Default::default()),
            Identity::Psk(psks) => (None, psks.clone()),
        };
        let config = self.config();
        let anonymous = self.access.look().admits_anonymous(origin, config.anonymous);
        Arc::new(ServerConfig {
            identity,
            psks,
            tickets: Some(Arc::clone(&self.tickets)),
            client_auth: if anonymous { ClientAuth::Optional } else { ClientAuth::Required },
            limits: ServerLimits {
                idle_timeout_seconds: u32::try_from(config.idle_timeout.as_secs()).unwrap_or(u32::MAX),
            },
        })
    }

    /// Checks, in builds for tests, that everything was given back with the last connection: a permit that is forgotten is
    /// missing for as long as a server runs.
    pub(crate) fn assert_nothing_held(&self) {
        debug_assert_eq!(self.limits.channels(), 0, "channels are counted that are gone");
        debug_assert_eq!(self.streams.count(), 0, "streams are counted that are gone");
        debug_assert_eq!(self.handlers.leases(), 0, "leases are held by nobody");
        debug_assert!(self.open.is_empty(), "sessions are listed that are gone");
        debug_assert!(self.admission.is_idle(), "permits for handshakes are held by nobody");
    }

    pub(crate) fn status(&self) -> Status {
        let (channels, streams) = (self.limits.channels(), self.streams.count());
        let counts = Counts {
            channels,
            streams,
            leases: self.handlers.leases(),
            idle_channels: channels.saturating_sub(streams),
            dropped_datagrams: self.drops.count(),
        };
        let status = Status::of_this_process("server", self.started, counts).with_open(self.open.list());
        status.with_invites_tried(self.tried_invites.list())
    }
}
