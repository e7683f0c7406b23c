//! `client.toml`: the servers that a client uses, and what it forwards through each.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum as _;
use cli_support::admin::ForwardState;
use cli_support::config;
use cli_support::forward::{DynamicForward, ListenSpec, LocalForward, RemoteForward, TargetSpec, Transport};
use cli_support::status_server::{HostName, StatusOptions};
use serde::{Deserialize, Deserializer};
use tunnel::address::Address;
use tunnel::proxy_header::ProxyHeader;

use crate::Error;
use crate::cli::Trust;
use crate::fingerprint::Fingerprint;
use crate::server_spec::ServerSpec;
use crate::trust::TrustPolicy;

/// The settings of `client.toml`, with defaults for missing ones. Paths are absolute.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// How long streams that are live may go on once the client is told to stop: 0 seconds to a day.
    #[serde(deserialize_with = "config::duration::<_, 0, DAY>")]
    pub grace: Duration,
    /// The address of the status page, if any.
    #[serde(deserialize_with = "config::optional_listening")]
    pub status: Option<Address>,
    /// Whether `status` may be an address that other machines reach.
    pub status_anywhere: bool,
    /// The hosts that the status page answers for besides this machine's own.
    #[serde(deserialize_with = "config::texts")]
    pub status_hosts: Vec<HostName>,
    /// What to forward, server by server.
    #[serde(rename = "forward")]
    pub forwards: Vec<Forward>,
}

/// A `[[forward]]` table of `client.toml`: one server, and at least one forward through it.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The server, by name or address.
    pub server: ServerSpec,
    /// How it proves itself, as on the command line.
    pub trust: Trust,
    /// What is listened for here, as in `-L`.
    pub local: Vec<LocalForward>,
    /// What the server listens for, as in `-R`.
    pub remote: Vec<RemoteForward>,
    /// Where a SOCKS proxy listens here, as in `-D`.
    pub dynamic: Vec<DynamicForward>,
    /// Whether targets of `remote` are told of the visitor in front of the data. Those at the server are told by the
    /// server, where its rules say so.
    pub header: ProxyHeader,
    /// How long a new connection waits for a server that is away: 0 seconds to an hour.
    pub wait: Duration,
    /// How long a flow of datagrams may be idle: 1 second to a day.
    pub udp_timeout: Duration,
    /// Whether the connections of `local` and `dynamic` outlive a lost connection to the server.
    pub resume: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            status: None,
            status_anywhere: false,
            status_hosts: Vec::new(),
            forwards: Vec::new(),
        }
    }
}

impl ClientConfig {
    /// Where the status page is.
    #[must_use]
    pub fn status_options(&self) -> StatusOptions {
        StatusOptions {
            address: self.status.clone(),
            anywhere: self.status_anywhere,
            hosts: self.status_hosts.clone(),
        }
    }
}

/// Reads the configuration: the file `given`, else the one that there is (see [`config::find`]), which is named
/// beside it; with none, the defaults.
///
/// # Errors
/// [`Error::Program`] that names the file, and the line where something in it does not make sense; those of [`check`].
pub fn read(given: Option<&Path>) -> Result<(ClientConfig, Option<PathBuf>), Error> {
    let Some(path) = config::find(given, "client")? else { return Ok((ClientConfig::default(), None)) };
    let mut read: ClientConfig = config::read(&path)?;
    let folder = config::folder(&path)?;
    for forward in &mut read.forwards {
        forward.resolve(&folder);
    }
    if let Some(address) = &mut read.status {
        config::resolve_address(address, &folder);
    }
    check(&read.forwards)?;
    Ok((read, Some(path)))
}

/// Finds what cannot be done together, before anything of it is done.
///
/// # Errors
/// [`Error::HeaderMisplaced`], [`Error::ForwardTwice`].
pub fn check(forwards: &[Forward]) -> Result<(), Error> {
    for forward in forwards.iter().filter(|forward| forward.header == ProxyHeader::V2) {
        if let Some(misplaced) = forward.without_header() {
            return Err(Error::HeaderMisplaced { forward: misplaced });
        }
    }
    let mut seen = HashSet::new();
    for (place, forward) in forwards.iter().flat_map(Forward::places) {
        if !seen.insert(place) {
            return Err(Error::ForwardTwice { forward });
        }
    }
    Ok(())
}

/// Where something is listened on: here, or at a server.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place<'a> {
    server: Option<&'a ServerSpec>,
    listen: &'a Address,
    transport: Transport,
}

impl Forward {
    /// The first forward for which this side writes no header.
    fn without_header(&self) -> Option<String> {
        let is_told = |target: &Option<TargetSpec>| {
            matches!(target, Some(TargetSpec::Tcp { .. } | TargetSpec::Unix(_)))
        };
        let local = self.local.iter().map(|forward| format!("-L {forward}"));
        let dynamic = self.dynamic.iter().map(|forward| format!("-D {forward}"));
        let remote = self.remote.iter().filter(|forward| !is_told(&forward.target));
        local.chain(dynamic).chain(remote.map(|forward| format!("-R {forward}"))).next()
    }

    /// Where something is listened on, and by which forward. Port 0 is another one each time.
    /// Where connections are listened for here.
    pub(crate) fn listened_on(&self) -> impl Iterator<Item = &Address> {
        let streams = self.local.iter().filter(|forward| forward.listen.transport == Transport::Stream);
        let local = streams.map(|forward| &forward.listen.address);
        local.chain(self.dynamic.iter().map(|forward| &forward.listen))
    }

    fn places(&self) -> impl Iterator<Item = (Place<'_>, String)> {
        let here = |listen, transport| Place { server: None, listen, transport };
        let local = self.local.iter().map(move |forward| {
            (here(&forward.listen.address, forward.listen.transport), format!("-L {forward}"))
        });
        let dynamic = self
            .dynamic
            .iter()
            .map(move |forward| (here(&forward.listen, Transport::Stream), format!("-D {forward}")));
        let remote = self.remote.iter().map(|forward| {
            let ListenSpec { address: listen, transport } = &forward.listen;
            (Place { server: Some(&self.server), listen, transport: *transport }, format!("-R {forward}"))
        });
        let is_chosen = |place: &Place<'_>| !matches!(place.listen, Address::Tcp { port: 0, .. });
        local.chain(dynamic).chain(remote).filter(move |(place, _)| is_chosen(place))
    }

    /// Each of the forwards, as the status shows it.
    pub(crate) fn states(&self) -> impl Iterator<Item = ForwardState> {
        let state = |kind: &str, listen: String, target: Option<String>| ForwardState {
            kind: kind.into(),
            server: self.server.to_string(),
            listen,
            target,
        };
        let spec = |listen: &ListenSpec| match listen.transport {
            Transport::Stream => listen.address.to_string(),
            Transport::Datagram => format!("{}/udp", listen.address),
        };
        let local = self
            .local
            .iter()
            .map(move |forward| state("local", spec(&forward.listen), Some(forward.target.to_string())));
        let remote = self.remote.iter().map(move |forward| {
            state("remote", spec(&forward.listen), forward.target.as_ref().map(ToString::to_string))
        });
        let dynamic =
            self.dynamic.iter().map(move |forward| state("dynamic", forward.listen.to_string(), None));
        local.chain(remote).chain(dynamic)
    }

    /// Whether there is nothing to forward.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty() && self.dynamic.is_empty()
    }

    /// Lets relative paths start from `folder`.
    fn resolve(&mut self, folder: &Path) {
        if let ServerSpec::Address(address) = &mut self.server {
            config::resolve_address(address, folder);
        }
        if let Some(path) = &mut self.trust.psk {
            *path = folder.join(&path);
        }
    }
}

impl<'de> Deserialize<'de> for Forward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        config::table(deserializer, ForwardTable::into_forward)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwardTable {
    #[serde(deserialize_with = "config::text")]
    server: ServerSpec,
    #[serde(default, deserialize_with = "config::optional_text")]
    server_key: Option<Fingerprint>,
    #[serde(default, deserialize_with = "config::optional_text")]
    trust: Option<TrustWord>,
    psk: Option<PathBuf>,
    #[serde(default, deserialize_with = "config::texts")]
    local: Vec<LocalForward>,
    #[serde(default, deserialize_with = "config::texts")]
    remote: Vec<RemoteForward>,
    #[serde(default, deserialize_with = "config::texts")]
    dynamic: Vec<DynamicForward>,
    #[serde(default)]
    proxy_protocol: bool,
    #[serde(default = "default_wait", deserialize_with = "config::duration::<_, 0, HOUR>")]
    wait: Duration,
    #[serde(default = "default_udp_timeout", deserialize_with = "config::duration::<_, 1, DAY>")]
    udp_timeout: Duration,
    #[serde(default = "default_resume")]
    resume: bool,
}

impl ForwardTable {
    fn into_forward(self) -> Result<Forward, String> {
        let other = [("server_key", self.server_key.is_some()), ("trust", self.trust.is_some())];
        if self.psk.is_some()
            && let Some((key, _)) = other.into_iter().find(|&(_, is_there)| is_there)
        {
            return Err(format!(
                "psk and {key} exclude each other: with a pre-shared key there is no server key"
            ));
        }
        let server_key = self.server_key.map(|Fingerprint(id)| id);
        let policy = self.trust.map_or(TrustPolicy::Ask, |TrustWord(policy)| policy);
        let forward = Forward {
            server: self.server,
            trust: Trust { server_key, trust: policy, psk: self.psk },
            local: self.local,
            remote: self.remote,
            dynamic: self.dynamic,
            header: if self.proxy_protocol { ProxyHeader::V2 } else { ProxyHeader::None },
            wait: self.wait,
            udp_timeout: self.udp_timeout,
            resume: self.resume,
        };
        if forward.is_empty() {
            return Err("nothing to forward: one of local, remote and dynamic is needed".into());
        }
        // What one table says against itself is told with its line.
        check(std::slice::from_ref(&forward)).map_err(|error| error.to_string())?;
        Ok(forward)
    }
}

/// A policy by the word that the command line has for it.
struct TrustWord(TrustPolicy);

impl FromStr for TrustWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let policy = TrustPolicy::from_str(text, false);
        policy.map(Self).map_err(|_| format!("{text:?} is not one of ask, accept-new, strict"))
    }
}

fn default_resume() -> bool {
    true
}

fn default_wait() -> Duration {
    Duration::from_secs(30)
}

fn default_udp_timeout() -> Duration {
    Duration::from_secs(60)
}

const HOUR: u64 = 3600;
const DAY: u64 = 86400;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use cli_support::report::Report as _;
    use crypto_core::identity::KeyId;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        (folder, path)
    }

    #[test]
    fn an_empty_file_forwards_nothing() {
        let (_folder, path) = file("");
        let (config, found) = read(Some(&path)).unwrap();
        assert!(config.forwards.is_empty());
        assert_eq!((config.grace, found), (Duration::from_secs(30), Some(path)));
    }

    #[test]
    fn what_is_left_out_is_as_on_the_command_line() {
        let (_folder, path) = file("[[forward]]\nserver = 'host:5000'\ndynamic = ['1080']\n");
        let config = read(Some(&path)).unwrap().0;
        let forward = &config.forwards[0];
        assert_eq!(forward.server, "host:5000".parse().unwrap());
        assert_eq!((forward.trust.server_key, forward.trust.trust), (None, TrustPolicy::Ask));
        assert_eq!(forward.trust.psk, None);
        assert_eq!(forward.header, ProxyHeader::None);
        assert_eq!([forward.wait, forward.udp_timeout].map(|value| value.as_secs()), [30, 60]);
    }

    #[test]
    fn everything_can_be_said_and_paths_start_from_the_folder_of_the_file() {
        let key = KeyId([7; 32]);
        let text = format!(
            "grace = '0s'\n\
             [[forward]]\n\
             server = 'host:5000'\n\
             server_key = '{key}'\n\
             trust = 'accept-new'\n\
             local = ['5432:@db', '127.0.0.1:8080:web:80']\n\
             remote = ['8080:127.0.0.1:80']\n\
             dynamic = ['1080']\n\
             resume = false\n\
             wait = '0s'\n\
             udp_timeout = '5m'\n\
             [[forward]]\n\
             server = 'unix:server.sock'\n\
             psk = 'laptop.psk'\n\
             remote = ['8080:127.0.0.1:80', '8081:/run/web']\n\
             proxy_protocol = true\n"
        );
        let (folder, path) = file(&text);
        let config = read(Some(&path)).unwrap().0;
        let [first, second] = &config.forwards[..] else { panic!("{config:?}") };
        assert_eq!((first.trust.server_key, first.trust.trust), (Some(key), TrustPolicy::AcceptNew));
        assert_eq!(first.local, ["5432:@db", "127.0.0.1:8080:web:80"].map(|text| text.parse().unwrap()));
        assert_eq!(first.remote, ["8080:127.0.0.1:80"].map(|text| text.parse().unwrap()));
        assert_eq!(first.dynamic, ["1080"].map(|text| text.parse().unwrap()));
        assert_eq!([first.header, second.header], [ProxyHeader::None, ProxyHeader::V2]);
        assert_eq!([first.resume, second.resume], [false, true]);
        assert_eq!([first.wait, first.udp_timeout].map(|value| value.as_secs()), [0, 300]);
        assert_eq!(second.server, Address::Unix(folder.path().join("server.sock")).into());
        assert_eq!(second.trust.psk, Some(folder.path().join("laptop.psk")));
    }

    #[track_caller]
    fn check(text: &str, line: usize, what: &str) {
        let (_folder, path) = file(text);
        let error = read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(&format!("client.toml: TOML parse error at line {line},")), "{error}");
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        let good = "[[forward]]\nserver = 'a:1'\nlocal = ['1:@db']\n";
        let after = |rest: &str| format!("{good}{rest}");
        check("\ngrace = 'long'", 2, "\"long\" is not a duration");
        check("\nforwards = []", 2, "unknown field `forwards`");
        check("[[forward]]\nlocal = ['1:@db']", 1, "missing field `server`");
        check(&after("[[forward]]\nserver = 'a b'\n"), 5, "\"a b\" is not an address");
        check(&after("[[forward]]\nserver = 'a:1'\n"), 4, "nothing to forward");
        check(&after("[[forward]]\nserver = 'a:1'\nremote = []\n"), 4, "nothing to forward");
        check(&after("server_key = 'SHA256:x'"), 4, "\"SHA256:x\" is not a fingerprint");
        check(&after("server_key = 'MD5:x'"), 4, "\"MD5:x\" is not a fingerprint");
        check(&after("trust = 'always'"), 4, "\"always\" is not one of ask, accept-new, strict");
        check(&after("trust = 'Ask'"), 4, "\"Ask\" is not one of");
        check(&after("psk = 'x'\ntrust = 'ask'"), 1, "psk and trust exclude each other");
        let key = KeyId([7; 32]);
        check(&after(&format!("psk = 'x'\nserver_key = '{key}'")), 1, "psk and server_key exclude");
        check(&after("remote = ['']"), 4, "no place to listen");
        check(&after("remote = ['8080:@db']"), 4, "only the server has services");
        check(&after("local = ['1:@db']"), 4, "duplicate key");
        check(&after("dynamic = [\n'1080',\n'10 80']"), 6, "\"10 80\"");
        check(&after("dynamic = [1080]"), 4, "expected a string");
        check(&after("wait = '2h'"), 4, "0s to 3600s are possible");
        check(&after("udp_timeout = '0s'"), 4, "1s to 86400s are possible");
        check(&after("udp_timeout = 60"), 4, "expected a string");
        check(&after("proxy_protocol = 'v2'"), 4, "expected a boolean");
        check(&after("grace = '1s'"), 4, "unknown field `grace`");
        check("[forward]\nserver = 'a:1'", 1, "expected a sequence");
    }

    #[track_caller]
    fn check_conflict(tables: &[&str], expected: &str) {
        let servers = ["a:1", "b:1"].iter().cycle();
        let tables = tables
            .iter()
            .zip(servers)
            .map(|(table, server)| format!("[[forward]]\nserver = '{server}'\n{table}\n"));
        let (_folder, path) = file(&tables.collect::<String>());
        match (read(Some(&path)), expected) {
            (Ok(_), "") => {}
            (Ok(_), expected) => panic!("{expected:?} was not refused"),
            (Err(error), expected) => {
                let text = error.to_string();
                assert!(!expected.is_empty() && text.trim_end().ends_with(expected), "{text}");
                assert_eq!(error.exit(), cli_support::report::Exit::Usage);
            }
        }
    }

    #[test]
    fn a_header_goes_with_remote_targets_alone() {
        let refused = |forward| format!("a header of the PROXY protocol does not go with {forward}");
        for (key, spec, forward) in [
            ("local", "1:h:80", "-L 127.0.0.1:1:h:80"),
            ("local", "1:@db", "-L 127.0.0.1:1:@db"),
            ("dynamic", "1080", "-D 127.0.0.1:1080"),
            ("remote", "1080", "-R 127.0.0.1:1080"),
            ("remote", "53:h:53/udp", "-R 127.0.0.1:53:h:53/udp"),
        ] {
            let table = format!("{key} = ['{spec}']");
            check_conflict(&[&table], "");
            check_conflict(&[&format!("{table}\nproxy_protocol = true")], &refused(forward));
        }
        let mixed = "remote = ['1:h:80']\nlocal = ['1:h:80']\nproxy_protocol = true";
        check_conflict(&[mixed], &refused("-L 127.0.0.1:1:h:80"));
        check_conflict(&["remote = ['1:h:80', '2:/run/x']\nproxy_protocol = true"], "");
    }

    #[test]
    fn what_is_listened_on_twice_is_refused() {
        let twice = |forward| format!("{forward} listens where another one does already");
        let again = twice("-R 127.0.0.1:80:y:1");
        check_conflict(&["remote = ['80:x:1', '80:y:1']"], &again);
        check_conflict(&["remote = ['80', '80:y:1']"], &again);
        check_conflict(&["remote = ['80:x:1']", "local = ['1:@a']", "remote = ['80:y:1']"], &again);
        check_conflict(&["remote = ['/run/x:x:1', '/run/x:y:1']"], &twice("-R unix:/run/x:y:1"));
        check_conflict(&["local = ['80:x:1', '80:x:1']"], &twice("-L 127.0.0.1:80:x:1"));
        check_conflict(&["local = ['80:x:1']", "dynamic = ['80']"], &twice("-D 127.0.0.1:80"));
        // Another transport, address, server or side, and what the system chooses.
        check_conflict(&["remote = ['80:x:1', '80:x:1/udp', '*:80:x:1', '0:x:1', '0:x:1']"], "");
        check_conflict(&["remote = ['80:x:1']\nlocal = ['80:x:1']", "remote = ['80:x:1']"], "");
        check_conflict(&["local = ['0:x:1', '0:x:1', '/run/x:x:1', '/run/y:x:1']\ndynamic = ['0', '0']"], "");
    }

    #[test]
    fn the_example_of_the_readme_is_good() {
        let readme = include_str!("../../../README.md");
        let (_, example) = readme.split_once("```toml\n# client.toml").unwrap();
        let (_folder, path) = file(&format!("#{}", example.split_once("```").unwrap().0));
        let config = read(Some(&path)).unwrap().0;
        assert_eq!(config.forwards[0].local.len(), 2);
    }
}
