//! The command line.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use crypto_core::identity::KeyId;
use program::address::Address;
use program::classic::Classic;
use program::identity::Keygen;
use program::logging::Verbosity;
use program::report::EXIT_CODES;

/// Takes messages over an encrypted socket, or is one end of an encrypted pipe.
///
/// The first start makes a key. Closed by default: until somebody has been allowed (server allow), only messages
/// from this machine are taken.
#[derive(Debug, Parser)]
#[command(name = "server", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Folder for keys and allowed clients [default: sockseal in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR", env = "SOCKSEAL_HOME")]
    pub home: Option<PathBuf>,
    /// How much is said.
    #[command(flatten)]
    pub verbosity: Verbosity,
    /// What to do; with none, take messages.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`.
    #[command(flatten)]
    pub run: Run,
}

impl Cli {
    /// Reads the command line; ends the process with a message where it makes no sense.
    #[must_use]
    pub fn read() -> Self {
        let mut command = Self::command();
        let matches = command.get_matches_mut();
        // clap's own `args_conflicts_with_subcommands` would refuse the global options as well.
        if let Some(name) = matches.subcommand_name() {
            let misplaced = Run::augment_args(clap::Command::new("run"))
                .get_arguments()
                .map(|argument| argument.get_id().as_str().to_owned())
                .find(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
            if let Some(id) = misplaced {
                let option = id.replace('_', "-");
                let message = format!("--{option} has to come after {name}");
                command.error(ErrorKind::ArgumentConflict, message).exit();
            }
        }
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// What a server can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take messages and print each on a line of its own (the default)
    Run(Run),
    /// Be one end of a pipe for one client: standard input to it, what it sends to standard output
    Pipe(Listen),
    /// Make the server's key, or with --psk a pre-shared key
    Keygen(MakeKey),
    /// Print the server key's fingerprint
    Fingerprint,
    /// Allow a client
    Allow {
        /// Fingerprint of the client's key
        #[arg(value_name = "SHA256:...")]
        fingerprint: KeyId,
        /// What the client is called here
        #[arg(long)]
        name: String,
    },
    /// Revoke a client: its tickets are worth nothing from now on
    Revoke {
        /// Name or fingerprint
        #[arg(value_name = "NAME|SHA256:...")]
        client: String,
    },
    /// List the allowed clients
    List,
    /// Speak with the tutorial's programs: neither authenticated nor forward-secret
    #[command(subcommand)]
    Classic(Classic),
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where to listen, and for whom.
    #[command(flatten)]
    pub listen: Listen,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Longest message that is taken, such as 64MiB
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    pub max_message: ByteSize,
}

/// Where to listen, and for whom.
#[derive(Debug, Args)]
pub struct Listen {
    /// Address to listen on: `HOST:PORT`, `[::1]:PORT` or `unix:/PATH`; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub listen: Vec<Address>,
    /// Let clients in that nobody has allowed
    #[arg(long)]
    pub anyone: bool,
    /// Use this pre-shared key and no RSA key; may be given several times
    #[arg(long, value_name = "FILE")]
    pub psk: Vec<PathBuf>,
    /// File of the key that seals tickets: they outlive a restart then. Made if it is not there
    #[arg(long, value_name = "FILE")]
    pub ticket_keys: Option<PathBuf>,
}

/// Options of `keygen`.
#[derive(Debug, Args)]
pub struct MakeKey {
    /// The server's key.
    #[command(flatten)]
    pub rsa: Keygen,
    /// Make a pre-shared key for the client of this name instead, and print it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bits", "passphrase_prompt", "force"])]
    pub psk: Option<String>,
}
