//! The addresses on which the server may listen for a client.

use tunnel::address::EVERYWHERE;
use wire_protocol::message::ListenAddress;

use crate::access::rights::Rights;

impl Rights {
    /// Returns whether the server may listen on `address` for the client. `*` has to be permitted for all addresses of
    /// each family.
    pub(super) fn allows_listen(&self, address: &ListenAddress) -> bool {
        let permits = |address: &ListenAddress| self.listen.iter().any(|rule| rule.permits(address));
        match address {
            ListenAddress::Port { host, port } if host == EVERYWHERE => ["0.0.0.0", "::"]
                .iter()
                .all(|host| permits(&ListenAddress::Port { host: (*host).into(), port: *port })),
            _ => permits(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_listen(rules: &[&str], host: &str, port: u16, expected: bool) {
        let listen = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let rights = Rights { listen, ..Rights::none() };
        let address = ListenAddress::Port { host: host.into(), port };
        assert_eq!(rights.allows_listen(&address), expected, "{rules:?}: {address}");
    }

    #[test]
    fn listening_is_for_loopback_unless_said_otherwise() {
        for host in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST."] {
            check_listen(&["8080"], host, 8080, true);
            check_listen(&["8080"], host, 8081, false);
            check_listen(&["*"], host, 0, true);
            check_listen(&["1-65535"], host, 0, false);
            check_listen(&[], host, 8080, false);
        }
        for host in [
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "10.0.0.1",
            "",
            "*",
            "example.org",
            "127.1",
            "0",
            "::127.0.0.1",
        ] {
            check_listen(&["8080", "*"], host, 8080, false);
            check_listen(&["8080", "*"], host, 0, false);
        }
        check_listen(&["0.0.0.0:80"], "0.0.0.0", 80, true);
        check_listen(&["0.0.0.0:80"], "::", 80, false);
        check_listen(&["0.0.0.0:80"], "127.0.0.1", 80, false);
        check_listen(&["[::]:80"], "::", 80, true);
        check_listen(&["[::]:80"], "0.0.0.0", 80, false);
        check_listen(&["10.0.0.0/8:80-90"], "10.1.2.3", 90, true);
        check_listen(&["10.0.0.0/8:80-90"], "11.0.0.0", 90, false);
        check_listen(&["10.0.0.0/8:80-90"], "10.1.2.3", 91, false);
        check_listen(&["10.0.0.0/8:*"], "10.1.2.3", 0, true);
        check_listen(&["*:80"], "0.0.0.0", 80, true);
        check_listen(&["*:80"], "::", 80, true);
        check_listen(&["*:80"], "0.0.0.0", 81, false);
        check_listen(&["*:80"], "*", 80, true);
        check_listen(&["*:80"], "*", 81, false);
        check_listen(&["0.0.0.0:80"], "*", 80, false);
        check_listen(&["[::]:80"], "*", 80, false);
        check_listen(&["0.0.0.0:80", "[::]:80"], "*", 80, true);
        check_listen(&["80"], "*", 80, false);
        check_listen(&["127.0.0.1:80"], "127.0.0.2", 80, false);
        check_listen(&["unix:/run/x"], "127.0.0.1", 80, false);
    }
}
