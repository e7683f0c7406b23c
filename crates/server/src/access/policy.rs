//! The policy: the only module that decides whether a client may connect, and what it may do.
//!
//! The policy is asked when a client connects, when it opens a stream, and for each address that a target's name
//! resolves to. It is asked again about everything that is open whenever the file of clients, the configuration or
//! the time may have changed the answer.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use tunnel::proxy_header::ProxyHeader;
use wire_protocol::message::{ClientIdentity, DeniedCode, Target};

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
    /// The client's rights have expired.
    #[error("its rights have expired")]
    Expired,
    /// The client connects from outside of the networks that its grant is limited to.
    #[error("it comes from elsewhere than it may")]
    Elsewhere,
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
}

impl Denial {
    /// The code for a client that may not connect.
    pub(crate) fn code(self) -> DeniedCode {
        match self {
            Self::NoKey => DeniedCode::ClientKeyRequired,
            _ => DeniedCode::NotAllowed,
        }
    }
}

/// Decides on a request.
pub(crate) fn permits(request: &Request<'_>) -> Decision {
    let Request { principal, source, action } = *request;
    enter(principal, source, Timestamp::now())?;
    match action {
        Action::Enter => Ok(Permit { header: ProxyHeader::None }),
        Action::Open { target, address, header } => open(&principal.grant.rights, target, address, header),
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
        return Err(Denial::Expired);
    }
    if !grant.is_from(source) {
        return Err(Denial::Elsewhere);
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

    fn principal(grant: Grant, enrolment: Enrolment) -> Principal {
        Principal { identity: ClientIdentity::Psk("laptop".into()), name: "laptop".into(), grant, enrolment }
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
            (Enrolment::Enrolled, Some(now - hour), near(), Some("10.1.1.1"), Err(Denial::Expired)),
            (Enrolment::Enrolled, Some(now + hour), near(), Some("11.1.1.1"), Err(Denial::Elsewhere)),
            (Enrolment::Enrolled, None, near(), None, Err(Denial::Elsewhere)),
            (Enrolment::Enrolled, None, Some(Vec::new()), Some("10.1.1.1"), Err(Denial::Elsewhere)),
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
