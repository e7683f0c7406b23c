//! The `server` program: parses, calls the library, takes signals, reports.

mod signals;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crypto_core::identity::ServerKey;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use jiff::Timestamp;
use program::address::Address;
use program::admin::{self, Answer, Command as Ask};
use program::home::Home;
use program::identity;
use program::{classic, hardening, logging, report};
use server::cli::{Cli, Command, MakeKey};
use server::config::{self, ServerConfig};
use server::{
    AccessFile, Control, Error, Identity, Listeners, Live, MessageFormat, Messages, Pipe, Service, Settings,
    listen, make_psk, read_identity, read_or_make_ticket_key, serve,
};
use tokio_util::sync::CancellationToken;

use signals::{Reload, Signals};

fn main() -> ExitCode {
    let cli = Cli::read();
    hardening::keep_memory_private();
    logging::start(&cli.verbosity);
    report::finish(run(cli))
}

fn run(cli: Cli) -> Result<(), Error> {
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
            let reload =
                Box::new(move || options.config().map(|config| (Live::from(&config), config.listen)));
            listen_and_serve(&home, &config, Service::Messages(messages), reload)
        }
        Command::Pipe(options) => {
            let config = options.overlay(ServerConfig::default());
            let pipe = Pipe::new(hardening::standard_input()?, hardening::standard_output()?);
            let unchanged = config.clone();
            // A pipe has no configuration file.
            let reload = Box::new(move || Ok((Live::from(&unchanged), unchanged.listen.clone())));
            listen_and_serve(&home, &config, Service::Pipe(pipe), reload)
        }
        Command::Check { config } => check(&home, config.as_deref()),
        Command::Reload => reload(&home),
        Command::Status { json } => Ok(admin::print_status(&home, "server", json)?),
        Command::Keygen(MakeKey { psk: Some(name), .. }) => print(make_psk(&home, &name)?.trim_end()),
        Command::Keygen(MakeKey { rsa, psk: None }) => {
            let key: ServerKey = identity::make(&home, &rsa)?;
            print(&key.public().id().to_string())
        }
        Command::Fingerprint => {
            let key: ServerKey = identity::read(&home)?;
            print(&key.public().id().to_string())
        }
        Command::Allow(allow) => {
            let grant = allow.grant(Timestamp::now());
            let file = AccessFile::new(home.clone());
            file.edit(|access| access.allow(&allow.client, allow.name.as_ref(), grant))?;
            recheck(&home)
        }
        Command::Revoke { client } => {
            AccessFile::new(home.clone()).edit(|access| access.revoke(&client))?;
            recheck(&home)
        }
        Command::List => {
            let access = AccessFile::new(home).read()?;
            let now = Timestamp::now();
            access.iter().flat_map(|access| access.lines(now)).try_for_each(|line| print(&line))
        }
        Command::Classic(command) => Ok(classic::run(&command, &home)?),
    }
}

fn listen_and_serve(
    home: &Home,
    config: &ServerConfig,
    service: Service,
    reload: Reload,
) -> Result<(), Error> {
    let access = AccessFile::new(home.clone());
    // A file that makes no sense would refuse everybody later: better said now.
    access.read()?;
    let identity = read_identity(home, &config.psk, &access)?;
    let tickets = match &config.ticket_keys {
        Some(path) => read_or_make_ticket_key(path)?,
        None => TicketKey::new(Secret::random(&mut SysRng).map_err(program::Error::from)?),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(async {
        let listeners = listen(&config.listen).await?;
        // Before anybody can know that the server is there: whoever reads the banner may signal at once.
        let signals = Signals::listen(home)?;
        announce(&listeners, &identity, &service)?;
        let settings =
            Settings { identity, tickets: Arc::new(tickets), access, service, live: Live::from(config) };
        let (control, events) = Control::new();
        let shutdown = CancellationToken::new();
        let passing_on = tokio::spawn(signals.pass_on(control, shutdown.clone(), reload));
        let result = serve(settings, listeners, shutdown.cancelled(), events).await;
        passing_on.abort();
        // The file of the socket for commands goes with the task.
        passing_on.await.ok();
        result
    });
    // A thread that still waits for standard input must not hold the process up.
    runtime.shutdown_background();
    result
}

/// What there is to know before a server is started with it, found out without starting it.
fn check(home: &Home, file: Option<&Path>) -> Result<(), Error> {
    let (config, path) = config::read(file)?;
    AccessFile::new(home.clone()).read()?;
    for psk in &config.psk {
        identity::read_psk(psk)?;
    }
    match path {
        Some(path) => print(&format!("{}: good, {} services", path.display(), config.services.len())),
        None => print("no configuration file: the defaults hold"),
    }
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
        return Err(program::Error::NotRunning { program: "server" }.into());
    }
    for (pid, answer) in answers {
        match answer {
            Answer::Failed { error, hint } => return Err(Error::NotReloaded { pid, error, hint }),
            _ => print(&format!("{pid} goes by the configuration as it is now"))?,
        }
    }
    Ok(())
}

/// Prints where the server is to be found and a command to paste.
#[expect(clippy::print_stderr, reason = "this is where a program speaks to its user")]
fn announce(listeners: &Listeners, identity: &Identity, service: &Service) -> Result<(), Error> {
    let addresses: Vec<Vec<Address>> = listeners
        .iter()
        .map(|(_, listener)| listener.addresses())
        .collect::<Result<_, _>>()
        .map_err(Error::Runtime)?;
    let addresses = addresses.concat();
    for address in &addresses {
        eprintln!("listening on {address}");
    }
    let option = match identity {
        Identity::Key(key) => {
            let id = key.public().id();
            eprintln!("server key  {id}");
            format!("--server-key {id}")
        }
        Identity::Psk(psks) => {
            let names: Vec<&str> = psks.keys().map(String::as_str).collect();
            eprintln!("server id   psk:{}", names.join(","));
            "--psk FILE".to_owned()
        }
    };
    if let Some(address) = addresses.first() {
        match service {
            Service::Messages(messages) if messages.are_taken() => {
                eprintln!("try:        client send {address} \"Hello, World!\" {option}");
            }
            Service::Messages(_) => eprintln!("try:        client ping {address} {option}"),
            Service::Pipe(_) => eprintln!("try:        client pipe {address} {option}"),
        }
    }
    Ok(())
}

fn print(line: &str) -> Result<(), Error> {
    writeln!(io::stdout(), "{line}").map_err(Error::Print)
}
