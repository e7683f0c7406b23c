//! The `client` program: parses, calls the library, reports.

mod completion;
mod detached;
mod signals;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cli_support::home::Home;
use cli_support::service_manager::ServiceManager;
use cli_support::status_server::{StatusOptions, StatusServer};
use cli_support::{admin, classic, hardening, logging, output, report};
use tokio_util::sync::CancellationToken;
use tunnel::network::Network;
use tunnel::proxy_header::ProxyHeader;

use self::detached::Background;
use self::signals::{Interruption, Signals};
use crate::cli::{self, Cli, Command};
use crate::command;
use crate::command::forward::Event;
use crate::command::join::Invocation;
use crate::command::outcome::Outcome;
use crate::config::{self, ClientConfig, Forward};
use crate::connect::Credentials;
use crate::control::Control;
use crate::error::Error;
use crate::files::FilesError;
use crate::server::Server;
use crate::site::ForwardSite;

/// Runs the program with the command line of this process, and returns its exit code.
///
/// It takes the process for its own: signals, standard streams, limits and the log.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            return report::finish_usage(&error, cli_support::hint_of_usage(&error));
        }
    };
    hardening::keep_memory_private();
    if cli.verbosity.is_json() {
        output::print_as_json(cli.command.has_data());
    }
    if let Command::Forward(forward) = &cli.command
        && forward.detach
        && !detached::is_background()
    {
        return detached::start().unwrap_or_else(|error| report::finish(Err(error)));
    }
    if let Err(error) = logging::start(&cli.verbosity) {
        return report::finish(Err(error));
    }
    let interruption = Interruption::default();
    let result = run(cli, &interruption);
    let is_interrupted = matches!(result, Err(Error::Files(FilesError::Stopped) | Error::EndedEarly { .. }));
    let code = report::finish(result);
    if is_interrupted {
        interruption.end_process();
    }
    code
}

fn run(cli: Cli, interruption: &Interruption) -> Result<(), Error> {
    let given_home = cli.home.clone();
    let home = Home::resolve(cli.home)?;
    let is_quiet = cli.verbosity.is_quiet();
    match cli.command {
        Command::Send { address, text, trust } => {
            let server = Server::from_options(&address, &trust, &home)?;
            let credentials = Credentials::read(home)?;
            let text = text.as_deref().filter(|text| *text != "-");
            block_on(command::send::send(&credentials, &server, text))?;
            Outcome::Sent { server: &server.to_string() }.tell()
        }
        Command::Pipe { address, trust } => {
            let server = Server::from_options(&address, &trust, &home)?;
            let credentials = Credentials::read(home)?;
            block_on(command::pipe::pipe(&credentials, &server))?;
            Outcome::Ended { server: &server.to_string(), target: "pipe" }.tell()
        }
        Command::Put(options) => {
            let server = Server::from_options(&options.address, &options.trust, &home)?;
            let credentials = Credentials::read(home)?;
            block_on(async {
                let interrupted = interruption.listen()?.cancelled_owned();
                command::put::put(&credentials, &server, &options, is_quiet, interrupted).await
            })
        }
        Command::Get(options) => {
            let server = Server::from_options(&options.address, &options.trust, &home)?;
            let credentials = Credentials::read(home)?;
            block_on(async {
                let interrupted = interruption.listen()?.cancelled_owned();
                command::get::get(&credentials, &server, &options, is_quiet, interrupted).await
            })
        }
        Command::Ls(options) => {
            let server = Server::from_options(&options.address, &options.trust, &home)?;
            let credentials = Credentials::read(home)?;
            block_on(command::ls::ls(&credentials, &server, &options))
        }
        Command::Forward(options) => {
            let credentials = Credentials::read(home)?;
            block_on(run_forward(credentials, options, interruption))
        }
        Command::Doctor(options) => block_on(command::doctor::doctor(&home, &options)),
        Command::Check { config } => command::check::check(&home, config.as_deref()),
        Command::Ping(options) => {
            let server = Server::from_options(&options.address, &options.trust, &home)?;
            let credentials = Credentials::read(home)?;
            block_on(command::ping::ping(&credentials, &server, &options))
        }
        Command::Status { json } => Ok(admin::print_status(&home, "client", json)?),
        Command::Keygen(options) => command::keygen::keygen(&home, &options),
        Command::Fingerprint => command::keygen::fingerprint(&home),
        Command::Trust(options) => {
            let servers: Vec<String> = options.servers.iter().map(ToString::to_string).collect();
            let (is_list, is_over) = (options.list || options.names, options.forget);
            command::trust::trust(&home, options)?;
            match is_list {
                true => Ok(()),
                false if is_over => Outcome::Forgotten { servers: &servers }.tell(),
                false => Outcome::Trusted { servers: &servers }.tell(),
            }
        }
        Command::Join { name, json } => {
            let line = command::join::read_line()?;
            let program = std::env::args_os().next().unwrap_or_else(|| "client".into());
            let invocation = Invocation { program: &program, home: given_home.as_deref() };
            block_on(command::join::join(&home, line, name, json, &invocation))
        }
        Command::Complete { words } => completion::complete(&home, &words),
        Command::Classic(classic) => Ok(classic::run(&classic, &home)?),
    }
}

async fn run_forward(
    credentials: Credentials,
    options: cli::Forward,
    interruption: &Interruption,
) -> Result<(), Error> {
    let Some(server) = options.address else {
        let (config, path) = config::read(options.config.as_deref())?;
        if let Some(path) = path {
            tracing::info!(path = %path.display(), "configuration read");
        }
        let grace = options.grace.unwrap_or(config.grace);
        let status = options.status.or(config.status_options());
        return keep_up(&credentials, config.forwards, grace, &status, options.detach).await;
    };
    let header = if options.proxy_protocol { ProxyHeader::V2 } else { ProxyHeader::None };
    if let Some(target) = &options.stdio {
        if header == ProxyHeader::V2 {
            return Err(Error::HeaderMisplaced { forward: format!("-W {target}") });
        }
        let server = Server::from_options(&server, &options.trust, credentials.home())?;
        let name = server.to_string();
        let (resume, stopped) = (!options.no_resume, interruption.listen()?);
        command::forward::forward_stdio(&credentials, server, target, resume, stopped).await?;
        return Outcome::Ended { server: &name, target: &target.to_string() }.tell();
    }
    let forward = Forward {
        server,
        trust: options.trust,
        local: options.local,
        remote: options.remote,
        dynamic: options.dynamic,
        header,
        wait: options.wait,
        udp_timeout: options.udp_timeout,
        resume: !options.no_resume,
    };
    let forwards = if forward.is_empty() { Vec::new() } else { vec![forward] };
    let grace = options.grace.unwrap_or_else(|| ClientConfig::default().grace);
    keep_up(&credentials, forwards, grace, &options.status, options.detach).await
}

/// Forwards until a signal ends it.
async fn keep_up(
    credentials: &Credentials,
    forwards: Vec<Forward>,
    grace: Duration,
    status: &StatusOptions,
    is_detached: bool,
) -> Result<(), Error> {
    let shutdown = CancellationToken::new();
    let background = is_detached.then(|| Background::new(credentials.home(), &forwards, shutdown.clone()));
    let told = background.clone();
    let tell = move |event: &Event<'_>| match &told {
        Some(background) => background.tell(event),
        None if output::is_json() => output::tell_json(event),
        None => output::say(event),
    };
    let forwards = command::forward::bind(&Network::System, credentials, forwards, tell.clone()).await?;
    // Before anybody can know that something works: whoever reads so may signal at once.
    let signals = Signals::listen(credentials.home())?;
    let (control, events) = Control::new();
    let site = ForwardSite::new(control.clone(), shutdown.clone());
    let status = StatusServer::start(status, Arc::new(site)).await?;
    for url in status.iter().flat_map(StatusServer::urls) {
        tell(&Event::Status { url: &url });
    }
    let manager = ServiceManager::of_process();
    manager.ready();
    let passing_on = tokio::spawn(signals.pass_on(control, shutdown.clone(), manager));
    let result = forwards.run(grace, shutdown.cancelled(), events).await;
    passing_on.abort();
    // The file of the socket for commands goes with the task.
    passing_on.await.ok();
    drop(status);
    match background.and_then(|background| background.take_problem()) {
        Some(problem) => Err(problem),
        None => result,
    }
}

fn block_on(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(work);
    // A thread that still waits for standard input must not hold the process up.
    runtime.shutdown_background();
    result
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
                commands(Program::Client).contains(&name),
                "{name} is missing in cli_support::invocation"
            );
        }
    }
}
