//! Where the status is served: options of both programs.

use clap::Args;
use tunnel::address::{Address, EVERYWHERE};

use super::host::{HostName, ip};
use crate::error::Error;

/// Where the status is served, and under which names. The command line has them as options, and the configuration files as
/// `status`, `status_anywhere` and `status_hosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StatusOptions {
    /// Serve a page with the status, status.json, healthz, readyz and metrics here, by HTTP: a port of this machine alone, such
    /// as 127.0.0.1:9100, or `unix:/PATH`
    #[arg(id = "status", long = "status", value_name = "ADDR", value_parser = Address::listening)]
    pub address: Option<Address>,
    /// Let --status be an address that other machines reach: whoever reaches it reads who is connected, and to what
    #[arg(id = "status_anywhere", long = "status-anywhere")]
    pub anywhere: bool,
    /// Answer requests for this host too, such as the name of a proxy in front; may be given several times
    #[arg(id = "status_hosts", long = "status-host", value_name = "HOST")]
    pub hosts: Vec<HostName>,
}

impl StatusOptions {
    /// What is given here, and for the rest what `config` says.
    #[must_use]
    pub fn or(&self, config: Self) -> Self {
        Self {
            address: self.address.clone().or(config.address),
            anywhere: self.anywhere || config.anywhere,
            hosts: if self.hosts.is_empty() { config.hosts } else { self.hosts.clone() },
        }
    }

    /// Says without listening whether the address may be listened on. Where a name leads is known only then.
    ///
    /// # Errors
    /// [`Error::StatusExposed`].
    pub fn check(&self) -> Result<(), Error> {
        match &self.address {
            Some(address @ Address::Tcp { host, .. })
                if !self.anywhere && ip(host).map_or(host == EVERYWHERE, |ip| !ip.is_loopback()) =>
            {
                Err(Error::StatusExposed { address: address.to_string() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    /// A program with an address of its own.
    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        status: StatusOptions,
        address: Option<Address>,
    }

    #[test]
    fn the_options_go_with_others_and_before_the_file() {
        Program::command().debug_assert();
        let given =
            ["program", "--status", "*:9100", "--status-anywhere", "--status-host", "a.example", "b:1"];
        let Program { status, address } = Program::try_parse_from(given).unwrap();
        assert!(status.anywhere && address.is_some());
        let file = StatusOptions {
            address: Some("127.0.0.1:1".parse().unwrap()),
            anywhere: false,
            hosts: vec!["c.example".parse().unwrap()],
        };
        assert_eq!(status.or(file.clone()), status);
        assert_eq!(StatusOptions::default().or(file.clone()), file);
    }

    #[test]
    fn what_others_reach_is_refused_before_anything_listens() {
        let options = |address: &str, anywhere| StatusOptions {
            address: Some(address.parse().unwrap()),
            anywhere,
            ..StatusOptions::default()
        };
        for address in ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/x"] {
            options(address, false).check().unwrap();
        }
        StatusOptions::default().check().unwrap();
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            assert!(matches!(options(address, false).check(), Err(Error::StatusExposed { .. })), "{address}");
            options(address, true).check().unwrap();
        }
    }
}
