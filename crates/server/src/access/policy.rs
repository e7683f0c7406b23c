//! The policy: the only module that decides whether a client may connect, and what it may do.
//!
//! The policy is asked when a client connects, when it opens a stream, and for each address that a target's name
//! resolves to. It is asked again about everything that is open whenever the file of clients, the configuration or
//! the time may have changed the answer.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use jiff::Timestamp;
use tunnel::proxy_header::ProxyHeader;
use wire_protocol::message::{ClientIdentity, DeniedCode, Question, RefusedCode, ResetCode, Target};

use crate::access::permission::Permission;
use crate::access::principal::{Enrolment, Principal};
use crate::access::rights::Rights;
use crate::access::rule::Transport;

/// A request of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The client.
    pub(crate) principal: &'a Principal,
    /// The address that the client connects from; `None` on a unix socket.
    pub(crate) source: Option<IpAddr>,
    pub(crate) action: Action<'a>,
}

/// The action that a client requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    /// The client wants to connect, or to stay connected.
    Enter,
    /// The client wants to open a stream, or to keep it open.
    Open {
        target: &'a Target,
        /// The address that the target's host has resolved to; `None` before that, and for targets without a host.
        address: Option<SocketAddr>,
        /// The header that was sent to the target before the data; `None` before the server has connected to it.
        header: Option<ProxyHeader>,
    },
}

/// The answer of the policy to a request.
pub(crate) type Decision = Result<Permit, Denial>;

/// The proof that the policy has granted a request, and the conditions. Only this module can create one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    header: ProxyHeader,
}

impl Permit {
    /// The header that must be sent to the target before the data. For a service the configuration decides instead.
    pub(crate) fn header(self) -> ProxyHeader {
        self.header
    }
}

/// The rule that a request lacks or violates. It is meant for the log, since the client only learns the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// The client proves no identity, and anonymous clients are refused.
    #[error("it has no key")]
    NoKey,
    /// The client was not allowed, and anonymous clients are refused.
    #[error("nobody has allowed it")]
    NotEnrolled,
    /// The client's pre-shared key was revoked, or is not one that the server uses.
    #[error("its pre-shared key was revoked, or is none of this server's")]
    Revoked,
    /// This server recognizes clients by another kind of credential.
    #[error("it cannot be recognized by that here")]
    Unproved,
    /// The file of clients cannot be used, so that it is unknown which clients were allowed or revoked.
    #[error("the file of allowed clients cannot be used")]
    NoFile,
    /// The client's rights have expired, at this time.
    #[error("its rights have expired")]
    Expired(Timestamp),
    /// The client connects from outside of the networks that its grant is limited to: from this address, or on a unix socket.
    #[error("it comes from elsewhere than it may")]
    Elsewhere(Option<IpAddr>),
    /// The client does not have the permission, or not for this target.
    #[error("no --{0} permits it")]
    Missing(Permission),
    /// The client has the permission for the target's name, but not for the address that the name resolves to.
    #[error("no --{0} permits {1}, where the name leads")]
    MissingAddress(Permission, SocketAddr),
    /// The target must be told which client connects, and was not told when the stream was opened.
    #[error("the target is to be told who connects")]
    WithoutHeader,
    /// Clients never open such streams.
    #[error("only servers open such streams")]
    NotForClients,
    /// The client has moved as many bytes as it may until this time.
    #[error("its quota is used up until {0:.0}")]
    QuotaUsedUp(Timestamp),
    /// The client has a quota, and nobody knows what of it is used.
    #[error("the file of accounts cannot be used, and it has a quota")]
    NoAccounts,
}

impl Denial {
    /// The code for a client that may not connect. A client that is on the list, or has a pre-shared key of this server, learns
    /// why where it has asked for that; all others learn the same.
    pub(crate) fn code(self) -> DeniedCode {
        match self {
            Self::NoKey => DeniedCode::ClientKeyRequired,
            Self::Expired(at) => DeniedCode::Expired { at: seconds(at), now: seconds(Timestamp::now()) },
            Self::Elsewhere(source) => DeniedCode::Elsewhere { source: octets(source) },
            Self::Revoked => DeniedCode::Revoked,
            _ => DeniedCode::NotAllowed,
        }
    }

    /// The code for a client that does not get a stream.
    pub(crate) fn refused_code(self) -> RefusedCode {
        match self {
            Self::QuotaUsedUp(until) => {
                let left = Timestamp::now().duration_until(until).as_secs();
                RefusedCode::QuotaUsedUp { seconds: u32::try_from(left.max(0)).unwrap_or(u32::MAX) }
            }
            _ => RefusedCode::NotAllowed,
        }
    }

    /// The code for a client that loses what it has open.
    pub(crate) fn reset_code(self) -> ResetCode {
        match self {
            Self::QuotaUsedUp(_) => ResetCode::QuotaUsedUp,
            _ => ResetCode::NotAllowed,
        }
    }
}

/// A point in time on the wire.
pub(crate) fn seconds(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_second()).unwrap_or(0)
}

/// The address of a client on the wire; zeros for a unix socket.
pub(crate) fn octets(source: Option<IpAddr>) -> [u8; 16] {
    match source {
        Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped(),
        Some(IpAddr::V6(ip)) => ip,
        None => Ipv6Addr::UNSPECIFIED,
    }
    .octets()
}

/// Decides on a request.
pub(crate) fn permits(request: &Request<'_>) -> Decision {
    let Request { principal, source, action } = *request;
    enter(principal, source, Timestamp::now())?;
    match action {
        Action::Enter => Ok(Permit { header: ProxyHeader::None }),
        // Strangers learn nothing of how the server sees them, also where it lets them in.
        Action::Open { target: Target::Diagnosis { .. }, .. }
            if principal.enrolment != Enrolment::Enrolled =>
        {
            Err(Denial::NotEnrolled)
        }
        Action::Open { target, address, header } => {
            let permit = open(&principal.grant.rights, target, address, header)?;
            // Who the client is moves next to nothing. Whether it could listen is answered as listening is.
            if !matches!(target, Target::Diagnosis { question: Question::Client }) {
                within_quota(principal, Timestamp::now())?;
            }
            Ok(permit)
        }
    }
}

/// Whether a client may move anything now, by its traffic quota.
fn within_quota(principal: &Principal, now: Timestamp) -> Result<(), Denial> {
    // Without an account nothing is counted: only a running server has any.
    let (Some(quota), Some(account)) = (principal.grant.rights.quota, &principal.account.0) else {
        return Ok(());
    };
    match account.usage(quota, now) {
        None => Err(Denial::NoAccounts),
        Some(usage) if usage.bytes >= quota.bytes() => Err(Denial::QuotaUsedUp(usage.until)),
        Some(_) => Ok(()),
    }
}

fn enter(principal: &Principal, source: Option<IpAddr>, now: Timestamp) -> Result<(), Denial> {
    match (principal.enrolment, &principal.identity) {
        (Enrolment::Enrolled | Enrolment::Anonymous, _) => {}
        (Enrolment::None, ClientIdentity::Anonymous) => return Err(Denial::NoKey),
        (Enrolment::None, _) => return Err(Denial::NotEnrolled),
        (Enrolment::Revoked, _) | (Enrolment::Unproved, ClientIdentity::Psk(_)) => {
            return Err(Denial::Revoked);
        }
        (Enrolment::Unproved, _) => return Err(Denial::Unproved),
        (Enrolment::Unknown, _) => return Err(Denial::NoFile),
    }
    let grant = &principal.grant;
    if grant.has_expired(now) {
        return Err(Denial::Expired(grant.expires.unwrap_or(now)));
    }
    if !grant.is_from(source) {
        return Err(Denial::Elsewhere(source));
    }
    Ok(())
}

fn open(
    rights: &Rights,
    target: &Target,
    address: Option<SocketAddr>,
    sent: Option<ProxyHeader>,
) -> Decision {
    let reaches = |transport, host: &str, port| match address {
        Some(address) => rights.allows_address(transport, host, address),
        None => rights.may_resolve(transport, host, port),
    };
    let (permission, is_held, header) = match target {
        Target::Message => (Permission::Messages, rights.messages, ProxyHeader::None),
        Target::Pipe => (Permission::Pipe, rights.pipe, ProxyHeader::None),
        Target::Tcp { host, port } => {
            let header = address.map_or(ProxyHeader::None, |address| rights.tcp_header(host, address));
            (Permission::Tcp, reaches(Transport::Tcp, host, *port), header)
        }
        Target::Udp { host, port } => {
            (Permission::Udp, reaches(Transport::Udp, host, *port), ProxyHeader::None)
        }
        Target::Unix { path } => (Permission::Unix, rights.allows_unix(path), rights.unix_header(path)),
        Target::Service { name } => (Permission::Service, rights.allows_service(name), ProxyHeader::None),
        Target::Listen { address, .. } => {
            (Permission::Listen, rights.allows_listen(address), ProxyHeader::None)
        }
        Target::Files { share, access } => {
            (Permission::Files, rights.allows_files(share, *access), ProxyHeader::None)
        }
        Target::Shares => (Permission::Files, !rights.files.is_empty(), ProxyHeader::None),
        // Every client may ask about itself, and whether it could listen where it may listen.
        Target::Diagnosis { question: Question::Client } => return Ok(Permit { header: ProxyHeader::None }),
        Target::Diagnosis { question: Question::Listen { address, .. } } => {
            (Permission::Listen, rights.allows_listen(address), ProxyHeader::None)
        }
        Target::Forwarded { .. } => return Err(Denial::NotForClients),
    };
    match (is_held, address) {
        (false, None) => Err(Denial::Missing(permission)),
        (false, Some(address)) => Err(Denial::MissingAddress(permission, address)),
        // A right with the header does not permit a connection that began without one.
        (true, _) if sent == Some(ProxyHeader::None) && header != ProxyHeader::None => {
            Err(Denial::WithoutHeader)
        }
        (true, _) => Ok(Permit { header }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto_core::identity::KeyId;
    use wire_protocol::message::{FilesAccess, LEASE_LEN, ListenAddress, ListenKind};

    use super::*;
    use crate::access::grant::Grant;
    use crate::accounts::AccountHandle;

    fn principal(grant: Grant, enrolment: Enrolment) -> Principal {
        let (identity, name) = (ClientIdentity::Psk("laptop".into()), "laptop".into());
        Principal { identity, name, grant, enrolment, account: AccountHandle::default() }
    }

    fn decide(
        rights: Rights,
        target: &Target,
        address: Option<&str>,
        header: Option<ProxyHeader>,
    ) -> Decision {
        let principal = principal(Grant::unlimited(rights), Enrolment::Enrolled);
        let address = address.map(|address| address.parse().unwrap());
        let action = Action::Open { target, address, header };
        permits(&Request { principal: &principal, source: None, action })
    }

    fn granted(header: ProxyHeader) -> Decision {
        Ok(Permit { header })
    }

    #[test]
    fn a_client_enters_that_was_allowed_in_time_and_from_where_it_may() {
        let now = Timestamp::now();
        let hour = Duration::from_secs(3600);
        let near = || Some(vec!["10.0.0.0/8".parse().unwrap()]);
        for (enrolment, expires, from, source, expected) in [
            (Enrolment::Enrolled, None, None, None, Ok(())),
            (Enrolment::Anonymous, None, None, None, Ok(())),
            (Enrolment::Enrolled, Some(now + hour), near(), Some("10.1.1.1"), Ok(())),
            (
                Enrolment::Enrolled,
                Some(now - hour),
                near(),
                Some("10.1.1.1"),
                Err(Denial::Expired(now - hour)),
            ),
            (
                Enrolment::Enrolled,
                Some(now + hour),
                near(),
                Some("11.1.1.1"),
                Err(Denial::Elsewhere("11.1.1.1".parse().ok())),
            ),
            (Enrolment::Enrolled, None, near(), None, Err(Denial::Elsewhere(None))),
            (
                Enrolment::Enrolled,
                None,
                Some(Vec::new()),
                Some("10.1.1.1"),
                Err(Denial::Elsewhere("10.1.1.1".parse().ok())),
            ),
            (Enrolment::None, None, None, None, Err(Denial::NotEnrolled)),
            (Enrolment::Revoked, None, None, None, Err(Denial::Revoked)),
            (Enrolment::Unproved, None, None, None, Err(Denial::Revoked)),
            (Enrolment::Unknown, None, None, None, Err(Denial::NoFile)),
        ] {
            let principal =
                principal(Grant { expires, from, ..Grant::unlimited(Rights::usual()) }, enrolment);
            let source = source.map(|source| source.parse().unwrap());
            // A client that may not connect may not do anything else either.
            let message = Action::Open { target: &Target::Message, address: None, header: None };
            for action in [Action::Enter, message] {
                let decision = permits(&Request { principal: &principal, source, action });
                assert_eq!(decision.map(drop), expected, "{principal:?} from {source:?}");
            }
        }
    }

    #[test]
    fn a_client_whose_quota_is_used_up_may_ask_who_it_is_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let home = cli_support::home::Home::resolve(Some(folder.path().into())).unwrap();
        let accounts = crate::accounts::Accounts::open(home).unwrap();
        let quota = Some("10B/1h".parse().unwrap());
        let rights = Rights { quota, listen: vec!["8080".parse().unwrap()], ..Rights::usual() };
        let mut client = principal(Grant::unlimited(rights), Enrolment::Enrolled);
        let account = accounts.of(&client.identity);
        account.add(crate::meter::Moved { sent: 10, ..Default::default() }, Timestamp::now());
        client.account = AccountHandle(Some(account));
        let decide = |question| {
            let target = Target::Diagnosis { question };
            let action = Action::Open { target: &target, address: None, header: None };
            permits(&Request { principal: &client, source: None, action }).map(drop)
        };
        assert_eq!(decide(Question::Client), Ok(()));
        let address = ListenAddress::Port { host: "127.0.0.1".into(), port: 8080 };
        let listen = decide(Question::Listen { address, kind: ListenKind::Stream });
        assert!(matches!(listen, Err(Denial::QuotaUsedUp(_))), "{listen:?}");
    }

    /// The peer learns no more than whether a key could let it in.
    #[test]
    fn a_client_without_a_key_is_told_that_it_needs_one_and_no_client_is_told_more() {
        for (enrolment, identity, code) in [
            (Enrolment::None, ClientIdentity::Anonymous, DeniedCode::ClientKeyRequired),
            (Enrolment::Unproved, ClientIdentity::Anonymous, DeniedCode::NotAllowed),
            (Enrolment::Unknown, ClientIdentity::Anonymous, DeniedCode::NotAllowed),
            (Enrolment::None, ClientIdentity::Key(KeyId([1; 32])), DeniedCode::NotAllowed),
        ] {
            let principal = Principal { identity, ..principal(Grant::unlimited(Rights::none()), enrolment) };
            let denial = permits(&Request { principal: &principal, source: None, action: Action::Enter });
            assert_eq!(denial.unwrap_err().code(), code, "{principal:?}");
        }
    }

    /// A client that is on the list may learn why it is refused, and nobody else.
    #[test]
    fn only_a_client_that_is_known_is_told_a_reason() {
        let now = Timestamp::now();
        let hour = Duration::from_secs(3600);
        let late = Grant { expires: Some(now - hour), ..Grant::unlimited(Rights::usual()) };
        let far = Grant { from: Some(Vec::new()), ..Grant::unlimited(Rights::usual()) };
        let unlimited = || Grant::unlimited(Rights::usual());
        for (grant, enrolment, has_reason) in [
            (late.clone(), Enrolment::Enrolled, true),
            (far.clone(), Enrolment::Enrolled, true),
            (unlimited(), Enrolment::Revoked, true),
            (late, Enrolment::None, false),
            (far, Enrolment::None, false),
            (unlimited(), Enrolment::None, false),
            (unlimited(), Enrolment::Unknown, false),
        ] {
            let principal = principal(grant, enrolment);
            let source = Some("192.0.2.1".parse().unwrap());
            let denial = permits(&Request { principal: &principal, source, action: Action::Enter });
            let code = denial.unwrap_err().code();
            assert_eq!(code != DeniedCode::NotAllowed, has_reason, "{principal:?}: {code:?}");
            assert_eq!(code.without_reason(), DeniedCode::NotAllowed);
        }
    }

    #[test]
    fn only_a_client_that_is_enrolled_asks_about_itself() {
        let about = |question| Target::Diagnosis { question };
        let listen = |port| Question::Listen {
            address: ListenAddress::Port { host: "127.0.0.1".into(), port },
            kind: ListenKind::Stream,
        };
        let rights = || Rights { listen: vec!["8080".parse().unwrap()], ..Rights::none() };
        for (question, enrolment, expected) in [
            (Question::Client, Enrolment::Enrolled, Ok(())),
            (Question::Client, Enrolment::Anonymous, Err(Denial::NotEnrolled)),
            (listen(8080), Enrolment::Enrolled, Ok(())),
            (listen(8080), Enrolment::Anonymous, Err(Denial::NotEnrolled)),
            (listen(8081), Enrolment::Enrolled, Err(Denial::Missing(Permission::Listen))),
        ] {
            let principal = principal(Grant::unlimited(rights()), enrolment);
            let action = Action::Open { target: &about(question.clone()), address: None, header: None };
            let decision = permits(&Request { principal: &principal, source: None, action });
            assert_eq!(decision.map(drop), expected, "{question:?} {enrolment:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_rule_that_is_missing() {
        let host = || "db.example.org".to_owned();
        let tcp = Target::Tcp { host: host(), port: 5432 };
        let lease = [0; LEASE_LEN];
        let address = ListenAddress::Port { host: "127.0.0.1".into(), port: 80 };
        for (target, permission) in [
            (Target::Message, Permission::Messages),
            (Target::Pipe, Permission::Pipe),
            (tcp.clone(), Permission::Tcp),
            (Target::Udp { host: host(), port: 5432 }, Permission::Udp),
            (Target::Unix { path: "/run/db.sock".into() }, Permission::Unix),
            (Target::Service { name: "db".into() }, Permission::Service),
            (Target::Files { share: "in".into(), access: FilesAccess::Add }, Permission::Files),
            (Target::Shares, Permission::Files),
            (Target::Listen { address, kind: ListenKind::Stream, lease }, Permission::Listen),
        ] {
            let denial = decide(Rights::none(), &target, None, None).unwrap_err();
            assert_eq!(denial, Denial::Missing(permission), "{target}");
            assert_eq!(denial.to_string(), format!("no --{permission} permits it"));
        }
        let rights = || Rights { tcp: vec!["db.example.org:5432".parse().unwrap()], ..Rights::none() };
        assert_eq!(decide(rights(), &tcp, None, None), granted(ProxyHeader::None));
        assert_eq!(decide(rights(), &tcp, Some("192.0.2.1:5432"), None), granted(ProxyHeader::None));
        let denial = decide(rights(), &tcp, Some("127.0.0.1:5432"), None).unwrap_err();
        assert_eq!(denial.to_string(), "no --tcp permits 127.0.0.1:5432, where the name leads");
        let forwarded = Target::Forwarded { origin: String::new(), destination: String::new() };
        assert_eq!(decide(Rights::usual(), &forwarded, None, None), Err(Denial::NotForClients));
    }

    #[test]
    fn a_rule_about_files_is_for_one_share_and_no_more_than_it_says() {
        use FilesAccess::{Add, Read, Replace};
        for (rules, share, permitted) in [
            (&["in:ro"][..], "in", &[Read][..]),
            (&["in:rw"], "in", &[Read, Add, Replace]),
            (&["in:drop"], "in", &[Add]),
            (&["in"], "in", &[Read, Add, Replace]),
            (&["in:ro", "in:drop"], "in", &[Read, Add]),
            (&["in:rw"], "IN", &[]),
            (&["in:rw"], "i", &[]),
            (&["in:rw"], "in/sub", &[]),
            (&["in:rw"], "", &[]),
            (&[], "in", &[]),
        ] {
            let files: Vec<_> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            let rights = || Rights { files: files.clone(), ..Rights::usual() };
            for access in [Read, Add, Replace] {
                let decision = decide(rights(), &Target::Files { share: share.into(), access }, None, None);
                assert_eq!(decision.is_ok(), permitted.contains(&access), "{rules:?}: {share} {access:?}");
            }
            assert_eq!(decide(rights(), &Target::Shares, None, None).is_ok(), !rules.is_empty());
        }
    }

    #[test]
    fn a_target_that_is_to_be_told_who_connects_keeps_no_stream_without() {
        let rights = || Rights {
            tcp: vec!["10.0.0.1:5432,proxy".parse().unwrap()],
            unix: vec!["/run/db.sock,proxy".parse().unwrap()],
            ..Rights::none()
        };
        let tcp = Target::Tcp { host: "10.0.0.1".into(), port: 5432 };
        let unix = Target::Unix { path: "/run/db.sock".into() };
        for (target, address) in [(&tcp, Some("10.0.0.1:5432")), (&unix, None)] {
            let decide = |header| decide(rights(), target, address, header);
            assert_eq!(decide(None), granted(ProxyHeader::V2), "{target}");
            assert_eq!(decide(Some(ProxyHeader::V2)), granted(ProxyHeader::V2), "{target}");
            assert_eq!(decide(Some(ProxyHeader::None)), Err(Denial::WithoutHeader), "{target}");
        }
        // Before the name is resolved, no header has been sent.
        assert_eq!(decide(rights(), &tcp, None, None), granted(ProxyHeader::None));
    }
}
