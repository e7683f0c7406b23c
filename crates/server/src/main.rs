//! The `server` program: parses the command line, calls the library, handles signals, and reports errors.

// These macros panic where the output cannot be written, and `cli_support::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod announce;
mod granting;
mod inviting;
mod qr_code;
mod signals;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use cli_support::admin::{self, Answer, Command as Ask};
use cli_support::home::Home;
use cli_support::identity;
use cli_support::report::hint_of_usage;
use cli_support::{classic, hardening, logging, output, report};
use crypto_core::identity::ServerKey;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use server::cli::{Cli, Command, MakeKey};
use server::config::{self, ServerConfig};
use server::{
    AccessFile, Control, Error, FileShare, MessageFormat, Messages, Pipe, ReloadableConfig, Services,
    Settings, has_identity, keygen_psk, listen, read_identity, read_or_make_ticket_key, serve,
};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use tunnel::network::Network;

use crate::announce::{Start, announce};
use crate::signals::{Reload, Signals};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            let hint = cli_support::hint_of_usage(&error).or_else(|| hint_of_usage::<Error>(&error));
            return report::finish_usage(&error, hint);
        }
    };
    hardening::keep_memory_private();
    logging::start(&cli.verbosity);
    report::finish(run(cli))
}

fn run(cli: Cli) -> Result<(), Error> {
    let given_home = cli.home.clone();
    let home = Home::resolve(cli.home)?;
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(options) => {
            let config = options.config()?;
            let format = if options.json { MessageFormat::Json } else { MessageFormat::Text };
            let output = hardening::standard_output_if_any()?;
            let messages = Messages::new(format, config.max_message.as_u64(), output);
            if !messages.are_taken() {
                // Tunnels need no output.
                tracing::warn!("there is no standard output to print messages on: they are refused");
            }
            let reload = Box::new(move || {
                options.config().map(|config| {
                    warn_of_missing_shares(&config);
                    (ReloadableConfig::from(&config), config.listen)
                })
            });
            let services = Services::new().messages(messages).tunnels().listening().files();
            listen_and_serve(&home, given_home.as_deref(), &config, services, reload)
        }
        Command::Pipe(options) => {
            let config = options.overlay(ServerConfig::default());
            let pipe = Pipe::new(hardening::standard_input()?, hardening::take_standard_output()?);
            let unchanged = config.clone();
            // A pipe has no configuration file.
            let reload = Box::new(move || Ok((ReloadableConfig::from(&unchanged), unchanged.listen.clone())));
            listen_and_serve(&home, given_home.as_deref(), &config, Services::new().pipe(pipe), reload)
        }
        Command::Check { config } => check(&home, config.as_deref()),
        Command::Reload => reload(&home),
        Command::Status { json } => Ok(admin::print_status(&home, "server", json)?),
        Command::Keygen(MakeKey { psk: Some(name), rsa, out }) => {
            keygen_psk(&home, &name, out.as_deref(), rsa.force)
        }
        Command::Keygen(MakeKey { rsa, psk: None, .. }) => {
            let key: ServerKey = identity::make(&home, &rsa)?;
            output::print(key.public().id())?;
            inviting::end_all(&home)
        }
        Command::Fingerprint => {
            let key: ServerKey = identity::read(&home)?;
            Ok(output::print(key.public().id())?)
        }
        Command::Allow(allow) => {
            granting::allow(&home, &allow)?;
            recheck(&home)
        }
        Command::Revoke { client } => {
            AccessFile::new(home.clone()).edit(|access| access.revoke(&client))?;
            recheck(&home)
        }
        Command::List { json } => granting::list(&home, json),
        Command::Invite(options) => inviting::invite(&home, &options, || recheck(&home)),
        Command::Invites(options) => {
            inviting::invites(&home, &options)?;
            if options.command.is_some() { recheck(&home) } else { Ok(()) }
        }
        Command::Classic(command) => Ok(classic::run(&command, &home)?),
    }
}

fn listen_and_serve(
    home: &Home,
    given_home: Option<&Path>,
    config: &ServerConfig,
    services: Services,
    reload: Reload,
) -> Result<(), Error> {
    let access = AccessFile::new(home.clone());
    warn_of_missing_shares(config);
    // An invalid file would refuse all clients later, so the error is reported now.
    access.invites().read()?;
    if let Err(error) = access.complete_invites() {
        match error {
            // On a disk that is full or cannot be written all that is known serves as it is: who has taken an invite and is
            // missing comes again, and every change of the files makes up for this first.
            Error::Program(error) => {
                tracing::error!(%error, "invites that were taken cannot be completed yet");
            }
            error => return Err(error),
        }
    }
    let admits_nobody = access.read()?.is_none() && !config.anyone && config.psk.is_empty();
    // The passphrase is asked for before a client can connect and wait. A new key is made only once the address is
    // bound.
    let identity = match has_identity(home, &config.psk) {
        true => Some(read_identity(home, &config.psk, &access)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(async {
        let listeners = listen(&Network::System, &config.listen).await?;
        let identity = match identity {
            Some(identity) => identity,
            None => block_in_place(|| read_identity(home, &config.psk, &access))?,
        };
        let tickets = match &config.ticket_keys {
            Some(path) => read_or_make_ticket_key(path)?,
            None => TicketKey::generate(&mut SysRng).map_err(cli_support::Error::from)?,
        };
        // The signals are handled before the addresses are printed, since a program that reads them may signal at
        // once.
        let signals = Signals::listen(home)?;
        let program = std::env::args_os().next().unwrap_or_else(|| "server".into());
        let start = Start {
            program: &program,
            home: given_home,
            psks: &config.psk,
            shares: &config.files,
            admits_nobody,
        };
        announce(&listeners, &identity, &services, &start)?;
        let settings = Settings {
            identity,
            tickets: Arc::new(tickets),
            access,
            services,
            config: ReloadableConfig::from(config),
            network: Network::System,
        };
        let (control, events) = Control::new();
        let shutdown = CancellationToken::new();
        let passing_on = tokio::spawn(signals.pass_on(control, shutdown.clone(), reload));
        let result = serve(settings, listeners, shutdown.cancelled(), events).await;
        passing_on.abort();
        // The task owns the file of the admin socket and removes it when it ends.
        passing_on.await.ok();
        result
    });
    // A thread that still waits for standard input must not keep the process running.
    runtime.shutdown_background();
    result
}

/// Warns about shares that are not there now. They may be later: each is looked for when it is asked for.
fn warn_of_missing_shares(config: &ServerConfig) {
    for error in config.files.iter().filter_map(|share| share.check().err()) {
        tracing::warn!("{error}");
    }
}

/// Checks the configuration and the files of keys, clients and invites without starting a server.
fn check(home: &Home, file: Option<&Path>) -> Result<(), Error> {
    let (config, path) = config::read(file)?;
    let file = AccessFile::new(home.clone());
    let access = file.read()?;
    file.invites().read()?;
    for psk in &config.psk {
        identity::read_psk(psk)?;
    }
    config.files.iter().try_for_each(FileShare::check)?;
    if let Some(access) = access {
        granting::warn_of_doubts(&access, &config);
    }
    match path {
        Some(path) => {
            let services = count(config.services.len(), "service");
            let shares = match config.files.len() {
                0 => String::new(),
                shares => format!(", {}", count(shares, "share")),
            };
            output::print(format_args!("{}: good, {services}{shares}", path.display()))?;
        }
        None => output::print("no configuration file: the defaults hold")?,
    }
    Ok(())
}

fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Tells running servers of this home that rights have changed.
fn recheck(home: &Home) -> Result<(), Error> {
    for (pid, answer) in admin::ask_blocking(home, "server", Ask::Recheck)? {
        if let Answer::Failed { error, .. } = answer {
            tracing::warn!(
                pid,
                error,
                "a running server has not been told, and finds out by itself in 10 seconds"
            );
        }
    }
    Ok(())
}

fn reload(home: &Home) -> Result<(), Error> {
    let answers = admin::ask_blocking(home, "server", Ask::Reload)?;
    if answers.is_empty() {
        return Err(cli_support::Error::NotRunning { program: "server" }.into());
    }
    for (pid, answer) in answers {
        match answer {
            Answer::Failed { error, hint } => return Err(Error::NotReloaded { pid, error, hint }),
            _ => output::print(format_args!("{pid} goes by the configuration as it is now"))?,
        }
    }
    Ok(())
}
