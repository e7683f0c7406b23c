//! The `server` program: parses the command line, calls the library, handles signals, and reports errors.

mod announce;
mod completion;
mod explaining;
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
use cli_support::passed_sockets::PassedSockets;
use cli_support::report::hint_of_usage;
use cli_support::service_manager::ServiceManager;
use cli_support::status_server::StatusServer;
use cli_support::{classic, hardening, logging, output, report};
use crypto_core::identity::ServerKey;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;
use tunnel::network::Network;
use tunnel::socket::OnDrop;

use self::announce::{Start, announce};
use self::signals::{Reload, Signals};
use crate::accept::Listeners;
use crate::access::AccessFile;
use crate::accounts::{self, Accounts};
use crate::audit::{Audit, Event};
use crate::cli::{Cli, Command, MakeKey};
use crate::config::{self, ServerConfig};
use crate::control::Control;
use crate::error::Error;
use crate::file_share::FileShare;
use crate::keys::{has_identity, keygen_psk, read_identity};
use crate::outcome::Outcome;
use crate::reloadable_config::ReloadableConfig;
use crate::serve::{listen, serve};
use crate::services::Services;
use crate::services::message::{MessageFormat, Messages};
use crate::services::pipe::Pipe;
use crate::settings::Settings;
use crate::site::ServerSite;
use crate::ticket_file::read_or_make_ticket_key;

/// Runs the program with the command line of this process, and returns its exit code.
///
/// It takes the process for its own: signals, standard streams, limits and the log.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            let hint = cli_support::hint_of_usage(&error).or_else(|| hint_of_usage::<Error>(&error));
            return report::finish_usage(&error, hint);
        }
    };
    hardening::keep_memory_private();
    if cli.verbosity.is_json() {
        output::print_as_json(matches!(cli.command, Some(Command::Pipe(_))));
    }
    // Before there is a second thread.
    let passed = PassedSockets::take();
    if let Err(error) = logging::start(&cli.verbosity) {
        return report::finish(Err(error));
    }
    report::finish(run(cli, passed))
}

fn run(cli: Cli, passed: PassedSockets) -> Result<(), Error> {
    let given_home = cli.home.clone();
    let home = Home::resolve(cli.home)?;
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(options) => {
            let config = options.config()?;
            let format = if output::is_json() { MessageFormat::Json } else { MessageFormat::Text };
            let output = hardening::standard_output_if_any()?;
            let messages = Messages::new(format, config.max_message.as_u64(), output);
            if !messages.are_taken() {
                // Tunnels need no output.
                tracing::warn!("there is no standard output to print messages on: they are refused");
            }
            let is_audited = config.audit.is_some();
            if is_audited {
                Audit::name(&home, config.audit.as_deref())?;
            }
            let access = AccessFile::new(home);
            let audit = access.audit().clone();
            let reload = Box::new(move || {
                // A file that was moved away is left behind also where the configuration cannot be used.
                let config = options.config().inspect_err(|_| drop(audit.reopen(None)))?;
                audit.reopen(config.audit.as_deref())?;
                warn_of_missing_shares(&config);
                Ok((ReloadableConfig::from(&config), config.listen))
            });
            let services = Services::new().messages(messages).tunnels().listening().files();
            listen_and_serve(access, given_home.as_deref(), &config, services, passed, reload, is_audited)
        }
        Command::Pipe(options) => {
            let config = options.overlay(ServerConfig::default());
            let pipe = Pipe::new(hardening::standard_input()?, hardening::take_standard_output()?);
            if config.audit.is_some() {
                Audit::name(&home, config.audit.as_deref())?;
            }
            let access = AccessFile::new(home);
            let (unchanged, audit) = (config.clone(), access.audit().clone());
            // A pipe has no configuration file.
            let reload = Box::new(move || {
                audit.reopen(None)?;
                Ok((ReloadableConfig::from(&unchanged), unchanged.listen.clone()))
            });
            let services = Services::new().pipe(pipe);
            listen_and_serve(access, given_home.as_deref(), &config, services, passed, reload, true)?;
            Outcome::Ended.tell().map(drop)
        }
        Command::Check { config } => check(&home, config.as_deref()),
        Command::Reload => reload(&home),
        Command::Status { json } => Ok(admin::print_status(&home, "server", json)?),
        Command::Keygen(MakeKey { psk: Some(name), rsa, out }) => {
            keygen_psk(&home, &name, out.as_deref(), rsa.force)
        }
        Command::Keygen(MakeKey { rsa, psk: None, .. }) => {
            let key: ServerKey = identity::make(&home, &rsa)?;
            print_key(&key)?;
            inviting::end_all(&home)
        }
        Command::Fingerprint => {
            let key: ServerKey = identity::read(&home)?;
            print_key(&key)
        }
        Command::Allow(allow) => {
            let file = AccessFile::new(home.clone());
            noted(&file, || {
                granting::allow(&file, &allow)?;
                recheck(&home)
            })
        }
        Command::Revoke { client } => {
            let file = AccessFile::new(home.clone());
            noted(&file, || {
                file.edit(|access| access.revoke(&client))?;
                // This is done also where it cannot be noted.
                file.audit().note(&Event::Revoked { client: &client });
                recheck(&home)?;
                Outcome::Revoked { client: &client }.tell().map(drop)
            })
        }
        Command::List { json, long } => granting::list(&home, json, long),
        Command::Explain(options) => explaining::explain(&home, &options),
        Command::Invite(options) => {
            let file = AccessFile::new(home.clone());
            noted(&file, || inviting::invite(&file, &options, || recheck(&home)))
        }
        Command::Invites(options) => {
            let file = AccessFile::new(home.clone());
            noted(&file, || {
                inviting::invites(&file, &options)?;
                if options.command.is_some() { recheck(&home) } else { Ok(()) }
            })
        }
        Command::Complete { words } => completion::complete(&home, &words),
        Command::Classic(command) => Ok(classic::run(&command, &home)?),
    }
}

/// Does `work`, and waits until what it notes is in the audit log, also where it fails behind what it has changed: on an output
/// that takes nothing, for example.
fn noted(file: &AccessFile, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let done = work();
    let noted = file.audit().finish();
    done.and(noted)
}

fn print_key(key: &ServerKey) -> Result<(), Error> {
    let id = key.public().id();
    if (Outcome::Key { fingerprint: &id.to_string() }).tell()? {
        return Ok(());
    }
    Ok(output::print(id)?)
}

/// Serves, and notes in the audit log when that begins and ends. One that is not audited ends the audit log of the home.
fn listen_and_serve(
    access: AccessFile,
    given_home: Option<&Path>,
    config: &ServerConfig,
    services: Services,
    passed: PassedSockets,
    reload: Reload,
    is_audited: bool,
) -> Result<(), Error> {
    let audit = access.audit().clone();
    if is_audited {
        audit.ready()?;
    }
    let result = bind_and_serve(access, given_home, config, services, passed, reload, is_audited);
    audit.note_left_out();
    audit.note(&Event::Ended { error: result.as_ref().err().map(ToString::to_string) });
    // How the server has ended says more than that this could not be noted, of which the log tells.
    let noted = audit.finish();
    result.and(noted)
}

fn bind_and_serve(
    access: AccessFile,
    given_home: Option<&Path>,
    config: &ServerConfig,
    services: Services,
    passed: PassedSockets,
    reload: Reload,
    is_audited: bool,
) -> Result<(), Error> {
    let (home, audit) = (&access.home().clone(), access.audit().clone());
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
    // Nor may traffic quotas go by accounts that are not known.
    let accounts = Accounts::open(home.clone())?;
    let admits_nobody = access.read()?.is_none() && !config.anyone && config.psk.is_empty();
    // The passphrase is asked for before a client can connect and wait. A new key is made only once the address is
    // bound.
    let identity = match has_identity(home, &config.psk) {
        true => Some(read_identity(home, &config.psk, &access)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(async {
        let listeners = listen_on(&config.listen, passed).await?;
        // A second server that cannot start takes nothing from one that runs.
        if !is_audited {
            Audit::name(home, None)?;
        }
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
        let signals = Signals::listen(home, audit.clone())?;
        let (control, events) = Control::new();
        let shutdown = CancellationToken::new();
        let site = ServerSite::new(control.clone(), shutdown.clone());
        let status = StatusServer::start(&config.status_options(), Arc::new(site)).await?;
        let program = std::env::args_os().next().unwrap_or_else(|| "server".into());
        let start = Start {
            program: &program,
            home: given_home,
            psks: &config.psk,
            shares: &config.files,
            status: &status.as_ref().map(StatusServer::urls).unwrap_or_default(),
            admits_nobody,
        };
        let listen = announce(&listeners, &identity, &services, &start)?;
        audit.note(&Event::Started { version: env!("CARGO_PKG_VERSION"), listen: &listen });
        let settings = Settings {
            identity,
            tickets: Arc::new(tickets),
            access,
            accounts: Some(accounts),
            services,
            config: ReloadableConfig::from(config),
            network: Network::System,
        };
        let manager = ServiceManager::of_process();
        manager.ready();
        let passing_on = tokio::spawn(signals.pass_on(control, shutdown.clone(), reload, manager));
        let result = serve(settings, listeners, shutdown.cancelled(), events).await;
        passing_on.abort();
        // The task owns the file of the admin socket and removes it when it ends.
        passing_on.await.ok();
        drop(status);
        result
    });
    // A thread that still waits for standard input must not keep the process running.
    runtime.shutdown_background();
    result
}

/// Listens on all of `addresses`, with the sockets that were passed to this process among them.
async fn listen_on(addresses: &[Address], mut passed: PassedSockets) -> Result<Listeners, Error> {
    let is_passed = |address: &&Address| matches!(address, Address::Passed(_));
    let own: Vec<Address> = addresses.iter().filter(|address| !is_passed(address)).cloned().collect();
    let mut listeners = listen(&Network::System, &own).await?;
    for address in addresses.iter().filter(is_passed) {
        let Address::Passed(name) = address else { continue };
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let sockets = passed.listeners(name, OnDrop::Ends).map_err(failed)?;
        if sockets.is_empty() {
            return Err(Error::NotPassed { name: name.clone() });
        }
        listeners.extend(sockets.into_iter().map(|socket| (address.clone(), socket)));
    }
    for name in passed.names() {
        tracing::warn!(
            name,
            "a socket was passed to this server that it was not told to use: --listen systemd:NAME"
        );
    }
    Ok(listeners)
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
    accounts::read(home)?;
    config.status_options().check()?;
    for psk in &config.psk {
        identity::read_psk(psk)?;
    }
    config.files.iter().try_for_each(FileShare::check)?;
    if let Some(access) = access {
        granting::warn_of_doubts(&access, &config);
    }
    let shown = path.as_ref().map(|path| path.display().to_string());
    let (services, shares) = (config.services.len(), config.files.len());
    if (Outcome::Checked { path: shown.as_deref(), services, shares }).tell()? {
        return Ok(());
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
            _ if Outcome::Reloaded { pid }.tell()? => {}
            _ => output::print(format_args!("{pid} goes by the configuration as it is now"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use cli_support::invocation::{Program, commands};

    use super::*;

    /// A command that is missing there would stay as it is in texts where the program is installed under another name.
    #[test]
    fn all_commands_are_known_to_the_naming() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(
                commands(Program::Server).contains(&name),
                "{name} is missing in cli_support::invocation"
            );
        }
    }
}
