//! The single connection of a classic exchange. Every wait on it has a time limit.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use tokio::runtime;
use tokio::time::timeout;
use tunnel::address::{Address, AddressError, AddressProblem};
use tunnel::dial::dial;
use tunnel::listener::Listener;
use tunnel::socket::{BlockingSocket, OnDrop, Socket};

use crate::error::Error;
use crate::output::say;

/// A connection, the address that errors on it name, and the longest wait for the other side.
pub(super) struct Connection {
    socket: BlockingSocket,
    address: String,
    limit: Duration,
}

impl Connection {
    /// Connects to `connect`, or waits for one connection at `listen`.
    pub(super) fn open(
        listen: Option<&Address>,
        connect: Option<&Address>,
        limit: Duration,
    ) -> Result<Self, Error> {
        let (Some(address), action) = (listen.or(connect), action(listen.is_some())) else {
            return Err(AddressError { text: String::new(), problem: AddressProblem::NoHost }.into());
        };
        let failed = |source| Error::Network { action, address: address.to_string(), source };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        let opened = runtime.block_on(async {
            let socket = if listen.is_some() {
                accept_one(address, limit).await
            } else {
                let silent = || Error::ClassicSilence { missing: "did not answer", limit };
                timeout(limit, dial(address)).await.map_err(|_| silent())?.map_err(failed)
            }?;
            let socket = socket.into_blocking().map_err(failed)?;
            socket.set_timeout(limit).map_err(failed)?;
            Ok(Self { socket, address: address.to_string(), limit })
        });
        // A name look-up that is still running is not waited for.
        runtime.shutdown_background();
        opened
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.socket
            .write_all(bytes)
            .map_err(|source| self.error("send to", "took nothing of what is sent to it", source))
    }

    /// Reads the bytes that have arrived, or 0 bytes at the end. `missing` says what the other side has not done in
    /// time.
    pub(super) fn receive(&mut self, buffer: &mut [u8], missing: &'static str) -> Result<usize, Error> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|source| self.error("receive from", missing, source)),
            }
        }
    }

    /// Reads to the end, and at most one byte more than `MAX_MESSAGE_LEN + extra`, which marks a message as too
    /// long.
    pub(super) fn receive_all(&mut self, extra: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let result = (&mut self.socket).take(MAX_MESSAGE_LEN + extra + 1).read_to_end(&mut bytes);
        let missing = if bytes.is_empty() { "sent nothing" } else { "neither sent more nor ended" };
        result.map_err(|source| self.error("receive from", missing, source))?;
        Ok(bytes)
    }

    fn error(&self, action: &'static str, missing: &'static str, source: io::Error) -> Error {
        match source.kind() {
            // The error of a socket whose time limit has passed.
            io::ErrorKind::WouldBlock => Error::ClassicSilence { missing, limit: self.limit },
            _ => Error::Network { action, address: self.address.clone(), source },
        }
    }
}

async fn accept_one(address: &Address, limit: Duration) -> Result<Socket, Error> {
    let failed = |source| Error::Network { action: action(true), address: address.to_string(), source };
    let listener = Listener::bind(address, OnDrop::Ends).await.map_err(failed)?;
    for bound in listener.addresses().map_err(failed)? {
        say(format_args!("listening on {bound}"));
    }
    match timeout(limit, listener.accept()).await {
        Ok(accepted) => Ok(accepted.map_err(failed)?.0),
        Err(_) => Err(Error::ClassicNobody { limit }),
    }
}

fn action(listens: bool) -> &'static str {
    if listens { "listen on" } else { "connect to" }
}

/// Longest message in bytes. A message has to be in memory as a whole before its tag can be checked.
pub(super) const MAX_MESSAGE_LEN: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::{Domain, Protocol, Type};

    use super::*;
    use crate::report::{Exit, Report as _};

    const LIMIT: Duration = Duration::from_millis(50);

    fn address(listener: &TcpListener) -> Address {
        listener.local_addr().unwrap().to_string().parse().unwrap()
    }

    /// Connects to a peer that sends nothing, and keeps it connected.
    fn quiet() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Connection::open(None, Some(&address(&listener)), LIMIT).unwrap();
        (connection, listener.accept().unwrap().0)
    }

    #[track_caller]
    fn check(result: Result<impl Sized, Error>, said: &str) {
        let error = result.err().expect("it did not fail");
        assert_eq!(error.exit(), Exit::TimedOut, "{error}");
        assert!(error.to_string().contains(said) && error.to_string().contains("50ms"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--timeout")), "{error}");
    }

    #[test]
    fn nobody_is_waited_for_without_a_limit() {
        let address = "127.0.0.1:0".parse().unwrap();
        check(Connection::open(Some(&address), None, LIMIT), "nobody connected");
    }

    #[test]
    fn a_peer_that_sends_nothing_is_not_waited_for_without_a_limit() {
        let (mut connection, _peer) = quiet();
        check(connection.receive(&mut [0; 16], "sent no public key"), "sent no public key");
        check(connection.receive_all(32), "sent nothing");
    }

    #[test]
    fn a_peer_that_stops_is_not_waited_for_without_a_limit() {
        let (mut connection, mut peer) = quiet();
        peer.write_all(b"some").unwrap();
        check(connection.receive_all(32), "neither sent more nor ended");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_not_waited_for_without_a_limit() {
        let (mut connection, _peer) = quiet();
        check(connection.send(&vec![0; 64 << 20]), "took nothing");
    }

    /// The system drops connection attempts to a listener whose queue is full.
    #[test]
    fn an_answer_is_not_waited_for_without_a_limit() {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let _kept = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        check(Connection::open(None, Some(&address(&listener)), LIMIT), "did not answer");
    }
}
