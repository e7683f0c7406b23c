//! The `server` program: parses, calls the library, reports.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use crypto_core::identity::{KeyId, ServerKey};
use crypto_core::psk::PreSharedKey;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use jiff::Timestamp;
use program::address::Address;
use program::home::Home;
use program::listener::Listener;
use program::identity::{self, Identity as _, Keygen};
use program::{classic, hardening, logging, private_file, report};
use server::cli::{Cli, Command, Listen, MakeKey, Run};
use server::{
    AccessFile, Error, Identity, MessageFormat, Messages, Pipe, Service, Settings, Strangers,
    read_or_make_ticket_key, serve,
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = Cli::read();
    hardening::keep_memory_private();
    logging::start(&cli.verbosity);
    report::finish(run(cli))
}

fn run(cli: Cli) -> Result<(), Error> {
    let home = Home::resolve(cli.home)?;
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(Run { listen, json, max_message }) => {
            let format = if json { MessageFormat::Json } else { MessageFormat::Text };
            let output = hardening::standard_output()?;
            let messages = Messages::new(format, max_message.as_u64(), output);
            listen_and_serve(&home, &listen, Service::Messages(messages))
        }
        Command::Pipe(listen) => {
            let pipe = Pipe::new(hardening::standard_input()?, hardening::standard_output()?);
            listen_and_serve(&home, &listen, Service::Pipe(pipe))
        }
        Command::Keygen(MakeKey { psk: Some(name), .. }) => make_psk(&home, &name),
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
            AccessFile::new(home).edit(|access| access.allow(&allow.client, allow.name.as_ref(), grant))
        }
        Command::Revoke { client } => AccessFile::new(home).edit(|access| access.revoke(&client)),
        Command::List => {
            let access = AccessFile::new(home).read()?;
            let now = Timestamp::now();
            access.iter().flat_map(|access| access.lines(now)).try_for_each(|line| print(&line))
        }
        Command::Classic(command) => Ok(classic::run(&command, &home)?),
    }
}

fn listen_and_serve(home: &Home, listen: &Listen, service: Service) -> Result<(), Error> {
    let identity = match listen.psk.as_slice() {
        [] => Identity::Key(Arc::new(read_or_make_key(home)?)),
        files => Identity::Psk(read_psks(files)?),
    };
    let tickets = match &listen.ticket_keys {
        Some(path) => read_or_make_ticket_key(path)?,
        None => TicketKey::new(Secret::random(&mut SysRng).map_err(program::Error::from)?),
    };
    let access = AccessFile::new(home.clone());
    // A file that makes no sense would refuse everybody later: better said now.
    access.read()?;
    if let Identity::Psk(psks) = &identity {
        note_psks(&access, psks);
    }
    let strangers = if listen.anyone { Strangers::Welcome } else { Strangers::Refused };

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(async {
        let mut listeners = Vec::with_capacity(listen.listen.len());
        for address in &listen.listen {
            let failed = |source| Error::Listen { address: address.to_string(), source };
            listeners.push(Listener::bind(address).await.map_err(failed)?);
        }
        // Before anybody can know that the server is there: whoever reads the banner may signal at once.
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        announce(&listeners, &identity, &service)?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let settings = Settings { identity, tickets: Arc::new(tickets), access, strangers, service };
        serve(settings, listeners, stop).await
    });
    // A thread that still waits for standard input must not hold the process up.
    runtime.shutdown_background();
    result
}

/// Prints where the server is to be found and a command to paste.
#[expect(clippy::print_stderr, reason = "this is where a program speaks to its user")]
fn announce(listeners: &[Listener], identity: &Identity, service: &Service) -> Result<(), Error> {
    let addresses: Vec<Address> =
        listeners.iter().map(Listener::address).collect::<Result<_, _>>().map_err(Error::Runtime)?;
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
            Service::Messages(_) => eprintln!("try:        client send {address} \"Hello, World!\" {option}"),
            Service::Pipe(_) => eprintln!("try:        client pipe {address} {option}"),
        }
    }
    Ok(())
}

fn read_or_make_key(home: &Home) -> Result<ServerKey, Error> {
    if !home.file(ServerKey::FILE_NAME).exists() {
        match identity::make(home, &Keygen::default()) {
            // Another server of the same home was quicker: its key is the one.
            Err(program::Error::Exists { .. }) => {}
            made => return Ok(made?),
        }
    }
    Ok(identity::read(home)?)
}

fn read_psks(files: &[std::path::PathBuf]) -> Result<BTreeMap<String, Arc<PreSharedKey>>, Error> {
    let mut psks = BTreeMap::new();
    for path in files {
        let psk = identity::read_psk(path)?;
        if let Some(double) = psks.insert(psk.id().to_owned(), Arc::new(psk)) {
            return Err(Error::DuplicatePsk { id: double.id().to_owned() });
        }
    }
    Ok(psks)
}

/// Notes the keys that were made elsewhere, so that each can be revoked here by its name.
fn note_psks(access: &AccessFile, psks: &BTreeMap<String, Arc<PreSharedKey>>) {
    let noted = access.read().and_then(|known| {
        let unknown = |name: &&String| known.as_ref().is_none_or(|known| !known.knows_psk(name));
        let names: Vec<&String> = psks.keys().filter(unknown).collect();
        if names.is_empty() {
            return Ok(());
        }
        access.edit(|access| names.into_iter().try_for_each(|name| access.note_psk(name)))
    });
    if let Err(error) = noted {
        tracing::warn!(%error, "these pre-shared keys cannot be revoked by name");
    }
}

fn make_psk(home: &Home, name: &str) -> Result<(), Error> {
    let server_id = read_or_make_psk_server_id(home)?;
    AccessFile::new(home.clone()).edit(|access| access.note_psk(name))?;
    let psk = PreSharedKey::generate(&mut SysRng, name, server_id.0).map_err(program::Error::from)?;
    print(psk.to_text().trim_end())
}

/// The id that the pre-shared keys of this home belong to: random, and not a secret.
fn read_or_make_psk_server_id(home: &Home) -> Result<KeyId, Error> {
    let path = home.file(PSK_SERVER_ID_FILE);
    home.create()?;
    if !path.exists() {
        let id = KeyId(*Secret::random(&mut SysRng).map_err(program::Error::from)?.expose());
        match private_file::create_new(&path, format!("{id}\n").as_bytes()) {
            Err(program::Error::Exists { .. }) => {}
            written => return Ok(written.map(|()| id)?),
        }
    }
    let text = private_file::read_text(&path)?;
    Ok(text.trim().parse().map_err(|source| program::Error::Key { path, source })?)
}

fn print(line: &str) -> Result<(), Error> {
    writeln!(io::stdout(), "{line}").map_err(Error::Print)
}

const PSK_SERVER_ID_FILE: &str = "psk-server-id";
