//! The `client` program: parses, calls the library, reports.

// They panic where the output cannot be written: cli_support::output does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod signals;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use cli_support::home::Home;
use cli_support::{admin, classic, hardening, logging, output, report};
use client::cli::{Cli, Command};
use client::command::forward::Event;
use client::command::join::Invocation;
use client::config::{self, ClientConfig, Forward};
use client::files::FilesError;
use client::{Control, Credentials, Error, Server, cli, command};
use tokio_util::sync::CancellationToken;
use tunnel::network::Network;
use tunnel::proxy_header::ProxyHeader;

use crate::signals::{Interruption, Signals};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            return report::finish_usage(&error, cli_support::hint_of_usage(&error));
        }
    };
    hardening::keep_memory_private();
    logging::start(&cli.verbosity);
    let interruption = Interruption::default();
    let result = run(cli, &interruption);
    let is_interrupted = matches!(result, Err(Error::Files(FilesError::Stopped)));
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
            let server = Server::from_options(address, &trust)?;
            let credentials = Credentials::read(home)?;
            let text = text.as_deref().filter(|text| *text != "-");
            block_on(command::send::send(&credentials, &server, text))
        }
        Command::Pipe { address, trust } => {
            let server = Server::from_options(address, &trust)?;
            let credentials = Credentials::read(home)?;
            block_on(command::pipe::pipe(&credentials, &server))
        }
        Command::Put(options) => {
            let server = Server::from_options(options.address.clone(), &options.trust)?;
            let credentials = Credentials::read(home)?;
            block_on(async {
                let interrupted = interruption.listen()?.cancelled_owned();
                command::put::put(&credentials, &server, &options, is_quiet, interrupted).await
            })
        }
        Command::Get(options) => {
            let server = Server::from_options(options.address.clone(), &options.trust)?;
            let credentials = Credentials::read(home)?;
            block_on(async {
                let interrupted = interruption.listen()?.cancelled_owned();
                command::get::get(&credentials, &server, &options, is_quiet, interrupted).await
            })
        }
        Command::Ls(options) => {
            let server = Server::from_options(options.address.clone(), &options.trust)?;
            let credentials = Credentials::read(home)?;
            block_on(command::ls::ls(&credentials, &server, &options))
        }
        Command::Forward(options) => {
            let credentials = Credentials::read(home)?;
            block_on(run_forward(credentials, options))
        }
        Command::Check { config } => command::check::check(&home, config.as_deref()),
        Command::Ping(options) => {
            let server = Server::from_options(options.address.clone(), &options.trust)?;
            let credentials = Credentials::read(home)?;
            block_on(command::ping::ping(&credentials, &server, &options))
        }
        Command::Status { json } => Ok(admin::print_status(&home, "client", json)?),
        Command::Keygen(options) => command::keygen::keygen(&home, &options),
        Command::Fingerprint => command::keygen::fingerprint(&home),
        Command::Trust { address, server_key, .. } => command::trust::trust(home, &address, server_key),
        Command::Join { json } => {
            let line = command::join::read_line()?;
            let program = std::env::args_os().next().unwrap_or_else(|| "client".into());
            let invocation = Invocation { program: &program, home: given_home.as_deref() };
            block_on(command::join::join(&home, line, json, &invocation))
        }
        Command::Classic(classic) => Ok(classic::run(&classic, &home)?),
    }
}

async fn run_forward(credentials: Credentials, options: cli::Forward) -> Result<(), Error> {
    let tell: fn(&Event<'_>) = match options.json {
        true => |event| output::tell_json(event),
        false => |event| output::say(event),
    };
    let Some(server) = options.address else {
        let (config, path) = config::read(options.config.as_deref())?;
        if let Some(path) = path {
            tracing::info!(path = %path.display(), "configuration read");
        }
        let grace = options.grace.unwrap_or(config.grace);
        return keep_up(&credentials, config.forwards, grace, tell).await;
    };
    let header = if options.proxy_protocol { ProxyHeader::V2 } else { ProxyHeader::None };
    if let Some(target) = &options.stdio {
        if header == ProxyHeader::V2 {
            return Err(Error::HeaderMisplaced { forward: format!("-W {target}") });
        }
        let server = Server::from_options(server, &options.trust)?;
        return command::forward::forward_stdio(&credentials, &server, target).await;
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
    };
    let forwards = if forward.is_empty() { Vec::new() } else { vec![forward] };
    let grace = options.grace.unwrap_or_else(|| ClientConfig::default().grace);
    keep_up(&credentials, forwards, grace, tell).await
}

/// Forwards until a signal ends it.
async fn keep_up(
    credentials: &Credentials,
    forwards: Vec<Forward>,
    grace: Duration,
    tell: fn(&Event<'_>),
) -> Result<(), Error> {
    let forwards = command::forward::bind(&Network::System, credentials, forwards, tell).await?;
    // Before anybody can know that something works: whoever reads so may signal at once.
    let signals = Signals::listen(credentials.home())?;
    let (control, events) = Control::new();
    let shutdown = CancellationToken::new();
    let passing_on = tokio::spawn(signals.pass_on(control, shutdown.clone()));
    let result = forwards.run(grace, shutdown.cancelled(), events).await;
    passing_on.abort();
    // The file of the socket for commands goes with the task.
    passing_on.await.ok();
    result
}

fn block_on(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(work);
    // A thread that still waits for standard input must not hold the process up.
    runtime.shutdown_background();
    result
}
