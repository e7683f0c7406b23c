//! The two exchanges that the project began with (section 9), byte for byte with the tutorial's programs: one
//! connection, one message.
//!
//! Neither authenticated nor forward-secret: whoever stands in the middle of an rsa-oaep exchange swaps the key,
//! and whoever learns a key later reads everything.

mod aes_eax;
mod rsa_oaep;

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::Error;
use crate::address::Address;
use crate::home::Home;
use crate::socket::BlockingSocket;

/// `classic`: the tutorial's exchanges.
#[derive(Debug, Subcommand)]
pub enum Classic {
    /// RSA-OAEP (SHA-1): the receiver sends its public key, the sender one ciphertext
    RsaOaep {
        /// With whom, and what.
        #[command(flatten)]
        exchange: Exchange,
        /// The receiver's key (PEM); made in the home on first use
        #[arg(long, value_name = "FILE", conflicts_with_all = ["send", "private_key"])]
        key: Option<PathBuf>,
        /// The private key (PEM) of the public key that the sender itself sends first, as the tutorial's program does
        #[arg(long, value_name = "FILE", conflicts_with = "send")]
        private_key: Option<PathBuf>,
    },
    /// AES-EAX: the sender sends nonce, tag and ciphertext
    AesEax {
        /// With whom, and what.
        #[command(flatten)]
        exchange: Exchange,
        /// The shared key: 16, 24 or 32 bytes, raw or in hex
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
}

/// What both exchanges have in common.
#[derive(Debug, Args)]
pub struct Exchange {
    /// Wait for one connection at this address
    #[arg(long, value_name = "ADDR", required_unless_present = "connect", conflicts_with = "connect")]
    listen: Option<Address>,
    /// Connect to this address
    #[arg(long, value_name = "ADDR")]
    connect: Option<Address>,
    /// Send this text, or standard input for -
    #[arg(long, value_name = "TEXT", required_unless_present = "receive", conflicts_with = "receive")]
    send: Option<String>,
    /// Receive a message to standard output
    #[arg(long)]
    receive: bool,
}

/// Runs a classic exchange.
///
/// # Errors
/// [`Error`].
#[expect(clippy::print_stderr, reason = "this is where a program speaks to its user")]
pub fn run(command: &Classic, home: &Home) -> Result<(), Error> {
    eprintln!(
        "warning: this exchange is neither authenticated nor forward-secret; `client send` and `server` are both"
    );
    match command {
        Classic::RsaOaep { exchange, key, private_key } => {
            rsa_oaep::run(exchange, key.as_deref(), private_key.as_deref(), home)
        }
        Classic::AesEax { exchange, key_file } => aes_eax::run(exchange, key_file),
    }
}

impl Exchange {
    /// The message to send, if this side sends.
    fn message(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self.send.as_deref() {
            None => Ok(None),
            Some("-") => {
                let mut message = Zeroizing::new(Vec::new());
                io::stdin()
                    .take(MAX_MESSAGE_LEN + 1)
                    .read_to_end(&mut message)
                    .map_err(|source| Error::Stdio { stream: "standard input", source })?;
                check_len(message.len())?;
                Ok(Some(message))
            }
            Some(text) => Ok(Some(Zeroizing::new(text.as_bytes().to_vec()))),
        }
    }

    /// The one connection of the exchange.
    fn connection(&self) -> Result<Connection, Error> {
        match (&self.listen, &self.connect) {
            (Some(address), _) => accept_one(address),
            (None, Some(address)) => connect(address),
            (None, None) => Err(Error::Address { text: String::new() }),
        }
    }
}

/// A connection, and the address that errors on it name.
struct Connection {
    socket: BlockingSocket,
    address: String,
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.socket.write_all(bytes).map_err(|source| self.error("send to", source))
    }

    /// Reads what is there, or nothing at the end.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|source| self.error("receive from", source)),
            }
        }
    }

    /// Reads to the end, `MAX_MESSAGE_LEN` and `extra` bytes at most.
    fn receive_all(&mut self, extra: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let result = (&mut self.socket).take(MAX_MESSAGE_LEN + extra + 1).read_to_end(&mut bytes);
        result.map_err(|source| self.error("receive from", source))?;
        Ok(bytes)
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::Network { action, address: self.address.clone(), source }
    }
}

#[expect(clippy::print_stderr, reason = "this is where a program speaks to its user")]
fn accept_one(address: &Address) -> Result<Connection, Error> {
    let name = address.to_string();
    let listening = |source| Error::Network { action: "listen on", address: name.clone(), source };
    let socket = match address {
        Address::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port)).map_err(listening)?;
            eprintln!("listening on {}", listener.local_addr().map_err(listening)?);
            BlockingSocket::Tcp(listener.accept().map_err(listening)?.0)
        }
        Address::Unix(path) => {
            let listener = UnixListener::bind(path).map_err(listening)?;
            eprintln!("listening on {address}");
            let accepted = listener.accept();
            std::fs::remove_file(path).map_err(Error::file("remove", path))?;
            BlockingSocket::Unix(accepted.map_err(listening)?.0)
        }
    };
    Ok(Connection { socket, address: name })
}

fn connect(address: &Address) -> Result<Connection, Error> {
    let name = address.to_string();
    let connecting = |source| Error::Network { action: "connect to", address: name.clone(), source };
    let socket = match address {
        Address::Tcp { host, port } => {
            let candidates = (host.as_str(), *port).to_socket_addrs().map_err(connecting)?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            let connected = candidates.into_iter().find_map(|candidate| {
                TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT).map_err(|error| last = error).ok()
            });
            BlockingSocket::Tcp(connected.ok_or(last).map_err(connecting)?)
        }
        Address::Unix(path) => BlockingSocket::Unix(UnixStream::connect(path).map_err(connecting)?),
    };
    Ok(Connection { socket, address: name })
}

fn print(message: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(message)
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::Stdio { stream: "standard output", source })
}

fn check_len(len: usize) -> Result<(), Error> {
    match u64::try_from(len) {
        Ok(len) if len <= MAX_MESSAGE_LEN => Ok(()),
        _ => Err(Error::ClassicPeer("a message of 256 MiB at most")),
    }
}

/// A message has to be whole in memory before its tag can be checked, so it cannot be of any length.
const MAX_MESSAGE_LEN: u64 = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
