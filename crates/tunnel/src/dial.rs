//! Connecting: to an address as people write it, and what to tell somebody for whom that was tried in vain.

mod deadline;
pub(crate) mod explain;
mod hint;
mod history;
mod lookup;
mod race;
mod refusal;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UnixStream;
use tokio::time::sleep;

use self::deadline::within;
use self::explain::explain_path;
use crate::address::{Address, parse_ip};
use crate::socket::Socket;

pub use self::deadline::{DEADLINE, in_time};
pub use self::explain::MAX_PATH_LEN;
pub use self::hint::{connect_hint, listen_hint};
pub use self::history::worked;
pub use self::race::{further_attempt, is_no_way};
pub use self::refusal::{listen_refusal, refusal};

/// Connects to `address`. Where a name has several addresses they are tried as Happy Eyeballs (RFC 8305) has it, and the
/// first connection that stands is taken.
///
/// # Errors
/// As [`resolve`] and [`dial_first`]. For a unix socket: what the system says, with words of its own for a path that is too
/// long and for a file that is no socket; `TimedOut` where its queue was full for [`DEADLINE`].
pub async fn dial(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Unix(path) => in_time(connect_unix(path)).await,
        Address::Passed(_) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "one listens there, and cannot connect"))
        }
        Address::Tcp { host, port } => {
            dial_first(resolve(host, *port).await?).await.map(|(socket, _)| socket)
        }
    }
}

/// The addresses of a name, or the one that it is, in the order in which they are to be tried: the one that was reached last
/// first, and then the two families in turn.
///
/// # Errors
/// `NotFound` when there is none, `TimedOut` after [`DEADLINE`].
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    resolve_for("", host, port).await
}

/// As [`resolve`], at the expense of others that are looked up for `asker`: see [`lookup_pool::look_up`].
///
/// # Errors
/// As [`resolve`]; `ResourceBusy` where too many are.
///
/// [`lookup_pool::look_up`]: crate::lookup_pool::look_up
pub async fn resolve_for(asker: &str, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Some(ip) = parse_ip(host) {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let in_vain = || format!("the name could not be looked up within {} seconds", DEADLINE.as_secs());
    let mut found = within(lookup::find(asker, host), in_vain).await?;
    for address in &mut found {
        address.set_port(port);
    }
    Ok(history::sorted(found))
}

/// Connects to the first of `candidates` that answers, and says which one that was: 250 milliseconds after one was begun, or
/// as soon as one has failed, the next one is tried beside it.
///
/// # Errors
/// `NotFound` where there are no candidates, else the error of one of them: that there is no way to it counts for less than
/// what another one has answered. `TimedOut` for one that did not answer within [`DEADLINE`].
pub async fn dial_first(candidates: Vec<SocketAddr>) -> io::Result<(Socket, SocketAddr)> {
    let (stream, address) = race::connect_first(candidates).await?;
    Ok((Socket::tcp(stream, address)?, address))
}

async fn connect_unix(path: &Path) -> io::Result<Socket> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Socket::Unix(stream)),
            // Its queue is full, which a call that may block would wait for.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
            Err(error) => return Err(explain_unix(path, error)),
        }
    }
}

/// The system has one answer for a socket on which nobody listens and for a file that is no socket at all.
fn explain_unix(path: &Path, error: io::Error) -> io::Error {
    let is_other_file = || std::fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket());
    match error.kind() {
        io::ErrorKind::ConnectionRefused if is_other_file() => Errno::NOTSOCK.into(),
        _ => explain_path(path, error),
    }
}

/// A target that was reached in this time may say something before the other side is told that it was: whoever has waited for
/// longer is told at once.
pub const PROMPT: Duration = Duration::from_secs(1);
/// Between two looks at the queue of a unix socket, which nobody tells of.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use wire_protocol::message::RefusedCode;

    use super::*;

    async fn refused(address: &Path) -> (RefusedCode, String) {
        let error = dial(&Address::Unix(address.into())).await.unwrap_err();
        (refusal(&error), error.to_string())
    }

    #[tokio::test]
    async fn a_unix_socket_that_is_none_is_told_from_one_where_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        drop(std::os::unix::net::UnixListener::bind(path("left")).unwrap());
        let long = path(&"n".repeat(MAX_PATH_LEN));
        for (at, code, message) in [
            (path("left"), RefusedCode::TargetRefused, "Connection refused (os error 111)"),
            (path("none"), RefusedCode::NoSuchSocket, "No such file or directory (os error 2)"),
            (path("file"), RefusedCode::NoSuchSocket, "Socket operation on non-socket (os error 88)"),
            (path("file/socket"), RefusedCode::NoSuchSocket, "Not a directory (os error 20)"),
            (folder.path().into(), RefusedCode::NoSuchSocket, "Socket operation on non-socket (os error 88)"),
        ] {
            assert_eq!(refused(&at).await, (code, message.to_owned()), "{}", at.display());
        }
        let (code, message) = refused(&long).await;
        assert_eq!(code, RefusedCode::NoSuchSocket);
        let len = long.as_os_str().len();
        assert_eq!(
            message,
            format!("the path is {len} bytes long, and that of a socket can have 107 at most")
        );
    }

    #[tokio::test]
    async fn a_unix_socket_whose_queue_is_full_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let address = Address::Unix(path);
        let _kept = dial(&address).await.unwrap();
        let mut waiting = Box::pin(dial(&address));
        timeout(QUEUE_PAUSE * 2, &mut waiting).await.expect_err("the queue was not full");
        socket.accept().unwrap();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn addresses_are_read_with_their_interface() {
        let expected = "[fe80::1%1]:80".parse().unwrap();
        assert_eq!(resolve("fe80::1%lo", 80).await.unwrap(), [expected]);
        let error = resolve("fe80::1%nosuch", 80).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "this machine has no interface \"nosuch\"");
        assert_eq!(resolve("::1", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
    }
}
