//! What a client asks for, and all that is known of it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cli_support::metrics::CountedStream;
use tokio_util::sync::CancellationToken;
use tunnel::drops::DropCounter;
use tunnel::listener::Source;
use tunnel::network::Network;
use tunnel::proxy_header::ProxyHeader;
use tunnel::socket::Socket;
use wire_protocol::message::{RefusedCode, Retention, Target};
use wire_protocol::stream::{Channel, RetentionBudget};

use crate::access::{Action, Denial, Origin, Permit, Principal, Request, permits};
use crate::audit::{Audit, Event};
use crate::counters::Counters;
use crate::log::LogLimits;
use crate::meter::Meter;
use crate::open::OpenTarget;
use crate::reloadable_config::ReloadableConfig;
use crate::revocation::Revocation;
use crate::services::refusal::Refusal;
use crate::services::terms::ClientTerms;
use crate::stream_owner::Streams;
use crate::throttle::Throttle;

/// A request for a stream: who asks, from where, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    /// Who asks, as it was judged when it asked.
    pub(crate) principal: &'a Principal,
    /// As it was judged last.
    pub(crate) current: &'a Mutex<Arc<Principal>>,
    pub(crate) source: &'a Source,
    pub(crate) origin: Origin,
    pub(crate) target: &'a Target,
    /// What the client asks for where the stream is to outlive its channel.
    pub(crate) retention: Option<Retention>,
    /// What its resumable streams may keep.
    pub(crate) budget: &'a RetentionBudget,
    pub(crate) resumable: &'a Streams,
    pub(crate) config: &'a ReloadableConfig,
    /// Where its target is.
    pub(crate) network: &'a Network,
    /// Counts the bytes of the stream.
    pub(crate) meter: &'a Meter,
    pub(crate) throttle: &'a Throttle,
    /// Counts datagrams that are dropped.
    pub(crate) drops: &'a DropCounter,
    pub(crate) log_limits: &'a LogLimits,
    pub(crate) audit: &'a Audit,
    pub(crate) counters: &'a Counters,
    /// Counts the stream.
    pub(crate) stream: &'a CountedStream<'a>,
    /// Cancelled once the server takes no new streams any more.
    pub(crate) stopping: &'a CancellationToken,
    /// Cancelled once the client has lost the right to what it has open.
    pub(crate) revoked: &'a Revocation,
    /// What the client has open, which is judged again when its rights change.
    pub(crate) open: &'a Mutex<Option<Arc<OpenTarget>>>,
}

impl<'a> RequestContext<'a> {
    /// On which terms a stream is carried.
    pub(crate) fn terms(&self) -> ClientTerms<'a> {
        let Self { throttle, revoked, stopping, .. } = *self;
        ClientTerms { throttle, revoked, drained: stopping }
    }

    /// What the policy says to it, where `address` is what the host of the target has led to.
    pub(crate) fn permits(&self, address: Option<SocketAddr>) -> Result<Permit, Denial> {
        let action = Action::Open { target: self.target, address, header: None };
        permits(&Request { principal: self.principal, source: self.origin.source, action })
    }

    /// Notes which address the host of the target has led to, and which header the target is sent: both decide on whether the
    /// client may keep the stream when its rights change. Where they have changed while the target was being reached, they did
    /// not: then the client is judged by both now, and the stream revoked that it may not have.
    pub(crate) fn note_reached(&self, address: Option<SocketAddr>, header: ProxyHeader) {
        if let Some(open) = &mut *self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            let open = Arc::make_mut(open);
            open.address = address;
            open.header = Some(header);
        }
        let current = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        if std::ptr::eq(&raw const *current, self.principal) {
            return;
        }
        let action = Action::Open { target: self.target, address, header: Some(header) };
        let judged = permits(&Request { principal: &current, source: self.origin.source, action });
        if let Err(denial) = judged {
            self.revoked.cancel(denial.reset_code());
        }
    }

    /// Tells the client, and the log within its limit, that it does not get the stream, and gives the channel back, idle.
    pub(crate) async fn refuse(
        &self,
        channel: Channel<Socket>,
        refusal: Refusal,
    ) -> io::Result<Channel<Socket>> {
        channel.refuse_open(self.note_refusal(refusal)).await
    }

    /// Tells the logs, within their limits, that the client does not get the stream, and gives what the client is to be told.
    pub(crate) fn note_refusal(&self, refusal: Refusal) -> RefusedCode {
        let (peer, client) = (&*self.source.name, &*self.principal.name);
        let code = refusal.note(self.target, peer, client, self.log_limits);
        self.stream.refuse(code);
        let (target, reason) = (&*self.target.to_string(), &*code.to_string());
        self.audit.note(&Event::StreamRefused { peer, client, target, reason });
        code
    }
}

#[cfg(test)]
mod tests {
    use cli_support::metrics::{StreamCounts, StreamKind};
    use tunnel::resumable_streams::ResumptionLimits;
    use wire_protocol::message::ClientIdentity;

    use super::*;
    use crate::access::{Enrolment, Grant, Rights};
    use crate::accounts::AccountHandle;
    use crate::config::ServerConfig;

    fn principal(rules: &[&str]) -> Arc<Principal> {
        let tcp = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Arc::new(Principal {
            account: AccountHandle::default(),
            identity: ClientIdentity::Psk("laptop".into()),
            name: "laptop".into(),
            grant: Grant::unlimited(Rights { tcp, ..Rights::none() }),
            enrolment: Enrolment::Enrolled,
        })
    }

    /// Whether a stream is revoked that was opened with the rights of `before`, and whose target was reached with those of `now`.
    fn is_revoked(before: &Arc<Principal>, now: &Arc<Principal>, header: ProxyHeader) -> bool {
        let target = Target::Tcp { host: "db.example.org".into(), port: 5432 };
        let source = Source::proxied("192.0.2.7:4711".parse().unwrap(), "192.0.2.1:5000".parse().unwrap());
        let revoked = Revocation::default();
        let open = Mutex::new(Some(Arc::new(OpenTarget::new(target.clone(), jiff::Timestamp::now()))));
        let counts = StreamCounts::default();
        let nothing = ResumptionLimits { retention: Retention::default(), per_client: 0, total: 0 };
        let request = RequestContext {
            principal: before,
            current: &Mutex::new(Arc::clone(now)),
            source: &source,
            origin: Origin { source: source.ip(), is_local: false },
            target: &target,
            retention: None,
            budget: &RetentionBudget::new(0),
            resumable: &Streams::new(nothing, 0),
            config: &ReloadableConfig::from(&ServerConfig::default()),
            network: &Network::System,
            meter: &Meter::default(),
            throttle: &Throttle::default(),
            drops: &DropCounter::default(),
            log_limits: &LogLimits::default(),
            audit: &Audit::of(&cli_support::home::Home::resolve(Some("/nowhere".into())).unwrap()),
            counters: &Counters::default(),
            stream: &counts.begin(StreamKind::Tcp),
            stopping: &CancellationToken::new(),
            revoked: &revoked,
            open: &open,
        };
        let address = Some("198.51.100.7:5432".parse().unwrap());
        request.note_reached(address, header);
        let noted = open.lock().unwrap().clone().unwrap();
        assert_eq!((noted.address, noted.header), (address, Some(header)));
        revoked.is_cancelled()
    }

    #[test]
    fn rights_that_change_while_a_target_is_reached_count_for_where_its_name_led() {
        let any = principal(&["*:*"]);
        let named = principal(&["db.example.org:5432"]);
        let told = principal(&["db.example.org:5432,proxy"]);
        let other = principal(&["other.example.org:5432"]);
        assert!(!is_revoked(&any, &any, ProxyHeader::None));
        assert!(!is_revoked(&any, &named, ProxyHeader::None));
        assert!(is_revoked(&any, &other, ProxyHeader::None));
        assert!(is_revoked(&any, &told, ProxyHeader::None));
        assert!(!is_revoked(&told, &named, ProxyHeader::V2));
    }
}
