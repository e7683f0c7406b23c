//! The command line.

mod doctor;
mod files;
mod trust;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use cli_support::classic::Classic;
use cli_support::duration;
use cli_support::forward::{DynamicForward, LocalForward, RemoteForward, StdioForward};
use cli_support::identity::Keygen;
use cli_support::invocation::{Naming, Program};
use cli_support::logging::Verbosity;
use cli_support::report::EXIT_CODES;
use cli_support::status_server::StatusOptions;
use tunnel::escape::Escaped;

pub use self::doctor::{Doctor, ShareUse};
pub use self::files::{Get, Ls, Put, Transfer};
pub use self::trust::{Trust, TrustCommand};
use crate::server_spec::{ServerName, ServerSpec};

/// Sends messages and streams over an encrypted socket.
#[derive(Debug, Parser)]
#[command(name = "client", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Folder for the key, known servers and tickets [default: sockseal in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR", env = "SOCKSEAL_HOME", display_order = 900)]
    pub home: Option<PathBuf>,
    /// How much is said.
    #[command(flatten)]
    pub verbosity: Verbosity,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line of this process.
    ///
    /// # Errors
    /// What is wrong with it, and also what it asks of clap, such as `--help`.
    pub fn read() -> Result<Self, clap::Error> {
        let naming = Naming::of_process();
        let matches = command(naming).try_get_matches();
        let matches = matches
            .map_err(|error| name_destination(error, naming))
            .map_err(|error| keep_invite(error, naming))?;
        if matches.subcommand_name() == Some(SERVER) {
            let message = "server comes first, as in: sockseal server --home DIR list";
            return Err(command(naming).error(ErrorKind::ArgumentConflict, message));
        }
        let cli = Self::from_arg_matches(&matches)?;
        if let Command::Forward(Forward { address: None, trust, .. }) = &cli.command
            && (trust.server_key.is_some() || trust.psk.is_some())
        {
            let message =
                "--server-key and --psk go with an address; a configuration file has server_key and psk";
            return Err(command(naming).error(ErrorKind::MissingRequiredArgument, message));
        }
        // A hyphen makes no option of a text, but two of them more often than not make a mistyped one.
        if let Command::Send { text: Some(text), .. } = &cli.command
            && text.starts_with("--")
            && !std::env::args_os().any(|argument| argument == "--")
        {
            let message = format!(
                "unexpected argument '{}' found\n\n  tip: to send it as a message, use '{} send SERVER -- {0}'",
                Escaped(text),
                naming.name(Program::Client)
            );
            return Err(command(naming).error(ErrorKind::UnknownArgument, message));
        }
        Ok(cli)
    }
}

/// The command line by the names of this machine. The front program stands for the server, too, which the help names.
fn command(naming: Naming) -> clap::Command {
    let command = naming.adapt(Cli::command(), Program::Client);
    if naming != Naming::Front {
        return command;
    }
    let rest =
        clap::Arg::new("ARGUMENTS").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true);
    let about = "Run a server, or administer it: sockseal server --help";
    command.subcommand(clap::Command::new(SERVER).about(about).arg(rest))
}

/// Says what is missing where `get` has one path: clap takes it for the destination.
fn name_destination(error: clap::Error, naming: Naming) -> clap::Error {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) if *missing == [files::GET_SOURCES] => {
            let message = "where to is missing: <DEST> comes last, as in client get SERVER NAME:PATH .";
            let message = naming.show(message).into_owned();
            let mut client = command(naming);
            client.build();
            let get = client.find_subcommand_mut("get");
            get.map_or(error, |get| get.error(ErrorKind::MissingRequiredArgument, message))
        }
        _ => error,
    }
}

/// Says where an invite goes that was given as an argument, and does not repeat it, since it is a secret.
fn keep_invite(error: clap::Error, naming: Naming) -> clap::Error {
    let is_invite = |argument: OsString| {
        argument.to_string_lossy().trim_start().to_ascii_lowercase().starts_with("sockseal-invite-")
    };
    if !error.use_stderr() || !std::env::args_os().any(is_invite) {
        return error;
    }
    let message = "the line of an invite is a secret, and never an argument\n\n  tip: run 'client join' alone, and paste it there";
    command(naming).error(ErrorKind::UnknownArgument, naming.show(message).into_owned())
}

/// The command of the front program that stands for the server.
const SERVER: &str = "server";

impl Command {
    /// Returns whether standard output is for data, and not for what the program says.
    #[must_use]
    pub fn has_data(&self) -> bool {
        match self {
            Self::Pipe { .. } => true,
            Self::Get(options) => options.destination.as_os_str() == "-",
            Self::Forward(options) => options.stdio.is_some(),
            _ => false,
        }
    }
}

/// What a client can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a message; done only once the server has confirmed it
    Send {
        /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
        #[arg(value_name = "SERVER")]
        address: ServerSpec,
        /// The message; without it, or with -, standard input
        ///
        /// It may begin with a hyphen; one that could be an option goes behind --.
        #[arg(allow_hyphen_values = true)]
        text: Option<String>,
        /// How the server proves itself.
        #[command(flatten)]
        trust: Trust,
    },
    /// Standard input to the server's pipe, and back
    Pipe {
        /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
        #[arg(value_name = "SERVER")]
        address: ServerSpec,
        /// How the server proves itself.
        #[command(flatten)]
        trust: Trust,
    },
    /// Send files and directories into a share of the server; the same command again goes on where it stopped
    #[command(after_help = files::PUT_EXAMPLES)]
    Put(Box<Put>),
    /// Fetch files and directories out of a share of the server; the same command again goes on where it stopped
    #[command(after_help = files::GET_EXAMPLES)]
    Get(Box<Get>),
    /// List the shares of the server, or what is in one
    #[command(after_help = files::LS_EXAMPLES)]
    Ls(Ls),
    /// Tunnels that stay up: ports here to targets there (-L, -D), ports there to targets here (-R)
    Forward(Forward),
    /// Check the configuration file, the keys that it names, and the file of known servers
    Check {
        /// The configuration file [default: sockseal/client.toml in the XDG configuration folder, or in /etc]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Measure round trips and show what was negotiated
    Ping(Ping),
    /// Find out from both ends why something does not work, and what to do about it
    ///
    /// The way to the server, its key, the admission of this client, the clocks, and all that the options name are looked at, each
    /// for ten seconds or so at most. Nothing is changed by it, and what is printed can be shown to others.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Box<Doctor>),
    /// Show how running forwards of this home are
    Status {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Make the client's key
    Keygen(Keygen),
    /// Print the client key's fingerprint
    Fingerprint,
    /// Make a server known, give it a name, forget it, or list those that are known
    #[command(after_help = trust::EXAMPLES)]
    Trust(TrustCommand),
    /// Join a server by an invite, the line that server invite has printed: read from standard input, or asked for
    ///
    /// The invite pins the server's key, and has this client's key enrolled there, with the rights that the invite carries. A
    /// key is made where there is none. The line is a secret until it is used, and so never an argument.
    Join {
        /// Name that the server gets here [default: the first part of its host's name]
        #[arg(long, value_name = "NAME")]
        name: Option<ServerName>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
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

const DOCTOR_EXAMPLES: &str = "\
Examples:
  client doctor gate.example.org:5000
  client doctor gate.example.org:5000 -L 8080:db.example.org:5432
  client doctor gate.example.org:5000 -R 8080:localhost:80 --files docs:rw";

/// Options of `forward`.
#[derive(Debug, Args)]
pub struct Forward {
    /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`; without it, the configuration file says what to forward
    #[arg(value_name = "SERVER")]
    pub address: Option<ServerSpec>,
    /// Configuration file [default: sockseal/client.toml in the XDG configuration folder, or /etc/sockseal/client.toml]
    #[arg(
        long, value_name = "FILE",
        conflicts_with_all = ["address", "local", "remote", "dynamic", "stdio", "proxy_protocol", "wait", "udp_timeout", "no_resume"]
    )]
    pub config: Option<PathBuf>,
    /// Listen here, and connect from the server: `[BIND:]PORT:HOST:HOSTPORT[/udp]`, `[BIND:]PORT:@SERVICE`, a path in place of either;
    /// BIND `*` is all addresses, IPv4 and IPv6
    #[arg(short = 'L', long, value_name = "SPEC", requires = "address")]
    pub local: Vec<LocalForward>,
    /// Listen at the server, and connect from here: `[BIND:]PORT:HOST:HOSTPORT[/udp]`; `[BIND:]PORT` alone is a proxy as with -D
    #[arg(short = 'R', long, value_name = "SPEC", requires = "address")]
    pub remote: Vec<RemoteForward>,
    /// Be a proxy here (SOCKS5, SOCKS4, SOCKS4a, HTTP CONNECT), and connect from the server: `[BIND:]PORT`
    #[arg(short = 'D', long, value_name = "SPEC", requires = "address")]
    pub dynamic: Vec<DynamicForward>,
    /// Connect standard input and output: `HOST:PORT` or `[HOST]:PORT`, `@SERVICE` or a path
    #[arg(
        short = 'W', long, value_name = "TARGET", requires = "address",
        conflicts_with_all = ["local", "remote", "dynamic", "StatusOptions", "detach"]
    )]
    pub stdio: Option<StdioForward>,
    /// Tell the targets of -R who connects, and to which address, with a header of the PROXY protocol (version 2)
    ///
    /// Targets at the server are told by the server, where its owner says so: server allow --tcp HOST:PORT,proxy.
    #[arg(long, requires = "address")]
    pub proxy_protocol: bool,
    /// How long a new connection waits for a channel while the server is out of reach
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse, requires = "address")]
    pub wait: Duration,
    /// How long a flow of datagrams may be idle; one on which every question was answered ends after 5 seconds at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse, requires = "address")]
    pub udp_timeout: Duration,
    /// Reset connections with a lost connection to the server, instead of having them pause and go on over the next one
    #[arg(long, requires = "address")]
    pub no_resume: bool,
    /// How long open connections have to come to their end once the program is told to [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// Print one JSON object a line for each thing that happens
    #[arg(long)]
    pub json: bool,
    /// Go on in the background once everything listens and the server is reached: prints addresses and the process id, then exit
    /// code 0
    ///
    /// Questions are asked before. The log goes to forward.log in the home. client status shows it, and kill PID ends it as
    /// Ctrl-C would have.
    #[arg(long)]
    pub detach: bool,
    /// The status page.
    #[command(flatten)]
    pub status: StatusOptions,
    /// How the server proves itself.
    #[command(flatten)]
    pub trust: Trust,
}

/// Options of `ping`.
#[derive(Debug, Args)]
pub struct Ping {
    /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
    #[arg(value_name = "SERVER")]
    pub address: ServerSpec,
    /// Pings to send
    #[arg(short, long, default_value = "3")]
    pub count: NonZeroU32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the server proves itself.
    #[command(flatten)]
    pub trust: Trust,
}

#[cfg(test)]
mod tests {
    use cli_support::hint_of_usage;

    use crate::trust::TrustPolicy;

    use super::*;

    #[test]
    fn what_is_no_address_has_a_hint() {
        for (address, hint) in [("127.0.0.1", "port"), (":5000", "127.0.0.1")] {
            let error = Cli::try_parse_from(["client", "send", address, "hello"]).unwrap_err();
            assert!(hint_of_usage(&error).unwrap().contains(hint), "{address}");
        }
        let error = Cli::try_parse_from(["client", "sned"]).unwrap_err();
        assert_eq!(hint_of_usage(&error), None);
    }

    #[test]
    fn a_text_may_begin_with_a_hyphen_and_options_stay_options() {
        let text = |words: &[&str]| {
            let words = [&["client", "send", "a:1"], words].concat();
            let cli = Cli::try_parse_from(words).unwrap();
            let Command::Send { text, trust, .. } = cli.command else { panic!("it is send") };
            (text, trust.trust)
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(text(&["-hi"]), (said("-hi"), TrustPolicy::Ask));
        assert_eq!(text(&["-5"]), (said("-5"), TrustPolicy::Ask));
        assert_eq!(text(&["-"]), (said("-"), TrustPolicy::Ask));
        assert_eq!(text(&["--trust", "strict", "-hi"]), (said("-hi"), TrustPolicy::Strict));
        assert_eq!(text(&["-hi", "--trust", "strict"]), (said("-hi"), TrustPolicy::Strict));
        assert_eq!(text(&["-v"]), (None, TrustPolicy::Ask));
        assert_eq!(text(&["--", "--trust"]), (said("--trust"), TrustPolicy::Ask));
    }
}
