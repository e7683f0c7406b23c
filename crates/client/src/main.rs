//! The `client` program: parses, calls the library, reports.

use std::future::Future;
use std::process::ExitCode;

use clap::Parser as _;
use client::cli::{Cli, Command};
use client::{Credentials, Error, Server, command};
use program::home::Home;
use program::{classic, hardening, logging, report};

fn main() -> ExitCode {
    let cli = Cli::parse();
    hardening::keep_memory_private();
    logging::start(&cli.verbosity);
    report::finish(run(cli))
}

fn run(cli: Cli) -> Result<(), Error> {
    let home = Home::resolve(cli.home)?;
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
        Command::Ping(options) => {
            let server = Server::from_options(options.address.clone(), &options.trust)?;
            let credentials = Credentials::read(home)?;
            block_on(command::ping::ping(&credentials, &server, &options))
        }
        Command::Keygen(options) => command::keygen::keygen(&home, &options),
        Command::Fingerprint => command::keygen::fingerprint(&home),
        Command::Trust { address, server_key, .. } => command::trust::trust(home, &address, server_key),
        Command::Classic(classic) => Ok(classic::run(&classic, &home)?),
    }
}

fn block_on(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(work);
    // A thread that still waits for standard input must not hold the process up.
    runtime.shutdown_background();
    result
}
