//! Remedies: the command that allows a client what the policy refuses it.
//!
//! A rule is proposed only where the policy, asked about the client with that rule, permits what it refused before.

use std::net::SocketAddr;
use std::sync::Arc;

use cli_support::home::Home;
use wire_protocol::message::{ClientIdentity, FilesAccess, ListenAddress, Target};

use crate::access::advice::command;
use crate::access::client_name::ClientName;
use crate::access::explanation::Case;
use crate::access::files_rule::FilesRule;
use crate::access::grant::Grant;
use crate::access::permission::Permission;
use crate::access::policy::Denial;
use crate::access::principal::{Enrolment, Principal};
use crate::access::proxied::Proxied;
use crate::access::rights::Rights;
use crate::access::rule::{ListenRule, SocketPath, TargetRule};
use crate::access::text::option;

impl Case<'_> {
    /// The command that allows the client what is asked for; `None` where none does. `home` is that of the server.
    pub(crate) fn remedy(&self, principal: &Principal, home: &Home) -> Option<String> {
        let credential = match &principal.identity {
            ClientIdentity::Anonymous => return None,
            known => known.to_string(),
        };
        let is_new = principal.enrolment != Enrolment::Enrolled;
        let mut better = principal.clone();
        let mut rules = Rights::none();
        let mut limits = Vec::new();
        for _ in 0..MAX_STEPS {
            match self.denial(&better) {
                None => {
                    let mode = if is_new {
                        option("--name", ClientName::suggested(&credential))
                    } else {
                        "--add".into()
                    };
                    let options = [vec![mode], rules.words(), limits].concat();
                    return Some(command(home, &credential, &options.join(" ")));
                }
                Some(Denial::NotEnrolled) => {
                    better.enrolment = Enrolment::Enrolled;
                    better.grant = Grant::unlimited(Rights::none());
                }
                Some(Denial::Expired(_)) => {
                    better.grant.expires = None;
                    limits.push("--expires 90d".to_owned());
                }
                Some(Denial::Elsewhere(Some(source))) => {
                    better.grant.from = None;
                    limits.push(option("--from", source.to_canonical()));
                }
                Some(denial @ (Denial::Missing(_) | Denial::MissingAddress(..))) => {
                    let rule = self.rule(&better, denial)?;
                    rules = rules.with(&rule);
                    better.grant.rights = Arc::new(better.grant.rights.with(&rule));
                }
                Some(_) => return None,
            }
        }
        None
    }

    /// The rule that is missing: of several that might do, the first with which the policy refuses for another reason, or not at
    /// all.
    fn rule(&self, principal: &Principal, denial: Denial) -> Option<Rights> {
        let candidates = self.targets.iter().flat_map(|target| candidates(target, denial));
        candidates.into_iter().find(|rule| {
            let mut better = principal.clone();
            better.grant.rights = Arc::new(better.grant.rights.with(rule));
            self.denial(&better) != Some(denial)
        })
    }
}

/// Rules that might permit a target, the narrowest first.
fn candidates(target: &Target, denial: Denial) -> Vec<Rights> {
    let none = Rights::none();
    match (target, denial) {
        (Target::Message, _) => vec![Rights { messages: true, ..none }],
        (Target::Pipe, _) => vec![Rights { pipe: true, ..none }],
        (Target::Tcp { .. } | Target::Udp { .. }, Denial::MissingAddress(permission, address)) => {
            to_address(permission, address).into_iter().collect()
        }
        (Target::Tcp { host, port }, _) => host_rules(Permission::Tcp, host, *port),
        (Target::Udp { host, port }, _) => host_rules(Permission::Udp, host, *port),
        (Target::Unix { path }, _) => {
            let rule = path.parse::<Proxied<SocketPath>>();
            rule.into_iter().map(|rule| Rights { unix: vec![rule], ..Rights::none() }).collect()
        }
        (Target::Service { name }, _) => {
            let name = name.parse();
            name.into_iter().map(|name| Rights { service: vec![name], ..Rights::none() }).collect()
        }
        (Target::Files { share, access }, _) => {
            let modes: &[&str] = match access {
                FilesAccess::Read => &["ro"],
                FilesAccess::Add => &["drop"],
                FilesAccess::Replace => &["rw"],
            };
            let rules = modes.iter().filter_map(|mode| format!("{share}:{mode}").parse::<FilesRule>().ok());
            rules.map(|rule| Rights { files: vec![rule], ..Rights::none() }).collect()
        }
        (Target::Listen { address, .. }, _) => {
            let rules = listen_rules(address).into_iter().filter_map(|text| text.parse::<ListenRule>().ok());
            rules.map(|rule| Rights { listen: vec![rule], ..Rights::none() }).collect()
        }
        (Target::Shares | Target::Forwarded { .. } | Target::Diagnosis { .. }, _) => Vec::new(),
    }
}

fn host_rules(permission: Permission, host: &str, port: u16) -> Vec<Rights> {
    let host = host.split_once('%').map_or(host, |(host, _)| host);
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    target_rule(permission, &text).into_iter().collect()
}

fn to_address(permission: Permission, address: SocketAddr) -> Option<Rights> {
    let ip = address.ip().to_canonical();
    target_rule(permission, &SocketAddr::new(ip, address.port()).to_string())
}

fn target_rule(permission: Permission, text: &str) -> Option<Rights> {
    match permission {
        Permission::Tcp => {
            let rule = text.parse::<Proxied<TargetRule>>().ok()?;
            Some(Rights { tcp: vec![rule], ..Rights::none() })
        }
        Permission::Udp => Some(Rights { udp: vec![text.parse().ok()?], ..Rights::none() }),
        _ => None,
    }
}

fn listen_rules(address: &ListenAddress) -> Vec<String> {
    match address {
        ListenAddress::Unix { path } => vec![format!("unix:{path}")],
        ListenAddress::Port { host, port } => {
            let port = if *port == 0 { "*".to_owned() } else { port.to_string() };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            vec![format!("{host}:{port}"), port]
        }
    }
}

/// Most rules and limits that a remedy has.
const MAX_STEPS: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto_core::identity::KeyId;
    use jiff::Timestamp;
    use wire_protocol::message::{LEASE_LEN, ListenKind};

    use super::*;
    use crate::accounts::AccountHandle;

    fn principal(options: Rights) -> Principal {
        Principal {
            account: AccountHandle::default(),
            identity: ClientIdentity::Key(KeyId([1; 32])),
            name: "alice".into(),
            grant: Grant::unlimited(options),
            enrolment: Enrolment::Enrolled,
        }
    }

    fn tcp(rules: &[&str]) -> Rights {
        Rights { tcp: rules.iter().map(|rule| rule.parse().unwrap()).collect(), ..Rights::none() }
    }

    fn case<'a>(targets: &'a [Target], addresses: &'a [SocketAddr]) -> Case<'a> {
        Case { source: Some("192.0.2.7".parse().unwrap()), targets, addresses }
    }

    fn options(case: &Case<'_>, principal: &Principal) -> Option<String> {
        let home = Home::resolve(Some("/srv/a-home".into())).unwrap();
        let command = case.remedy(principal, &home)?;
        let (_, options) = command.split_once(&KeyId([1; 32]).to_string()).unwrap();
        Some(options.trim().to_owned())
    }

    #[test]
    fn the_rule_that_is_missing_is_named_and_no_more_than_that() {
        let host = |host: &str| Target::Tcp { host: host.into(), port: 80 };
        let listen = |host: &str, port| Target::Listen {
            address: ListenAddress::Port { host: host.into(), port },
            kind: ListenKind::Stream,
            lease: [0; LEASE_LEN],
        };
        let files = |access| Target::Files { share: "in".into(), access };
        for (target, addresses, expected) in [
            (host("db.example.org"), &["198.51.100.7:80"][..], "--add --tcp db.example.org:80"),
            (host("db.example.org"), &[], "--add --tcp db.example.org:80"),
            (host("10.0.0.1"), &["10.0.0.1:80"], "--add --tcp 10.0.0.1:80"),
            (host("::1"), &["[::1]:80"], "--add --tcp '[::1]:80'"),
            (host("localhost"), &["127.0.0.1:80"], "--add --tcp localhost:80"),
            // By its name alone no rule leads there.
            (host("inside.test"), &["127.0.0.1:80"], "--add --tcp inside.test:80 --tcp 127.0.0.1:80"),
            (Target::Unix { path: "/run/db.sock".into() }, &[], "--add --unix /run/db.sock"),
            (Target::Service { name: "db".into() }, &[], "--add --service db"),
            (Target::Message, &[], "--add --messages"),
            (Target::Pipe, &[], "--add --pipe"),
            (files(FilesAccess::Read), &[], "--add --files in:ro"),
            (files(FilesAccess::Add), &[], "--add --files in:drop"),
            (files(FilesAccess::Replace), &[], "--add --files in:rw"),
            (listen("127.0.0.1", 8080), &[], "--add --listen 127.0.0.1:8080"),
            (listen("localhost", 8080), &[], "--add --listen 8080"),
            (listen("*", 8080), &[], "--add --listen '*:8080'"),
            (listen("127.0.0.1", 0), &[], "--add --listen '127.0.0.1:*'"),
        ] {
            let addresses: Vec<SocketAddr> =
                addresses.iter().map(|address| address.parse().unwrap()).collect();
            let targets = [target];
            let found = options(&case(&targets, &addresses), &principal(Rights::none()));
            assert_eq!(found.as_deref(), Some(expected), "{}", targets[0]);
        }
    }

    #[test]
    fn limits_are_lifted_with_the_rule_and_strangers_get_a_name() {
        let targets = [Target::Tcp { host: "10.0.0.1".into(), port: 80 }];
        let addresses = ["10.0.0.1:80".parse().unwrap()];
        let mut late = principal(Rights::none());
        late.grant.expires = Some(Timestamp::now() - Duration::from_secs(60));
        late.grant.from = Some(Vec::new());
        let found = options(&case(&targets, &addresses), &late);
        assert_eq!(found.as_deref(), Some("--add --tcp 10.0.0.1:80 --expires 90d --from 192.0.2.7"));
        late.enrolment = Enrolment::None;
        let found = options(&case(&targets, &addresses), &late).unwrap();
        assert!(found.starts_with("--name ") && found.ends_with(" --tcp 10.0.0.1:80"), "{found}");
        for enrolment in [Enrolment::Unknown, Enrolment::Unproved] {
            late.enrolment = enrolment;
            assert_eq!(options(&case(&targets, &addresses), &late), None, "{enrolment:?}");
        }
    }

    #[test]
    fn the_rules_behind_a_decision_are_those_that_are_enough() {
        let targets = [Target::Tcp { host: "a.test".into(), port: 80 }];
        let (outside, inside) = (["198.51.100.7:80".parse().unwrap()], ["127.0.0.1:80".parse().unwrap()]);
        let rules = |rules: &[&str], addresses: &[SocketAddr]| {
            case(&targets, addresses).rules(&principal(tcp(rules)))
        };
        assert_eq!(
            rules(&["b.test:80", "*.test:80", "*:80"], &outside),
            ["--tcp '*.test:80'", "--tcp '*:80'"]
        );
        assert_eq!(
            rules(&["b.test:80", "*.test:80", "127.0.0.1:80", "10.0.0.1:80"], &inside),
            ["--tcp '*.test:80'", "--tcp 127.0.0.1:80"]
        );
    }
}
