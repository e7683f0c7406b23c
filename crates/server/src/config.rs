//! `server.toml`: the settings of the command line, and the services and shares that clients reach by name.

mod named_tables;
mod resume_table;
mod share_table;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use cli_support::config;
use cli_support::status_server::{HostName, StatusOptions};
use serde::Deserialize;
use serde::de::Deserializer;
use tunnel::address::{Address, AddressError};
use tunnel::proxy_header::ProxyHeader;

use crate::config::named_tables::{NamedTable, NamedTables, TableName};
use crate::config::resume_table::ResumeTable;
use crate::error::Error;
use crate::file_share::FileShare;
use crate::proxy_source::ProxySource;

/// The settings of `server.toml`, with defaults for missing ones. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The addresses to listen on, at least one.
    #[serde(deserialize_with = "listen")]
    pub listen: Vec<Address>,
    /// Whether anonymous clients may connect.
    pub anyone: bool,
    /// The proxies that are trusted to name the origins of connections.
    #[serde(deserialize_with = "config::texts")]
    pub proxy_from: Vec<ProxySource>,
    /// The files of pre-shared keys. With any of them the server has no RSA key.
    pub psk: Vec<PathBuf>,
    /// The file of the key that seals tickets.
    pub ticket_keys: Option<PathBuf>,
    /// The file of the audit log.
    pub audit: Option<PathBuf>,
    /// The address of the status page, if any.
    #[serde(deserialize_with = "config::optional_listening")]
    pub status: Option<Address>,
    /// Whether `status` may be an address that other machines reach.
    pub status_anywhere: bool,
    /// The hosts that the status page answers for besides this machine's own.
    #[serde(deserialize_with = "config::texts")]
    pub status_hosts: Vec<HostName>,
    /// Longest message that is accepted: 1 byte to 1 TiB.
    #[serde(deserialize_with = "max_message")]
    pub max_message: ByteSize,
    /// Time that open streams have to end once the server is told to stop: 0 seconds to a day.
    #[serde(deserialize_with = "config::duration::<_, 0, DAY>")]
    pub grace: Duration,
    /// Time that a channel may stay idle: 15 seconds to a day.
    #[serde(deserialize_with = "config::duration::<_, MIN_IDLE, DAY>")]
    pub idle_timeout: Duration,
    /// How much the resumable streams of clients may keep, and for how long.
    pub resume: ResumeTable,
    /// Most channels at once, in all: 1 to 65536; `None` for as many as there are descriptors for.
    #[serde(deserialize_with = "max_channels")]
    pub max_channels: Option<usize>,
    /// The services that clients reach by name. Names are unique.
    #[serde(rename = "service", deserialize_with = "services")]
    pub services: Vec<NamedService>,
    /// The directories that clients get files from and put files to, by name. Names are unique.
    #[serde(deserialize_with = "share_table::files")]
    pub files: Vec<FileShare>,
}

/// A service that clients know only by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedService {
    /// The name: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The address of the service: a port other than 0, or a unix socket.
    pub target: Address,
    /// The header that tells the service which client connects, if any, before the data.
    pub header: ProxyHeader,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![Address::Tcp { host: "127.0.0.1".into(), port: 5000 }],
            anyone: false,
            proxy_from: Vec::new(),
            psk: Vec::new(),
            ticket_keys: None,
            audit: None,
            status: None,
            status_anywhere: false,
            status_hosts: Vec::new(),
            max_message: ByteSize::gib(4),
            grace: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            resume: ResumeTable::default(),
            max_channels: None,
            services: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// Reads the configuration from the file `given`, else from the default file (see [`config::find`]). Returns it
/// with the path of the file, or the defaults where there is no file.
///
/// # Errors
/// [`Error::Program`] that names the file, with the line of an invalid setting.
pub fn read(given: Option<&Path>) -> Result<(ServerConfig, Option<PathBuf>), Error> {
    let Some(path) = config::find(given, "server")? else { return Ok((ServerConfig::default(), None)) };
    let mut read: ServerConfig = config::read(&path)?;
    read.resolve(&config::folder(&path)?);
    Ok((read, Some(path)))
}

impl ServerConfig {
    /// Where the status page is.
    #[must_use]
    pub fn status_options(&self) -> StatusOptions {
        StatusOptions {
            address: self.status.clone(),
            anywhere: self.status_anywhere,
            hosts: self.status_hosts.clone(),
        }
    }

    /// Resolves relative paths against `folder`.
    fn resolve(&mut self, folder: &Path) {
        for path in self.psk.iter_mut().chain(&mut self.ticket_keys).chain(&mut self.audit) {
            *path = folder.join(&path);
        }
        let targets = self.services.iter_mut().map(|service| &mut service.target);
        for address in self.listen.iter_mut().chain(&mut self.status).chain(targets) {
            config::resolve_address(address, folder);
        }
        for share in &mut self.files {
            share.resolve(folder);
        }
    }
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    let addresses: Vec<ListenAddress> = config::texts(deserializer)?;
    if addresses.is_empty() {
        return Err(serde::de::Error::custom("at least one address is needed"));
    }
    Ok(addresses.into_iter().map(|ListenAddress(address)| address).collect())
}

struct ListenAddress(Address);

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Address::listening_or_passed(text).map(Self)
    }
}

fn max_message<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    config::text(deserializer).map(|MessageLimit(limit)| limit)
}

struct MessageLimit(ByteSize);

impl FromStr for MessageLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>() {
            Ok(limit) if (1..=ByteSize::tib(1).as_u64()).contains(&limit.as_u64()) => Ok(Self(limit)),
            Ok(_) => Err("1B to 1TiB are possible".into()),
            Err(_) => Err(format!("{text:?} is not a size such as 64MiB")),
        }
    }
}

fn max_channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let count = i64::deserialize(deserializer)?;
    let count = usize::try_from(count).ok().filter(|count| (1..=MAX_CHANNELS).contains(count));
    let limits = || serde::de::Error::custom(format!("1 to {MAX_CHANNELS} are possible"));
    count.map(Some).ok_or_else(limits)
}

fn services<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NamedService>, D::Error> {
    deserializer.deserialize_seq(NamedTables::<ServiceTable>::new())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    #[serde(deserialize_with = "config::text")]
    name: TableName,
    #[serde(deserialize_with = "config::text")]
    target: ServiceTarget,
    #[serde(default)]
    proxy_protocol: bool,
}

impl NamedTable for ServiceTable {
    type Value = NamedService;
    const KEY: &'static str = "service";
    const NOUN: &'static str = "service";

    fn name(&self) -> &str {
        &self.name.0
    }

    fn into_value(self) -> NamedService {
        let Self { name: TableName(name), target: ServiceTarget(target), proxy_protocol } = self;
        let header = if proxy_protocol { ProxyHeader::V2 } else { ProxyHeader::None };
        NamedService { name, target, header }
    }
}

struct ServiceTarget(Address);

impl FromStr for ServiceTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(Address::Tcp { port: 0, .. }) => Err(format!("{text:?} has no port to connect to")),
            Ok(address) => Ok(Self(address)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Greatest accepted setting, above the number of descriptors of any system.
const MAX_CHANNELS: usize = 65536;
/// Shortest idle time in seconds, since clients that keep a channel open need the time for a Ping in between.
const MIN_IDLE: u64 = 15;
const DAY: u64 = 86400;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::share_mode::ShareMode;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        (folder, path)
    }

    #[test]
    fn an_empty_file_says_what_no_file_says() {
        let (_folder, path) = file("");
        assert_eq!(read(Some(&path)).unwrap(), (ServerConfig::default(), Some(path)));
    }

    #[test]
    fn everything_can_be_said_and_paths_start_from_the_folder_of_the_file() {
        let text = "\
            listen = ['[::]:5000', 'unix:run/socket']\n\
            anyone = true\n\
            proxy_from = ['10.0.0.0/8', 'unix']\n\
            psk = ['laptop.psk', '/etc/phone.psk']\n\
            ticket_keys = '../tickets'\n\
            audit = 'audit.jsonl'\n\
            status = 'unix:run/status'\n\
            status_anywhere = true\n\
            status_hosts = ['status.example.org']\n\
            max_message = '64MiB'\n\
            grace = '2m'\n\
            idle_timeout = '20s'\n\
            max_channels = 500\n\
            [[service]]\n\
            name = 'db'\n\
            target = '127.0.0.1:5432'\n\
            [[service]]\n\
            name = 'web.1'\n\
            target = 'unix:web.sock'\n\
            proxy_protocol = true\n\
            [[files]]\n\
            name = 'docs'\n\
            dir = 'docs'\n\
            [[files]]\n\
            name = 'in'\n\
            dir = '/srv/in'\n\
            mode = 'drop'\n\
            quota = '10GiB'\n";
        let (folder, path) = file(text);
        let folder = folder.path();
        let expected = ServerConfig {
            listen: vec!["[::]:5000".parse().unwrap(), Address::Unix(folder.join("run/socket"))],
            anyone: true,
            proxy_from: vec!["10.0.0.0/8".parse().unwrap(), ProxySource::Unix],
            psk: vec![folder.join("laptop.psk"), "/etc/phone.psk".into()],
            ticket_keys: Some(folder.join("../tickets")),
            audit: Some(folder.join("audit.jsonl")),
            status: Some(Address::Unix(folder.join("run/status"))),
            status_anywhere: true,
            status_hosts: vec!["status.example.org".parse().unwrap()],
            max_message: ByteSize::mib(64),
            grace: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(20),
            max_channels: Some(500),
            services: vec![
                NamedService {
                    name: "db".into(),
                    target: "127.0.0.1:5432".parse().unwrap(),
                    header: ProxyHeader::None,
                },
                NamedService {
                    name: "web.1".into(),
                    target: Address::Unix(folder.join("web.sock")),
                    header: ProxyHeader::V2,
                },
            ],
            files: vec![
                FileShare {
                    name: "docs".into(),
                    dir: folder.join("docs"),
                    mode: ShareMode::default(),
                    quota: None,
                },
                FileShare {
                    name: "in".into(),
                    dir: "/srv/in".into(),
                    mode: "drop".parse().unwrap(),
                    quota: Some(ByteSize::gib(10)),
                },
            ],
            resume: ResumeTable::default(),
        };
        assert_eq!(read(Some(&path)).unwrap().0, expected);
    }

    #[track_caller]
    fn check(text: &str, line: usize, what: &str) {
        let (_folder, path) = file(text);
        let error = read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(&format!("server.toml: TOML parse error at line {line},")), "{error}");
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        check("\nlisten = []", 2, "at least one address is needed");
        check("listen = [\n'127.0.0.1:5000',\n'127.0.0.1']", 3, "\"127.0.0.1\" is not an address");
        check("\nlisten = '127.0.0.1:5000'", 2, "expected a sequence");
        check("anyone = 'yes'", 1, "expected a boolean");
        check("\nproxy_from = ['10.0.0.0/33']", 2, "is neither an address nor a network");
        check("anybody = true", 1, "unknown field `anybody`");
        check("\nmax_message = '0B'", 2, "1B to 1TiB are possible");
        check("\nmax_message = '2TiB'", 2, "1B to 1TiB are possible");
        check("\nmax_message = 'much'", 2, "\"much\" is not a size");
        check("\nmax_message = 5", 2, "expected a string");
        check("\ngrace = '-1s'", 2, "\"-1s\" is not a duration");
        check("\ngrace = '2d'", 2, "0s to 86400s are possible");
        check("\nidle_timeout = '14s'", 2, "15s to 86400s are possible");
        check("\nmax_channels = 0", 2, "1 to 65536 are possible");
        check("\nmax_channels = -1", 2, "1 to 65536 are possible");
        check("\nmax_channels = 65537", 2, "1 to 65536 are possible");
        check("\nmax_channels = '5'", 2, "invalid type");
        check("\nticket_keys = []", 2, "invalid type");
        check("\nstatus = '9100'", 2, "\"9100\" is not an address");
        check("\nstatus_hosts = ['a', 'b:80']", 2, "\"b:80\" is not a host");
    }

    #[test]
    fn a_service_that_makes_no_sense_is_named_with_its_line() {
        let good = "[[service]]\nname = 'db'\ntarget = 'a:1'\n";
        check("[[service]]\nname = 'db'\n", 1, "missing field `target`");
        check("[[service]]\ntarget = 'a:1'\n", 1, "missing field `name`");
        check(&format!("{good}[[service]]\nname = 'd b'\ntarget = 'a:1'"), 5, "\"d b\" is not a name");
        check(&format!("{good}[[service]]\nname = ''\ntarget = 'a:1'"), 5, "\"\" is not a name");
        check(&format!("{good}[[service]]\nname = 'd'\ntarget = 'a:0'"), 6, "has no port to connect to");
        check(&format!("{good}[[service]]\nname = 'd'\ntarget = '5432'"), 6, "is not an address");
        check(&format!("{good}[[service]]\nname = 'd'\ntarget = 'unix:'"), 6, "is not an address");
        check(&format!("{good}port = 5432"), 4, "unknown field `port`");
        check(&format!("{good}proxy_protocol = 2"), 4, "expected a boolean");
        check(&format!("{good}\n{good}"), 5, "another service is called \"db\"");
        check("\n[service]\nname = 'db'\ntarget = 'a:1'", 2, "expected [[service]] tables");
        check("service = ['db']", 1, "expected a table");
    }

    #[test]
    fn a_share_that_makes_no_sense_is_named_with_its_line() {
        let good = "[[files]]\nname = 'in'\ndir = 'in'\n";
        check("[[files]]\nname = 'in'\n", 1, "missing field `dir`");
        check("[[files]]\ndir = 'in'\n", 1, "missing field `name`");
        check("[[files]]\nname = 'i n'\ndir = 'in'\n", 2, "\"i n\" is not a name");
        check(&format!("{good}mode = 'wr'"), 4, "\"wr\" is none of ro, rw and drop");
        check(&format!("{good}mode = true"), 4, "expected a string");
        check(&format!("{good}quota = 'much'"), 4, "\"much\" is not a size such as 10GiB");
        check(&format!("{good}quota = '0B'"), 4, "\"0B\" is not a size such as 10GiB");
        check(&format!("{good}path = 'x'"), 4, "unknown field `path`");
        check(&format!("{good}\n{good}"), 5, "another share is called \"in\"");
        check("\n[files]\nname = 'in'\ndir = 'in'", 2, "expected [[files]] tables");
    }

    #[test]
    fn a_file_that_was_named_has_to_exist() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(Some(&folder.path().join("server.toml"))).unwrap_err();
        assert!(matches!(error, Error::Program(cli_support::Error::File { action: "read", .. })));
    }

    #[test]
    fn the_example_of_the_readme_is_good() {
        let readme = include_str!("../../../README.md");
        let (_, example) = readme.split_once("```toml\n# server.toml").unwrap();
        let (_folder, path) = file(&format!("#{}", example.split_once("```").unwrap().0));
        let config = read(Some(&path)).unwrap().0;
        assert_eq!(config.services[0].name, "db");
    }
}
