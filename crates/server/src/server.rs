//! What all connections of a server share.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use cli_support::admin::{InviteCounts, ResumptionState, TrafficHistory};
use cli_support::home::Home;
use cli_support::identity::Identity as _;
use cli_support::invocation::Naming;
use cli_support::log_limit::WINDOW;
use crypto_core::identity::ServerKey;
use crypto_core::ticket::TicketKey;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::address::Address;
use tunnel::counter::Counter;
use tunnel::drops::DropCounter;
use tunnel::listener::{Listener, Source};
use tunnel::network::Network;
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{ClientIdentity, ServerLimits};

use crate::access::{AccessWatcher, Advice, Denial, Enrolment, Origin, Principal, Snapshot, enter};
use crate::accounts::{AccountHandle, Accounts};
use crate::admission::Admission;
use crate::audit::{Audit, Event};
use crate::counters::Counters;
use crate::descriptors::Shares;
use crate::error::Error;
use crate::limits::Limits;
use crate::log::LogLimits;
use crate::open::OpenSessions;
use crate::reloadable_config::ReloadableConfig;
use crate::services::Handlers;
use crate::settings::{Identity, Settings};
use crate::stream_owner::Streams;
use crate::tried_invites::TriedInvites;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) identity: Identity,
    tickets: Arc<TicketKey>,
    pub(crate) access: AccessWatcher,
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// Held by the one thread that takes an invite.
    pub(crate) taking: Arc<Semaphore>,
    pub(crate) tried_invites: TriedInvites,
    pub(crate) handlers: Handlers,
    config: watch::Sender<Arc<ReloadableConfig>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) log_limits: LogLimits,
    pub(crate) counters: Arc<Counters>,
    pub(crate) network: Network,
    pub(crate) streams: Counter,
    pub(crate) open: OpenSessions,
    /// Streams that outlive their channels.
    pub(crate) resumable: Arc<Streams>,
    pub(crate) drops: DropCounter,
    /// No new streams any more.
    pub(crate) stopping: CancellationToken,
    /// No new connections any more: from `stopping` on they are for clients whose streams are held, and come for them.
    pub(crate) closed: CancellationToken,
    /// Nobody waits any longer for the streams that are open: they are reset.
    pub(crate) ending: CancellationToken,
    /// Nobody watches over the connections any more: they end, whatever they are at.
    pub(crate) ended: CancellationToken,
    /// All connections, which the end of the program waits for.
    pub(crate) connections: TaskTracker,
    pub(crate) started: Instant,
    /// When the file of the server's key was written, where it has one.
    pub(crate) key_written_at: Option<SystemTime>,
    /// What the connections run on.
    pub(crate) runtime: Handle,
    /// For charts, where somebody looks at them.
    pub(crate) history: TrafficHistory,
    listening: Mutex<Vec<(Address, Vec<String>)>>,
    /// How the invites stood when their file was read last; `None` where it could not be.
    pub(crate) invite_counts: Mutex<Option<(Instant, Option<InviteCounts>)>>,
}

impl Server {
    pub(crate) fn new(settings: Settings, done: mpsc::Sender<Result<(), Error>>) -> Self {
        let Settings { identity, tickets, access, accounts, services, config, network } = settings;
        let drops = DropCounter::default();
        let key_written_at = match &identity {
            Identity::Key(_) => key_written_at(access.home()),
            Identity::Psk(_) => None,
        };
        let counters = Arc::<Counters>::default();
        let resumption = config.resumption;
        let shares = Shares::of(cli_support::hardening::raise_descriptor_limit());
        Self {
            identity,
            tickets,
            access: AccessWatcher::new(access),
            accounts: accounts.map(Arc::new),
            taking: Arc::new(Semaphore::new(1)),
            tried_invites: TriedInvites::default(),
            handlers: services.register(&network, &drops, shares.visitors, done),
            config: watch::Sender::new(Arc::new(config)),
            admission: Arc::new(Admission::new(&shares)),
            limits: Arc::new(Limits::new(shares.channels)),
            log_limits: LogLimits::default(),
            network,
            streams: Counter::default(),
            open: OpenSessions::new(Arc::clone(&counters)),
            resumable: Streams::new(resumption, shares.held),
            counters,
            drops,
            stopping: CancellationToken::new(),
            closed: CancellationToken::new(),
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
            connections: TaskTracker::new(),
            started: Instant::now(),
            key_written_at,
            runtime: Handle::current(),
            history: TrafficHistory::default(),
            listening: Mutex::default(),
            invite_counts: Mutex::default(),
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
        let judged = self.access.look().authorize(client, origin, self.config().anonymous);
        judged.map(|principal| self.with_account(principal))
    }

    /// A principal with its account, where it has one.
    fn with_account(&self, mut principal: Principal) -> Principal {
        if principal.enrolment == Enrolment::Enrolled
            && let Some(accounts) = &self.accounts
        {
            let account = accounts.of(&principal.identity);
            account.set_quota(principal.rights().quota);
            principal.account = AccountHandle(Some(account));
        }
        principal
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
        let judged = snapshot.reauthorize(client, origin, self.config().anonymous)?;
        Some(judged.map(|principal| self.with_account(principal)))
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> &Audit {
        self.access.file().audit()
    }

    /// Reports at intervals the number of lines that were left out of the logs, as long as the server runs.
    pub(crate) async fn tell_left_out(&self) -> Infallible {
        loop {
            sleep(WINDOW).await;
            self.tell_left_out_once();
        }
    }

    /// Reports the number of lines that were left out of the logs since the last report.
    pub(crate) fn tell_left_out_once(&self) {
        self.log_limits.tell_once();
        self.audit().note_left_out();
    }

    /// Says in the logs who was refused, and in one of them how to let it in.
    pub(crate) fn tell_refused(&self, client: &ClientIdentity, source: &Source, denial: Denial) {
        let (peer, identity, reason) = (&*source.name, &*client.to_string(), &*denial.to_string());
        self.audit().note(&Event::Refused { peer, identity: Some(identity), reason });
        if !self.log_limits.refused.admits() {
            return;
        }
        let Advice { client, command } = Advice::of(client, source.ip(), denial, self.access.file().home());
        let command = command.map(|command| Naming::of_process().show(&command).into_owned());
        tracing::info!(
            peer = source.name,
            client,
            reason = denial.to_string(),
            allow = command,
            "client refused"
        );
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

    /// How it is with the streams that outlive their channels.
    pub(crate) fn resumption(&self) -> ResumptionState {
        let counts = &self.counters.resumption;
        ResumptionState {
            held: self.resumable.held(),
            kept: self.resumable.kept(),
            resumed: counts.resumed.sum(),
            lost: counts.lost.sum(),
            longest_pause_ms: u64::try_from(self.resumable.longest_pause().as_millis()).unwrap_or(u64::MAX),
        }
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

    /// Notes where `listener` listens, which was asked for as `address`.
    pub(crate) fn note_listening(&self, address: &Address, listener: &Listener) {
        let bound = listener.addresses().unwrap_or_default();
        self.listening().push((address.clone(), bound.iter().map(ToString::to_string).collect()));
    }

    /// Notes that nothing is listened on any more but what was asked for as an address that `is_kept`.
    pub(crate) fn note_closed(&self, is_kept: impl Fn(&Address) -> bool) {
        self.listening().retain(|(address, _)| is_kept(address));
    }

    /// Where the server listens: each address as it was asked for, and those that it has led to.
    pub(crate) fn listening(&self) -> MutexGuard<'_, Vec<(Address, Vec<String>)>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the file of the server's key was written; `None` where the server has been given a key that is not there.
fn key_written_at(home: &Home) -> Option<SystemTime> {
    home.file(ServerKey::FILE_NAME).metadata().ok()?.modified().ok()
}
