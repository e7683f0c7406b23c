//! The command line of the server.

mod allow;
mod explain;
mod invite;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use cli_support::classic::Classic;
use cli_support::duration;
use cli_support::identity::Keygen;
use cli_support::invocation::{Naming, Program};
use cli_support::logging::Verbosity;
use cli_support::report::EXIT_CODES;
use cli_support::status_server::StatusOptions;
use tunnel::address::Address;

pub use crate::cli::allow::{Allow, Limits, Permissions};
pub use crate::cli::explain::{Explain, Wanted, Whence};
pub use crate::cli::invite::{Invite, Invites, InvitesCommand};
use crate::config::ServerConfig;
use crate::error::Error;
use crate::file_share::FileShare;
use crate::proxy_source::ProxySource;

/// Takes messages over an encrypted socket, or is one end of an encrypted pipe.
///
/// The first start makes a key. Closed by default: until somebody has been allowed (server allow), only messages
/// from this machine are taken.
#[derive(Debug, Parser)]
#[command(name = "server", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Folder for keys and allowed clients [default: sockseal in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR", env = "SOCKSEAL_HOME", display_order = 900)]
    pub home: Option<PathBuf>,
    /// The level of the log.
    #[command(flatten)]
    pub verbosity: Verbosity,
    /// The command. The default is `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`.
    #[command(flatten)]
    pub run: Run,
}

impl Cli {
    /// Parses the command line of this process.
    ///
    /// # Errors
    /// The error of an invalid command line, or the output that the user asks of clap, such as `--help`.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = Naming::of_process().adapt(Self::command(), Program::Server);
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        // clap's own `args_conflicts_with_subcommands` would refuse the global options as well.
        if let Some(name) = matches.subcommand_name() {
            let misplaced = Run::augment_args(clap::Command::new("run"))
                .get_arguments()
                .map(|argument| argument.get_id().as_str().to_owned())
                .find(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
            if let Some(id) = misplaced {
                let option = id.replace('_', "-");
                let message = format!("--{option} has to come after {name}");
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
        }
        Self::from_arg_matches(&matches)
    }
}

/// The commands of a server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take messages and print each on a line of its own, and serve tunnels and files to allowed clients (the default)
    ///
    /// In a message that is printed as text, what would move the cursor or cannot be seen is written as an escape, such
    /// as \n or \u{1b}, and a backslash as \\: so that an escape can be told from text that looks like one.
    Run(Run),
    /// Be one end of a pipe for one client: standard input to it, what it sends to standard output
    Pipe(Listen),
    /// Check the configuration file and the files of allowed clients and of invites
    Check {
        /// The configuration file [default: sockseal/server.toml in the XDG configuration folder, or in /etc]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Have running servers of this home read their configuration again, without touching live channels
    Reload,
    /// Show how running servers of this home are
    Status {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Make the server's key, or with --psk a pre-shared key
    Keygen(MakeKey),
    /// Print the server key's fingerprint
    Fingerprint,
    /// Allow a client, or change what it may do
    ///
    /// Whoever is given no right by name may send messages and use the pipe; whoever is given some may do exactly
    /// that. What a client could do before is replaced as a whole, and what it may do no longer is said; with --add or
    /// --remove only what is named changes.
    Allow(Box<Allow>),
    /// Revoke a client: its tickets are worth nothing from now on
    Revoke {
        /// Name or fingerprint
        #[arg(value_name = "NAME|SHA256:...")]
        client: String,
    },
    /// List the allowed clients
    List {
        /// Say what each has moved as well, how many streams it had, and when and from where it was seen last
        ///
        /// Running servers write that every few seconds.
        #[arg(short, long)]
        long: bool,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Say whether a client may do something, by which rule, or which command would allow it
    ///
    /// Asked are the files and the configuration as they are now, by the code that decides in a running server. Exit code 0 means
    /// that the client may, 5 that it may not, and 3 that no client has the name.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Box<Explain>),
    /// Print a line that lets one client in, once, with exactly these rights: to be pasted into client join
    ///
    /// The first client that uses the line is let in, so that it is a secret until then. A client that is given no right by name
    /// may send messages and use the pipe. The line pins this server's key; it is printed once, and kept nowhere.
    Invite(Box<Invite>),
    /// List the invites, with what has become of each
    Invites(Invites),
    /// Print the values for the last one of these words of a command line, for completion in shells
    #[command(hide = true)]
    Complete {
        /// The words behind the name of the program
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Speak with the tutorial's programs: neither authenticated nor forward-secret
    #[command(subcommand)]
    Classic(Classic),
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  server explain alice tcp db.example.org:5432
  server explain alice files docs:rw --from 192.0.2.7
  server explain SHA256:... listen 8080
  server explain anonymous messages";

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The addresses to listen on, and the clients to let in.
    #[command(flatten)]
    pub listen: Listen,
    /// Longest message that is taken, such as 64MiB [default: 4GiB]
    #[arg(long, value_name = "SIZE")]
    pub max_message: Option<ByteSize>,
    /// Let allowed clients get files from this directory, or put them there, under this name; may be given several times
    ///
    /// `ro` is to list and get (the default), `rw` also to put and to replace, `drop` to put where nothing of the name stands
    /// yet, and neither to list nor to get. Nobody may use it who has not been allowed to: server allow ... --files NAME.
    /// A quota, of which each file, directory and link takes 4 KiB at least, is for [[files]] in the configuration file.
    #[arg(long, value_name = "NAME=DIR[:ro|rw|drop]")]
    pub files: Vec<FileShare>,
    /// How long open streams have to come to their end once the server is told to end [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// The status page.
    #[command(flatten)]
    pub status: StatusOptions,
    /// Configuration file; what is given on the command line goes before it
    /// [default: sockseal/server.toml in the XDG configuration folder, or in /etc]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Run {
    /// The configuration file's settings, overridden by the command line.
    ///
    /// # Errors
    /// Those of [`crate::config::read`], and [`Error::DuplicateShare`].
    pub fn config(&self) -> Result<ServerConfig, Error> {
        let (config, _) = crate::config::read(self.config.as_deref())?;
        let mut config = self.listen.overlay(config);
        config.max_message = self.max_message.unwrap_or(config.max_message);
        config.grace = self.grace.unwrap_or(config.grace);
        let StatusOptions { address, anywhere, hosts } = self.status.or(config.status_options());
        (config.status, config.status_anywhere, config.status_hosts) = (address, anywhere, hosts);
        if !self.files.is_empty() {
            config.files.clone_from(&self.files);
            let mut names = BTreeSet::new();
            if let Some(share) = config.files.iter().find(|share| !names.insert(&share.name)) {
                return Err(Error::DuplicateShare { name: share.name.clone() });
            }
        }
        Ok(config)
    }
}

/// Options about the addresses to listen on, and the clients to let in.
#[derive(Debug, Args)]
pub struct Listen {
    /// Address to listen on: `HOST:PORT`, `[::1]:PORT`, `*:PORT` for all of this machine, `unix:/PATH`, or `systemd:NAME` for the
    /// sockets that systemd passes under this name; port 0 picks a free one [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDR", value_parser = Address::listening_or_passed)]
    pub listen: Vec<Address>,
    /// Let clients in that nobody has allowed
    #[arg(long)]
    pub anyone: bool,
    /// Believe this proxy, or network of proxies, or `unix` for all that comes by unix sockets, where it says who connects
    ///
    /// Connections from there have to begin with a header of the PROXY protocol, version 1 or 2, and are refused without
    /// one. Limits, `--from` of `allow` and the log go by the address in it. May be given several times.
    #[arg(long, value_name = "CIDR|unix")]
    pub proxy_from: Vec<ProxySource>,
    /// Use this pre-shared key and no RSA key; may be given several times
    #[arg(long, value_name = "FILE")]
    pub psk: Vec<PathBuf>,
    /// File of the key that seals tickets: they outlive a restart then. Made if it is not there
    #[arg(long, value_name = "FILE")]
    pub ticket_keys: Option<PathBuf>,
    /// Note in this file who is let in and who is not, and who changes what clients may do: one JSON object a line
    ///
    /// The commands of this home (allow, revoke, invite, keygen) write there too from the first start on. SIGHUP and reload open
    /// the file anew, as for logrotate.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
}

impl Listen {
    /// Overrides `config` with the options given.
    #[must_use]
    pub fn overlay(&self, mut config: ServerConfig) -> ServerConfig {
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if !self.proxy_from.is_empty() {
            config.proxy_from.clone_from(&self.proxy_from);
        }
        if !self.psk.is_empty() {
            config.psk.clone_from(&self.psk);
        }
        if self.ticket_keys.is_some() {
            config.ticket_keys.clone_from(&self.ticket_keys);
        }
        if self.audit.is_some() {
            config.audit.clone_from(&self.audit);
        }
        config.anyone |= self.anyone;
        config
    }
}

/// Options of `keygen`.
#[derive(Debug, Args)]
pub struct MakeKey {
    /// Options of the server's key.
    #[command(flatten)]
    pub rsa: Keygen,
    /// Make a pre-shared key for the client of this name instead, and print it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bits", "passphrase_prompt"])]
    pub psk: Option<String>,
    /// Write the pre-shared key to this file, which only its owner can read, instead of printing it
    #[arg(long, value_name = "FILE", requires = "psk")]
    pub out: Option<PathBuf>,
}
