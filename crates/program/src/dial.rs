//! Connecting: to an address as people write it, and what to tell somebody for whom that was tried in vain.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use wire_protocol::message::RefusedCode;

use crate::address::Address;
use crate::socket::Socket;

/// Connects to `address`; where a name has several, to the first that answers.
///
/// # Errors
/// `TimedOut` when the name, or the last address that was tried, did not answer within [`DEADLINE`], `NotFound` when the
/// name has no address, else what the last address answered.
pub async fn dial(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        Address::Tcp { host, port } => {
            dial_first(resolve(host, *port).await?).await.map(|(socket, _)| socket)
        }
    }
}

/// The addresses of a name, or the one that it is.
///
/// # Errors
/// `NotFound` when there is none, `TimedOut` after [`DEADLINE`].
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = in_time(lookup_host((host, port))).await.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => error,
        // What the system says of a name that it does not know is of no kind of its own.
        _ => io::Error::new(io::ErrorKind::NotFound, error),
    })?;
    Ok(found.collect())
}

/// Connects to the first of `candidates` that answers, and says which one that was.
///
/// # Errors
/// As [`dial`].
pub async fn dial_first(candidates: Vec<SocketAddr>) -> io::Result<(Socket, SocketAddr)> {
    let mut last = None;
    for candidate in candidates {
        let connected = in_time(connect(candidate)).await;
        match connected.and_then(|stream| Socket::tcp(stream, candidate)) {
            Ok(socket) => return Ok((socket, candidate)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// Connects without waiting for the event that says so where that has happened already, as it has on this machine.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    let connected = match socket.connect(&address.into()) {
        Ok(()) => true,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => socket.peer_addr().is_ok(),
        Err(error) => return Err(error),
    };
    let stream = TcpStream::from_std(socket.into())?;
    if !connected {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok(stream)
}

/// What the other side is told of a target that cannot be reached.
#[must_use]
pub fn refusal(error: &io::Error) -> RefusedCode {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => RefusedCode::TargetRefused,
        io::ErrorKind::NotFound => RefusedCode::UnknownHost,
        io::ErrorKind::TimedOut => RefusedCode::TargetTimedOut,
        io::ErrorKind::PermissionDenied => RefusedCode::NotAllowed,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            RefusedCode::TargetUnreachable
        }
        // Descriptors, ports or memory of our own have run out.
        _ => RefusedCode::Busy,
    }
}

/// Gives `work` as long as [`DEADLINE`].
///
/// # Errors
/// Those of `work`, or `TimedOut`.
pub async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("no answer within {} seconds", DEADLINE.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}

/// For each of name resolution, connecting, the handshake (which the server itself limits to as much), and whatever
/// else the other side has to answer without having anything to do.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A target that was reached in this time may say something before the other side is told that it was: whoever has waited for
/// longer is told at once.
pub const PROMPT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use socket2::Socket;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A listener that keeps so many connections that nobody accepts, and one more.
    fn listener(backlog: i32) -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(backlog).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn a_connection_that_stands_at_once_carries_both_ways() {
        let (listener, address) = listener(16);
        let Poll::Ready(stream) = pin!(connect(address)).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits for an event");
        };
        let mut stream = stream.unwrap();
        stream.write_all(b"there").await.unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.send(b"back").unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"back");
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses() {
        let (listener, address) = listener(16);
        drop(listener);
        assert_eq!(connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    /// The system drops what a full listener is asked, and asks again a second later.
    #[tokio::test]
    async fn a_connection_that_does_not_stand_yet_is_waited_for() {
        let (listener, address) = listener(0);
        let _kept = connect(address).await.unwrap();
        let mut waiting = Box::pin(connect(address));
        timeout(Duration::from_millis(100), &mut waiting).await.expect_err("the listener was not full");
        listener.accept().unwrap();
        let stream = in_time(waiting).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }
}
