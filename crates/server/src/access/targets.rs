//! Decides which hosts, unix sockets, services and shares the rights of a client permit as targets.
//!
//! A tunnel to a host asks [`Rights::may_resolve`], then the resolver, then [`Rights::allows_address`] for each
//! address of the answer. The server only connects to addresses that were permitted.

use std::net::SocketAddr;

use tunnel::proxy_header::ProxyHeader;
use wire_protocol::message::FilesAccess;

use crate::access::host::Host;
use crate::access::proxied::{Proxied, header_of};
use crate::access::rights::Rights;
use crate::access::rule::{TargetRule, Transport};
use crate::access::special::is_special;

impl Rights {
    /// Returns whether `host` may be resolved in order to connect to `port`. An address has to be permitted itself.
    ///
    /// A name may be resolved where a rule applies to it, and `localhost` also where a rule covers a loopback
    /// address. The addresses of the name are checked separately.
    pub(super) fn may_resolve(&self, transport: Transport, host: &str, port: u16) -> bool {
        match Host::parse(host) {
            None => false,
            Some(Host::Address(ip)) => self.allows_address(transport, host, SocketAddr::new(ip, port)),
            Some(name) => self.targets(transport).any(|rule| rule.may_resolve(&name, port)),
        }
    }

    /// Returns whether a tunnel to `host` may connect to `address`, to which `host` has resolved.
    ///
    /// The address is permitted where a rule covers it itself. It is also permitted where a rule applies to the
    /// name (or to all hosts) and the address is not special: loopback, link-local, multicast, metadata of a cloud
    /// and the like, in any of their forms.
    pub(super) fn allows_address(&self, transport: Transport, host: &str, address: SocketAddr) -> bool {
        let asked = match Host::parse(host) {
            None => return false,
            Some(Host::Address(ip)) if ip != address.ip().to_canonical() => return false,
            // The check is repeated for a caller that did not make it.
            Some(Host::Name(_)) if !self.may_resolve(transport, host, address.port()) => return false,
            Some(asked) => asked,
        };
        self.targets(transport).any(|rule| rule.covers(address))
            || (self.targets(transport).any(|rule| rule.matches(&asked, address.port()))
                && !is_special(address.ip()))
    }

    /// The header that begins a connection to `address`, to which `host` has resolved. It tells the target which
    /// client connects where any rule with `,proxy` applies to either, whatever other rules permit it.
    pub(super) fn tcp_header(&self, host: &str, address: SocketAddr) -> ProxyHeader {
        let asked = Host::parse(host);
        header_of(self.tcp.iter().filter(|Proxied { rule, .. }| {
            rule.covers(address) || asked.as_ref().is_some_and(|asked| rule.matches(asked, address.port()))
        }))
    }

    /// The header that begins a connection to the unix socket at `path`.
    pub(super) fn unix_header(&self, path: &str) -> ProxyHeader {
        header_of(self.unix.iter().filter(|known| known.rule.as_str() == path))
    }

    /// Returns whether the client may connect to the unix socket at `path`.
    pub(super) fn allows_unix(&self, path: &str) -> bool {
        self.unix.iter().any(|known| known.rule.as_str() == path)
    }

    /// Returns whether the client may use the service of this name.
    pub(super) fn allows_service(&self, name: &str) -> bool {
        self.service.iter().any(|known| known.as_str() == name)
    }

    /// Returns whether the client may do this with the share of this name, as far as that permits it.
    pub(super) fn allows_files(&self, share: &str, access: FilesAccess) -> bool {
        self.files.iter().any(|rule| rule.permits(share, access))
    }

    fn targets(&self, transport: Transport) -> impl Iterator<Item = &TargetRule> {
        let (tcp, udp) = match transport {
            Transport::Tcp => (&self.tcp[..], &[][..]),
            Transport::Udp => (&[][..], &self.udp[..]),
        };
        tcp.iter().map(|Proxied { rule, .. }| rule).chain(udp)
    }
}

#[cfg(test)]
mod tests {
    use wire_protocol::message::ListenAddress;

    use super::*;

    fn rights(tcp: &[&str]) -> Rights {
        Rights { tcp: tcp.iter().map(|rule| rule.parse().unwrap()).collect(), ..Rights::none() }
    }

    /// Checks whether a client that asks for `host` may have it resolved, and whether it may then connect to `ip`,
    /// both at `port`.
    #[track_caller]
    fn check(rules: &[&str], (host, port): (&str, u16), ip: &str, expected: (bool, bool)) {
        let rights = rights(rules);
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        let looked_up = rights.may_resolve(Transport::Tcp, host, port);
        let reached = rights.allows_address(Transport::Tcp, host, address);
        assert_eq!((looked_up, reached), expected, "{rules:?}: {host} {address}");
        assert!(!rights.may_resolve(Transport::Udp, host, port), "{host}: UDP needs a right of its own");
        assert!(
            !rights.allows_address(Transport::Udp, host, address),
            "{host}: UDP needs a right of its own"
        );
    }

    /// The name is resolved, and the address is permitted.
    const YES: (bool, bool) = (true, true);
    /// The name is resolved, but the address is not permitted.
    const REBOUND: (bool, bool) = (true, false);
    /// The name is not resolved.
    const NO: (bool, bool) = (false, false);

    #[test]
    fn without_a_rule_nothing_is_reached() {
        for host in ["example.org", "localhost", "127.0.0.1", "10.0.0.1", "::1", "", "*"] {
            check(&[], (host, 80), "10.0.0.1", NO);
            check(&[], (host, 80), "127.0.0.1", NO);
        }
    }

    #[test]
    fn a_name_does_not_lead_to_special_addresses() {
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "fd00:ec2::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            check(&["db.example.org:80"], ("db.example.org", 80), ip, REBOUND);
            check(&["*.example.org:*"], ("db.example.org", 80), ip, REBOUND);
            check(&["*:*"], ("db.example.org", 80), ip, REBOUND);
            check(&["*:*"], (ip, 80), ip, NO);
        }
        check(&["*:*"], ("localhost", 80), "127.0.0.1", REBOUND);
        // Where the address itself is permitted, a name gains nothing.
        check(&["db.example.org:80", "127.0.0.1:80"], ("db.example.org", 80), "127.0.0.1", YES);
        check(&["db.example.org:80", "127.0.0.1:81"], ("db.example.org", 80), "127.0.0.1", REBOUND);
    }

    #[test]
    fn a_name_leads_to_any_other_address() {
        for ip in ["10.0.0.1", "192.168.1.1", "1.1.1.1", "fd00::1", "2606:4700::1111", "64:ff9b::8.8.8.8"] {
            check(&["db.example.org:80"], ("db.example.org", 80), ip, YES);
            check(&["*:80"], (ip, 80), ip, YES);
        }
    }

    #[test]
    fn names_are_told_apart_by_their_labels_alone() {
        for (rule, host, expected) in [
            ("db.example.org:80", "DB.Example.Org", YES),
            ("db.example.org:80", "db.example.org.", YES),
            ("DB.example.org.:80", "db.example.org", YES),
            ("db.example.org:80", "db.example.org..", NO),
            ("db.example.org:80", "xdb.example.org", NO),
            ("db.example.org:80", "db.example.org.evil", NO),
            ("db.example.org:80", "example.org", NO),
            ("db.example.org:80", "db.example.org ", NO),
            ("db.example.org:80", "db.example.org\0", NO),
            ("db.example.org:80", "10.0.0.1", NO),
            ("*.example.org:80", "a.example.org", YES),
            ("*.example.org:80", "A.B.EXAMPLE.ORG.", YES),
            ("*.example.org:80", "example.org", NO),
            ("*.example.org:80", ".example.org", NO),
            ("*.example.org:80", "a..example.org", NO),
            ("*.example.org:80", "aexample.org", NO),
            ("*.example.org:80", "a.example.org.evil", NO),
            ("*.example.org:80", "*.example.org", NO),
            ("*.example.org:80", "evil.org/.example.org", NO),
            ("*.example.org:80", "evil.org\0.example.org", NO),
            ("*:80", "anything.at.all", YES),
            ("*:80", "single", YES),
            ("*:80", "", NO),
            ("*:80", ".", NO),
            ("*:80", "*", NO),
            ("*:80", "[10.0.0.1]", NO),
            ("*:80", "fe80::1%lo", NO),
            ("*:80", "b\u{fc}cher.example", NO),
        ] {
            check(&[rule], (host, 80), "10.0.0.1", expected);
        }
        let long = format!("{}.example.org", "a".repeat(64));
        check(&["*:80"], (&long, 80), "10.0.0.1", NO);
        check(&["*:80"], (&"a.".repeat(127), 80), "10.0.0.1", YES);
        check(&["*:80"], (&"a.".repeat(128), 80), "10.0.0.1", NO);
    }

    #[test]
    fn other_spellings_of_an_address_are_names() {
        for host in
            ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1.", "0x7f.0.0.1", "127.000.000.001"]
        {
            check(&["127.0.0.1:80"], (host, 80), "127.0.0.1", NO);
            check(&["127.0.0.0/8:80", "localhost:80"], (host, 80), "127.0.0.1", NO);
            check(&["*:80"], (host, 80), "127.0.0.1", REBOUND);
        }
        check(&["127.0.0.1:80"], ("::ffff:127.0.0.1", 80), "127.0.0.1", YES);
        check(&["[::ffff:127.0.0.1]:80"], ("127.0.0.1", 80), "127.0.0.1", YES);
        check(&["127.0.0.1:80"], ("::ffff:7f00:1", 80), "::ffff:127.0.0.1", YES);
        check(&["127.0.0.1:80"], ("::127.0.0.1", 80), "::127.0.0.1", NO);
        check(&["[::1]:80"], ("0:0:0:0:0:0:0:1", 80), "::1", YES);
        check(&["10.0.0.1:80"], ("10.0.0.1", 80), "10.0.0.2", REBOUND);
        check(&["10.0.0.0/8:80"], ("10.0.0.1", 80), "10.0.0.2", REBOUND);
    }

    #[test]
    fn networks_and_ports_end_at_their_edges() {
        for (rule, ip, port, expected) in [
            ("10.1.0.0/16:443", "10.1.0.0", 443, YES),
            ("10.1.0.0/16:443", "10.1.255.255", 443, YES),
            ("10.1.0.0/16:443", "10.0.255.255", 443, NO),
            ("10.1.0.0/16:443", "10.2.0.0", 443, NO),
            ("10.1.0.0/16:443", "10.1.0.0", 442, NO),
            ("[fd00::/8]:443", "fdff::1", 443, YES),
            ("[fd00::/8]:443", "fe00::1", 443, NO),
            ("[fd00::/8]:443", "fd00:ec2::254", 443, YES),
            ("169.254.169.254:80", "169.254.169.254", 80, YES),
            ("0.0.0.0/0:80", "127.0.0.1", 80, YES),
            ("0.0.0.0/0:80", "::1", 80, NO),
            ("[::/0]:80", "127.0.0.1", 80, NO),
            ("[::/0]:80", "::ffff:127.0.0.1", 80, NO),
            ("10.0.0.1:8000-8100", "10.0.0.1", 7999, NO),
            ("10.0.0.1:8000-8100", "10.0.0.1", 8000, YES),
            ("10.0.0.1:8000-8100", "10.0.0.1", 8100, YES),
            ("10.0.0.1:8000-8100", "10.0.0.1", 8101, NO),
            ("10.0.0.1:*", "10.0.0.1", 0, NO),
            ("10.0.0.1:*", "10.0.0.1", 1, YES),
            ("10.0.0.1:*", "10.0.0.1", 65535, YES),
            ("*:*", "10.0.0.1", 0, NO),
            ("*:443", "10.0.0.1", 80, NO),
        ] {
            check(&[rule], (ip, port), ip, expected);
        }
    }

    #[test]
    fn localhost_is_loopback_and_nothing_else() {
        for rule in ["localhost:80", "LOCALHOST.:80"] {
            for ip in ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1"] {
                check(&[rule], ("localhost", 80), ip, YES);
                check(&[rule], (ip, 80), ip, YES);
                check(&[rule], ("x.localhost", 80), ip, NO);
            }
            for ip in ["10.0.0.1", "0.0.0.0", "::", "169.254.169.254"] {
                check(&[rule], ("localhost", 80), ip, REBOUND);
                check(&[rule], (ip, 80), ip, NO);
            }
        }
        for (rule, ip, expected) in [
            ("127.0.0.1:80", "127.0.0.1", YES),
            ("127.0.0.1:80", "::1", REBOUND),
            ("127.0.0.0/8:80", "127.0.0.2", YES),
            ("0.0.0.0/0:80", "127.0.0.1", YES),
            ("[::1]:80", "::1", YES),
            ("[::1]:80", "127.0.0.1", REBOUND),
            ("10.0.0.0/8:80", "127.0.0.1", NO),
            ("127.0.0.1:81", "127.0.0.1", NO),
            ("x.localhost:80", "127.0.0.1", NO),
        ] {
            check(&[rule], ("LocalHost.", 80), ip, expected);
        }
    }

    #[test]
    fn a_rule_with_a_header_is_carried_out_whatever_else_permits_the_target() {
        for (rules, host, address, expected) in [
            (&["10.0.0.1:5432"][..], "10.0.0.1", "10.0.0.1:5432", ProxyHeader::None),
            (&["10.0.0.1:5432,proxy"], "10.0.0.1", "10.0.0.1:5432", ProxyHeader::V2),
            (&["10.0.0.1:5432,proxy"], "::ffff:10.0.0.1", "[::ffff:10.0.0.1]:5432", ProxyHeader::V2),
            (&["*:*", "10.0.0.1:5432,proxy"], "10.0.0.1", "10.0.0.1:5432", ProxyHeader::V2),
            (&["10.0.0.1:5432,proxy", "*:*"], "db.example.org", "10.0.0.1:5432", ProxyHeader::V2),
            (&["10.0.0.1:5432,proxy", "*:*"], "db.example.org", "10.0.0.2:5432", ProxyHeader::None),
            (&["10.0.0.1:5432,proxy", "*:*"], "10.0.0.1", "10.0.0.1:5433", ProxyHeader::None),
            (&["db.example.org:*,proxy", "*:*"], "DB.example.org.", "10.0.0.1:1", ProxyHeader::V2),
            (&["*.example.org:*,proxy", "*:*"], "db.example.org", "10.0.0.1:1", ProxyHeader::V2),
            (&["*.example.org:*,proxy", "*:*"], "example.org", "10.0.0.1:1", ProxyHeader::None),
            (&["localhost:80,proxy", "127.0.0.1:*"], "127.0.0.1", "127.0.0.1:80", ProxyHeader::V2),
            (&["127.0.0.1:80,proxy", "localhost:80"], "localhost", "127.0.0.1:80", ProxyHeader::V2),
            (&["127.0.0.1:80,proxy", "localhost:80"], "localhost", "[::1]:80", ProxyHeader::None),
            (&["*:80,proxy", "127.0.0.1:80"], "127.0.0.1", "127.0.0.1:80", ProxyHeader::V2),
        ] {
            let header = rights(rules).tcp_header(host, address.parse().unwrap());
            assert_eq!(header, expected, "{rules:?}: {host} {address}");
        }
        let unix = ["/run/a", "/run/b,proxy", "/run/b"].map(|path| path.parse().unwrap()).to_vec();
        let rights = Rights { unix, ..Rights::none() };
        assert!(["/run/a", "/run/b"].iter().all(|path| rights.allows_unix(path)));
        assert!(!rights.allows_unix("/run/b,proxy"));
        assert_eq!(rights.unix_header("/run/a"), ProxyHeader::None);
        assert_eq!(rights.unix_header("/run/b"), ProxyHeader::V2);
    }

    #[test]
    fn each_transport_has_rules_of_its_own() {
        let rights = Rights { udp: vec!["10.0.0.1:53".parse().unwrap()], ..Rights::none() };
        let address = "10.0.0.1:53".parse().unwrap();
        assert!(rights.allows_address(Transport::Udp, "10.0.0.1", address));
        assert!(!rights.allows_address(Transport::Tcp, "10.0.0.1", address));
        assert!(!rights.may_resolve(Transport::Tcp, "10.0.0.1", 53));
    }

    #[test]
    fn link_local_addresses_are_asked_for_with_their_interface() {
        let address = "[fe80::1%1]:80".parse().unwrap();
        for (host, expected) in [
            ("fe80::1%lo", true),
            ("fe80::1%1", true),
            ("fe80::1", true),
            ("fe80::2%lo", false),
            ("::1%lo", false),
            ("127.0.0.1%lo", false),
            ("host.example%lo", false),
        ] {
            let rights = rights(&["[fe80::1]:80"]);
            assert_eq!(rights.may_resolve(Transport::Tcp, host, 80), expected, "{host}");
            assert_eq!(rights.allows_address(Transport::Tcp, host, address), expected, "{host}");
        }
        assert!(!rights(&["*:*"]).may_resolve(Transport::Tcp, "fe80::1%lo", 80));
    }

    #[test]
    fn paths_and_services_are_permitted_one_by_one() {
        let rights = Rights {
            unix: vec!["/run/db.sock".parse().unwrap()],
            listen: vec!["unix:/run/web.sock".parse().unwrap(), "*:*".parse().unwrap()],
            service: vec!["db".parse().unwrap()],
            ..Rights::none()
        };
        let listens = |path: &str| rights.allows_listen(&ListenAddress::Unix { path: path.into() });
        assert!(
            rights.allows_unix("/run/db.sock") && listens("/run/web.sock") && rights.allows_service("db")
        );
        for path in [
            "",
            "/run",
            "/run/",
            "run/db.sock",
            "/run/../run/db.sock",
            "/run//db.sock",
            "/run/db.sock/",
            "/run/db.sock\0",
        ] {
            assert!(!rights.allows_unix(path) && !listens(path), "{path:?}");
        }
        assert!(!rights.allows_unix("/run/web.sock") && !listens("/run/db.sock"));
        for name in ["", "DB", "db ", "db2", "*"] {
            assert!(!rights.allows_service(name), "{name:?}");
        }
    }
}
