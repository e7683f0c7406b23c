//! The options of `server allow`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use cli_support::rate::Rate;
use jiff::Timestamp;

use crate::access::{
    Access, Allowed, ClientName, Credential, Expiry, FilesRule, Grant, ListenRule, Name, Network, Proxied,
    Rights, SocketPath, TargetRule, with_permissions,
};
use crate::error::Error;
use crate::traffic_quota::TrafficQuota;

/// Options of `allow`.
#[derive(Debug, Args)]
pub struct Allow {
    /// Fingerprint of the client's key, or name of its pre-shared key
    #[arg(value_name = "SHA256:...|psk:NAME")]
    pub client: Credential,
    /// What the client is called here, in any script; one that is known keeps its name, a pre-shared key has its own
    #[arg(long)]
    pub name: Option<ClientName>,
    /// Add what is named to what the client may do already
    #[arg(long, conflicts_with = "remove")]
    pub add: bool,
    /// Remove what is named, and leave the rest
    #[arg(long, conflicts_with_all = ["expires", "max_channels", "max_rate", "quota"])]
    pub remove: bool,
    /// Configuration file of the server, to look up services and shares in for a warning [default: as for server run]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The rights of the client.
    #[command(flatten)]
    pub permissions: Permissions,
    /// Refuse it after a duration such as 90d, or from a moment such as 2027-02-22T10:00:00Z
    #[arg(long, help_heading = LIMITS, value_name = "DURATION")]
    pub expires: Option<Expiry>,
    /// The other limits.
    #[command(flatten)]
    pub limits: Limits,
}

/// Limits of a client, which are rights of nobody.
#[derive(Debug, Args)]
pub struct Limits {
    /// Refuse it from elsewhere than this network, such as 10.0.0.0/8, and on unix sockets
    #[arg(long, help_heading = LIMITS, value_name = "CIDR")]
    pub from: Vec<Network>,
    /// Most channels that it may have at once
    #[arg(long, help_heading = LIMITS, value_name = "N")]
    pub max_channels: Option<NonZeroUsize>,
    /// Most bytes that it may move in a second through tunnels and in files, such as 10MiB; as many again in datagrams
    #[arg(long, help_heading = LIMITS, value_name = "SIZE")]
    pub max_rate: Option<Rate>,
    /// Most bytes that it may move in a period, both directions together, such as 100GiB/30d
    ///
    /// A period begins with the first byte behind the end of the last one. What is open when the quota is used up is ended within
    /// a quarter of a second, in which --max-rate bounds what still passes, and nothing new is opened until the period ends. server
    /// list -l shows how much is used.
    #[arg(long, help_heading = LIMITS, value_name = "SIZE/PERIOD")]
    pub quota: Option<TrafficQuota>,
}

impl Allow {
    /// Returns whether the command replaces all earlier rights.
    #[must_use]
    pub fn replaces(&self) -> bool {
        !self.add && !self.remove
    }

    /// Applies the command to the list of clients.
    ///
    /// # Errors
    /// Those of [`Access::allow`], [`Access::add`] and [`Access::remove`], and [`Error::NothingNamed`].
    pub fn apply(&self, access: &mut Access, now: Timestamp) -> Result<Allowed, Error> {
        let (client, name) = (&self.client, self.name.as_ref());
        if self.replaces() {
            return access.allow(client, name, self.grant(now));
        }
        let named = self.named(now);
        if named == Grant::unlimited(Rights::none()) {
            return Err(Error::NothingNamed);
        }
        if self.add { access.add(client, name, &named) } else { access.remove(client, name, &named) }
    }

    /// The grant that replaces all earlier rights, as of `now`.
    #[must_use]
    pub fn grant(&self, now: Timestamp) -> Grant {
        or_usual(self.named(now))
    }

    /// The grant that the options name, as of `now`.
    fn named(&self, now: Timestamp) -> Grant {
        named(&self.permissions, &self.limits, self.expires, now)
    }
}

/// The grant that options name, as of `now`.
pub(super) fn named(
    permissions: &Permissions,
    limits: &Limits,
    expires: Option<Expiry>,
    now: Timestamp,
) -> Grant {
    let Limits { max_channels, max_rate, quota, .. } = *limits;
    let rights = Rights { max_channels, max_rate, quota, ..Rights::none() };
    Grant {
        rights: Arc::new(permissions.rights(rights)),
        expires: expires.map(|expiry| expiry.moment(now)),
        from: Some(limits.from.clone()).filter(|from| !from.is_empty()),
    }
}

/// The grant itself, or with the usual rights where it names none.
pub(super) fn or_usual(mut grant: Grant) -> Grant {
    if grant.rights.is_none() {
        grant.rights = Arc::new(Rights { messages: true, pipe: true, ..Rights::clone(&grant.rights) });
    }
    grant
}

macro_rules! permissions {
    ($($(#[$about:meta])* $key:ident: $held:ty, $permission:ident;)*) => {
        /// The options of `allow` that name what a client may do: one for each permission of the table.
        #[derive(Debug, Args)]
        pub struct Permissions {
            $(
                $(#[$about])*
                #[arg(long, help_heading = RIGHTS)]
                pub $key: $held,
            )*
        }

        impl Permissions {
            /// The rights that the options name, within `limits`.
            fn rights(&self, limits: Rights) -> Rights {
                Rights { $($key: self.$key.clone(),)* ..limits }
            }
        }
    };
}

with_permissions!(permissions);

const RIGHTS: &str = "What it may do";
pub(super) const LIMITS: &str = "Within which limits";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;
    use cli_support::home::Home;
    use crypto_core::identity::KeyId;
    use wire_protocol::message::{ClientIdentity, FilesAccess, LEASE_LEN, ListenAddress, ListenKind, Target};

    use super::*;
    use crate::access::{Action, Advice, Denial, Enrolment, Permission, Principal, Request, permits};
    use crate::accounts::AccountHandle;
    use crate::cli::{Cli, Command};

    const ALICE: &str = "SHA256:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    fn parse(arguments: &[&str]) -> Result<Allow, clap::Error> {
        let start = ["server", "allow", ALICE];
        match Cli::try_parse_from(start.iter().chain(arguments))?.command {
            Some(Command::Allow(allow)) => Ok(*allow),
            command => panic!("not allow: {command:?}"),
        }
    }

    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let now = "2026-11-24T10:00:00.75Z".parse().unwrap();
        let grant = parse(arguments).unwrap_or_else(|error| panic!("{error}")).grant(now);
        assert_eq!(grant.options(now), expected);
    }

    #[test]
    fn allow_grants_what_is_named_and_otherwise_the_usual() {
        check(&[], "--messages --pipe");
        check(&["--pipe"], "--pipe");
        check(&["--max-channels", "4"], "--messages --pipe --max-channels 4");
        check(&["--from", "::1", "--from", "10.0.0.0/8"], "--messages --pipe --from ::1 --from 10.0.0.0/8");
        check(&["--expires", "90d"], "--messages --pipe --expires 2027-02-22T10:00:00Z");
        check(
            &["--expires", "2027-01-01T01:00:00+01:00"],
            "--messages --pipe --expires 2027-01-01T00:00:00Z",
        );
        check(
            &["--expires", "2020-01-01T00:00:00Z"],
            "--messages --pipe --expires 2020-01-01T00:00:00Z (expired)",
        );
        for never in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00", "9999-12-31T00:00:00-05:00"] {
            check(&["--expires", never], "--messages --pipe --expires 9999-12-30T22:00:00Z");
        }
        check(&["--tcp", "[::1]:80", "--tcp", "*:443"], "--tcp '[::1]:80' --tcp '*:443'");
        check(&["--udp", "ns:53", "--unix", "/run/x"], "--udp ns:53 --unix /run/x");
        check(
            &["--tcp", "10.0.0.1:5432,proxy", "--tcp", "*:80,proxy", "--unix", "/run/x,proxy"],
            "--tcp 10.0.0.1:5432,proxy --tcp '*:80,proxy' --unix /run/x,proxy",
        );
        check(&["--listen", "8080", "--listen", "*"], "--listen 8080 --listen '*'");
        check(&["--files", "in:drop", "--files", "docs"], "--files in:drop --files docs");
        check(&["--quota", "100GiB/30d"], "--messages --pipe --quota 100GiB/30d");
        check(&["--service", "db", "--max-rate", "1.5MiB"], "--service db --max-rate 1536KiB");
    }

    #[test]
    fn what_allow_does_not_understand_is_named() {
        for (option, value) in [
            ("--tcp", "10.0.0.1"),
            ("--tcp", "10.0.0.1/8:80"),
            ("--tcp", "::1:80"),
            ("--tcp", "host:80,header"),
            ("--udp", "host:0"),
            ("--udp", "host:53,proxy"),
            ("--unix", "x.sock"),
            ("--service", "a b"),
            ("--files", "a b"),
            ("--files", "docs:rx"),
            ("--files", "docs:"),
            ("--files", ":ro"),
            ("--files", "docs:ro:rw"),
            ("--files", "docs/sub"),
            ("--listen", "host:80"),
            ("--expires", "90"),
            ("--expires", "-90d"),
            ("--expires", "1y"),
            ("--expires", "9999-12-31"),
            ("--expires", "9999-12-31T23:59:59"),
            ("--from", "example.org"),
            ("--max-channels", "0"),
            ("--max-rate", "fast"),
            ("--quota", "100GiB"),
            ("--name", "a\tb"),
        ] {
            let error = parse(&[&format!("{option}={value}")]).unwrap_err().to_string();
            assert!(error.contains(&format!("for '{option} <")), "{error}");
        }
        let id = crypto_core::identity::KeyId([7; 32]).to_string();
        let bare = id.trim_start_matches("SHA256:");
        let error = Cli::try_parse_from(["server", "allow", bare, "--name", "x"]).err().unwrap().to_string();
        assert!(error.contains("without the SHA256:"), "{error}");
        for client in ["alice", "SHA256:abc", "psk:", "psk:a b", ""] {
            assert!(Cli::try_parse_from(["server", "allow", client, "--name", "x"]).is_err(), "{client:?}");
        }
    }
    /// A value for the option of a permission, if it takes any, and a target that it permits.
    fn example(permission: Permission) -> (Option<&'static str>, Target) {
        let host = || "10.0.0.1".to_owned();
        match permission {
            Permission::Messages => (None, Target::Message),
            Permission::Pipe => (None, Target::Pipe),
            Permission::Tcp => (Some("10.0.0.1:5432"), Target::Tcp { host: host(), port: 5432 }),
            Permission::Udp => (Some("10.0.0.1:53"), Target::Udp { host: host(), port: 53 }),
            Permission::Unix => (Some("/run/db.sock"), Target::Unix { path: "/run/db.sock".into() }),
            Permission::Service => (Some("db"), Target::Service { name: "db".into() }),
            Permission::Files => {
                (Some("docs:rw"), Target::Files { share: "docs".into(), access: FilesAccess::Replace })
            }
            Permission::Listen => {
                let address = ListenAddress::Port { host: "127.0.0.1".into(), port: 8080 };
                let (kind, lease) = (ListenKind::Stream, [0; LEASE_LEN]);
                (Some("8080"), Target::Listen { address, kind, lease })
            }
        }
    }

    /// Runs `server allow alice` with these options, and checks that the client may do `held` and no more by every
    /// view: the decisions, the file, the list.
    #[track_caller]
    fn check_held(access: &mut Access, arguments: &[&str], held: &[Permission]) {
        let now = Timestamp::now();
        let allowed = parse(arguments).unwrap_or_else(|error| panic!("{error}")).apply(access, now).unwrap();
        let principal = Principal {
            account: AccountHandle::default(),
            identity: ClientIdentity::Key(KeyId([1; 32])),
            name: allowed.name,
            grant: allowed.grant,
            enrolment: Enrolment::Enrolled,
        };
        let text = toml::to_string(access).unwrap();
        assert_eq!(toml::from_str::<Access>(&text).unwrap(), *access, "{text}");
        let line = access.lines(now).next().unwrap();
        let object = access.objects(now).next().unwrap();
        for &permission in Permission::ALL {
            let (value, target) = example(permission);
            let action = Action::Open { target: &target, address: None, header: None };
            let decision = permits(&Request { principal: &principal, source: None, action });
            let is_held = held.contains(&permission);
            let expected = if is_held { None } else { Some(Denial::Missing(permission)) };
            assert_eq!(decision.err(), expected, "{arguments:?}: {target}");
            let written = match value {
                None => format!("\n{permission} = true\n"),
                Some(value) => format!("\n{permission} = [\"{value}\"]\n"),
            };
            assert_eq!(text.contains(&written), is_held, "{arguments:?}: {text}");
            let option =
                value.map_or_else(|| format!("--{permission}"), |value| format!("--{permission} {value}"));
            assert_eq!(line.contains(&option), is_held, "{arguments:?}: {line}");
            let listed = object.get(permission.key()).is_some_and(|held| *held != serde_json::json!(false));
            assert_eq!(listed, is_held, "{arguments:?}: {object}");
        }
    }

    #[test]
    fn a_permission_of_the_table_is_one_of_the_file_the_options_the_list_and_the_policy() {
        let words = |permission: Permission| {
            let option = format!("--{permission}");
            std::iter::once(option).chain(example(permission).0.map(str::to_owned)).collect::<Vec<_>>()
        };
        for &permission in Permission::ALL {
            let mut access = Access::default();
            let one = words(permission);
            let one: Vec<&str> = one.iter().map(String::as_str).collect();
            check_held(&mut access, &[&["--name", "alice"][..], &one].concat(), &[permission]);
            let mut held = vec![permission];
            for &other in Permission::ALL.iter().filter(|other| **other != permission) {
                let more = words(other);
                let more: Vec<&str> = more.iter().map(String::as_str).collect();
                held.push(other);
                check_held(&mut access, &[&["--add"][..], &more].concat(), &held);
            }
            held.remove(0);
            check_held(&mut access, &[&["--remove"][..], &one].concat(), &held);
            // All other rights are removed at once, so that none is left.
            let others: Vec<String> = held.iter().flat_map(|other| words(*other)).collect();
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            check_held(&mut access, &[&["--remove"][..], &others].concat(), &[]);
        }
    }

    #[test]
    fn the_command_that_is_advised_lets_the_client_in() {
        let home = Home::resolve(Some("/srv/a-home".into())).unwrap();
        let now = Timestamp::now();
        let source = "192.0.2.7".parse().unwrap();
        let hour = Duration::from_secs(3600);
        let key = KeyId([1; 32]);
        let alice = ClientIdentity::Key(key);
        let usual = || Grant::unlimited(Rights::usual());
        for grant in [
            None,
            Some(Grant { expires: Some(now - hour), ..usual() }),
            Some(Grant { from: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..usual() }),
        ] {
            let mut access = Access::default();
            if let Some(grant) = grant {
                access.allow(&Credential::Key(key), Some(&"alice".parse().unwrap()), grant).unwrap();
            }
            let denial = access.denial(&alice, Some(source)).unwrap();
            let advice = Advice::of(&alice, Some(source), denial, &home);
            assert_eq!(advice.client, Some(key.to_string()));
            let command = advice.command.unwrap();
            assert!(command.starts_with("server --home /srv/a-home allow SHA256:"), "{command}");
            // The line's words can be pasted in a shell, since none of them needs quotes.
            let words = command.split(' ').filter(|word| !word.is_empty());
            match Cli::try_parse_from(words).unwrap().command {
                Some(Command::Allow(allow)) => allow.apply(&mut access, now).unwrap(),
                command => panic!("{command:?}"),
            };
            assert_eq!(access.denial(&alice, Some(source)), None, "{command}");
        }
    }

    #[test]
    fn a_client_that_no_command_lets_in_is_given_none() {
        let home = Home::resolve(Some("/srv/a-home".into())).unwrap();
        let mut access = Access::default();
        access.note_psk("lost").unwrap();
        access.revoke("lost").unwrap();
        let lost = ClientIdentity::Psk("lost".into());
        assert_eq!(access.denial(&lost, None), Some(Denial::Revoked));
        for (client, denial) in [
            (ClientIdentity::Anonymous, Denial::NoKey),
            (lost, Denial::Revoked),
            (ClientIdentity::Psk("nobody".into()), Denial::Revoked),
            (ClientIdentity::Key(KeyId([1; 32])), Denial::NoFile),
            (ClientIdentity::Key(KeyId([1; 32])), Denial::Unproved),
            // A client on a unix socket comes from no network.
            (ClientIdentity::Key(KeyId([1; 32])), Denial::Elsewhere(None)),
        ] {
            let advice = Advice::of(&client, None, denial, &home);
            assert_eq!(advice.command, None, "{client:?}: {advice:?}");
        }
    }
}
