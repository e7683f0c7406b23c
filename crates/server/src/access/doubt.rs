//! Rights of a client that have no effect, as far as that can be told. The user who grants them is warned, and so
//! does not search for the fault in the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;
use tunnel::address::Address;

use crate::access::grant::Grant;
use crate::access::rights::Rights;
use crate::access::rule::{TOO_LONG, Transport};
use crate::access::text::option;
use crate::share_mode::ShareMode;

/// The services, shares and addresses of a server.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The names of the server's services.
    pub services: BTreeSet<String>,
    /// What may be done with each of the server's shares, by its name.
    pub shares: BTreeMap<String, ShareMode>,
    /// The addresses that the server listens on.
    pub listen: Vec<Address>,
}

/// A function that resolves names, each with a port, to addresses in the same order.
pub type Lookup<'a> = dyn Fn(&[(String, u16)]) -> Vec<Vec<SocketAddr>> + 'a;

impl Grant {
    /// The rights that have no effect, one line each. `lookup` returns the addresses of names in their order; a
    /// name without addresses gives no warning.
    #[must_use]
    pub fn doubts(&self, surroundings: &Surroundings, now: Timestamp, lookup: &Lookup<'_>) -> Vec<String> {
        let rights = &*self.rights;
        let mut doubts = Vec::new();
        let mut doubt = |option: String, why: &str| doubts.push(format!("{option}: {why}"));
        for name in rights.service.iter().filter(|name| !surroundings.services.contains(name.as_str())) {
            doubt(option("--service", name), "server.toml has no [[service]] of this name");
        }
        for rule in &rights.files {
            let Some(mode) = surroundings.shares.get(rule.share.as_str()) else {
                doubt(
                    option("--files", rule),
                    "server.toml has no [[files]] of this name: it counts where the server is started with --files NAME=DIR",
                );
                continue;
            };
            if let Some(wanted) = rule.mode
                && ShareMode::ALL_ACCESS
                    .into_iter()
                    .any(|access| wanted.permits(access) && !mode.permits(access))
            {
                doubt(
                    option("--files", rule),
                    &format!("the share is {mode}, and nobody may do more with it"),
                );
            }
        }
        let tcp = rights.tcp.iter().map(|proxied| (option("--tcp", proxied), &proxied.rule));
        for (option, rule) in tcp {
            if let Some(why) = rule.reaches_nothing(Transport::Tcp) {
                doubt(option, why);
            }
        }
        for rule in &rights.udp {
            if let Some(why) = rule.reaches_nothing(Transport::Udp) {
                doubt(option("--udp", rule), why);
            }
        }
        for path in rights.unix.iter().filter(|path| path.rule.is_too_long()) {
            doubt(option("--unix", path), TOO_LONG);
        }
        for rule in &rights.listen {
            if let Some(why) = rule.binds_nothing() {
                doubt(option("--listen", rule), why);
            }
        }
        if let Some(from) = &self.from {
            let is_unix = |address: &Address| matches!(address, Address::Unix(_));
            if from.is_empty() {
                doubt("from = []".into(), "the client is refused wherever it comes from");
            } else if !surroundings.listen.is_empty() && surroundings.listen.iter().all(is_unix) {
                let networks: Vec<String> = from.iter().map(|network| option("--from", network)).collect();
                doubt(
                    networks.join(" "),
                    "the server listens on unix sockets alone, where nobody comes from a network",
                );
            }
        }
        if let Some(expires) = self.expires.filter(|expires| *expires <= now) {
            doubt(option("--expires", expires), "it has expired");
        }
        doubts.extend(misleading_names(rights, lookup));
        doubts
    }
}

/// The rules by name whose name only leads to addresses that no rule by name permits, above all the server's own.
fn misleading_names(rights: &Rights, lookup: &Lookup<'_>) -> Vec<String> {
    let tcp = rights.tcp.iter().map(|proxied| (Transport::Tcp, option("--tcp", proxied), &proxied.rule));
    let udp = rights.udp.iter().map(|rule| (Transport::Udp, option("--udp", rule), rule));
    let named: Vec<_> = tcp
        .chain(udp)
        .filter_map(|(transport, option, rule)| {
            let (name, port) = rule.named()?;
            Some((transport, option, name.to_owned(), port))
        })
        .collect();
    let asked: Vec<(String, u16)> = named.iter().map(|(_, _, name, port)| (name.clone(), *port)).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let mut doubts = Vec::new();
    for ((transport, option, name, _), addresses) in named.into_iter().zip(lookup(&asked)) {
        let Some(first) = addresses.first() else { continue };
        if !addresses.iter().any(|address| rights.allows_address(transport, &name, *address)) {
            doubts.push(format!(
                "{option}: the name leads to {} alone, where no rule by name leads: allow the address as well",
                first.ip()
            ));
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(listen: &[&str]) -> Surroundings {
        let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
        let shares = ["ro", "rw", "drop"].map(|mode| (format!("the-{mode}"), mode.parse().unwrap())).into();
        Surroundings { services: BTreeSet::from(["db".to_owned()]), shares, listen }
    }

    fn lookup(asked: &[(String, u16)]) -> Vec<Vec<SocketAddr>> {
        let found = |(name, port): &(String, u16)| match name.as_str() {
            "myself.example.org" => vec![SocketAddr::new("127.0.1.1".parse().unwrap(), *port)],
            "both.example.org" => {
                ["127.0.1.1", "192.0.2.1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), *port)).to_vec()
            }
            _ => Vec::new(),
        };
        asked.iter().map(found).collect()
    }

    #[track_caller]
    fn check(rights: Rights, expected: &[&str]) {
        let now = Timestamp::now();
        let doubts = Grant::unlimited(rights).doubts(&surroundings(&["127.0.0.1:5000"]), now, &lookup);
        assert_eq!(doubts.len(), expected.len(), "{doubts:?}");
        for (doubt, expected) in doubts.iter().zip(expected) {
            assert!(doubt.starts_with(expected), "{doubt}");
        }
    }

    fn read<T: std::str::FromStr<Err = crate::error::Error>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    #[test]
    fn services_that_do_not_exist_are_named() {
        check(
            Rights { service: read(&["db", "dB", "web"]), ..Rights::none() },
            &["--service dB: ", "--service web: "],
        );
    }

    #[test]
    fn shares_that_do_not_exist_or_permit_less_are_named() {
        let good =
            ["the-ro", "the-ro:ro", "the-rw:rw", "the-rw:ro", "the-rw:drop", "the-drop", "the-drop:drop"];
        check(Rights { files: read(&good), ..Rights::none() }, &[]);
        check(
            Rights { files: read(&["the", "the-ro:rw", "the-ro:drop", "the-drop:ro"]), ..Rights::none() },
            &[
                "--files the: server.toml has no [[files]]",
                "--files the-ro:rw: the share is ro",
                "--files the-ro:drop: the share is ro",
                "--files the-drop:ro: the share is drop",
            ],
        );
    }

    #[test]
    fn rules_that_match_nothing_are_named_and_others_are_not() {
        check(Rights::usual(), &[]);
        let good = [
            "127.0.0.1:80",
            "*:*",
            "10.0.0.0/8:443",
            "[fe80::1]:80",
            "unknown.example.org:80",
            "localhost:80",
        ];
        check(Rights { tcp: read(&good), udp: read(&["224.0.0.251:5353"]), ..Rights::none() }, &[]);
        let bad = [
            "x.localhost:80",
            "224.0.0.1:80",
            "[ff02::/16]:80",
            "255.255.255.255:80",
            "myself.example.org:80",
        ];
        check(
            Rights { tcp: read(&bad), ..Rights::none() },
            &[
                "--tcp x.localhost:80: ",
                "--tcp 224.0.0.1:80: ",
                "--tcp '[ff02::/16]:80': ",
                "--tcp 255.255.255.255:80: ",
                "--tcp myself.example.org:80: the name leads to 127.0.1.1 alone",
            ],
        );
        check(Rights { tcp: read(&["both.example.org:80"]), ..Rights::none() }, &[]);
        check(Rights { tcp: read(&["myself.example.org:80", "127.0.1.1:80"]), ..Rights::none() }, &[]);
        let long = format!("/{}", "x".repeat(107));
        check(Rights { unix: read(&[&long, "/run/x"]), ..Rights::none() }, &["--unix /xxx"]);
        let listen = ["8080", "0.0.0.0:80", "*:80", "10.0.0.0/8:80", "192.0.2.1:80", "unix:/run/x"];
        check(Rights { listen: read(&listen), ..Rights::none() }, &["--listen 192.0.2.1:80: "]);
    }

    #[test]
    fn limits_that_let_nobody_in_are_named() {
        let now = Timestamp::now();
        let hour = std::time::Duration::from_secs(3600);
        let network = || Some(vec!["10.0.0.0/8".parse().unwrap()]);
        for (expires, from, listen, expected) in [
            (None, None, "127.0.0.1:1", ""),
            (Some(now + hour), network(), "127.0.0.1:1", ""),
            (Some(now - hour), None, "127.0.0.1:1", "expired"),
            (None, Some(Vec::new()), "127.0.0.1:1", "wherever it comes from"),
            (None, network(), "unix:/run/x", "unix sockets alone"),
        ] {
            let grant = Grant { expires, from, ..Grant::unlimited(Rights::usual()) };
            let doubts = grant.doubts(&surroundings(&[listen]), now, &lookup);
            assert_eq!(doubts.is_empty(), expected.is_empty(), "{doubts:?}");
            assert!(doubts.iter().all(|doubt| doubt.contains(expected)), "{doubts:?}");
        }
    }
}
