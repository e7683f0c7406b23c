//! The stream over std, with threads.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sockseal::blocking::{SecureStream, accept, connect};
use sockseal::reason::{AbortCode, ProtocolError};
use sockseal::{ClientConfig, ClientIdentity, Error, HANDSHAKE_DEADLINE, Mode, Peer, ServerConfig};

use super::keys::{PSK, psk};

type Met = Result<SecureStream<UnixStream>, Error>;

/// What comes of the two at the server and at the client.
fn meet(server: ServerConfig, client: ClientConfig) -> (Met, Met) {
    let (here, there) = UnixStream::pair().unwrap();
    // Where a side waits in vain, the test fails and does not hang.
    for socket in [&here, &there] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let server = thread::spawn(move || accept(there, &server, |_| Ok(())));
    let at_client = connect(here, client);
    (server.join().unwrap(), at_client)
}

#[test]
fn both_know_each_other_and_close_in_good_order() {
    let (at_server, at_client) =
        meet(ServerConfig::psk(Arc::clone(&PSK)), ClientConfig::psk(Arc::clone(&PSK)));
    let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
    assert_eq!(at_server.peer(), &Peer::Client(ClientIdentity::Psk("client".to_owned())));
    assert_eq!(at_client.mode(), Mode::Psk);
    assert!(at_client.take_ticket().is_none(), "there are no tickets with a pre-shared key");

    at_client.write_all(b"there").unwrap();
    at_client.shutdown().unwrap();
    at_server.write_all(b"back").unwrap();
    at_server.shutdown().unwrap();
    let (mut there, mut back) = (String::new(), String::new());
    at_server.read_to_string(&mut there).unwrap();
    at_client.read_to_string(&mut back).unwrap();
    assert_eq!((there.as_str(), back.as_str()), ("there", "back"));
    let server = thread::spawn(|| at_server.close());
    at_client.close().unwrap();
    server.join().unwrap().unwrap();
}

#[test]
fn another_secret_opens_nothing() {
    let (at_server, at_client) = meet(ServerConfig::psk(Arc::clone(&PSK)), ClientConfig::psk(psk("client")));
    let unknown = AbortCode::UnknownPsk;
    let at_server = at_server.unwrap_err();
    assert!(
        matches!(at_server, Error::Protocol(ProtocolError::UnknownServerOrPsk(code)) if code == unknown),
        "{at_server:?}"
    );
    let at_client = at_client.unwrap_err();
    assert!(
        matches!(at_client, Error::Protocol(ProtocolError::Aborted(code)) if code == unknown),
        "{at_client:?}"
    );
}

#[test]
fn a_stream_that_is_cut_is_no_end_of_file() {
    let (at_server, at_client) =
        meet(ServerConfig::psk(Arc::clone(&PSK)), ClientConfig::psk(Arc::clone(&PSK)));
    let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
    at_client.write_all(b"half of").unwrap();
    at_client.flush().unwrap();
    drop(at_client);
    let mut arrived = Vec::new();
    let cut = at_server.read_to_end(&mut arrived).map_err(Error::from).unwrap_err();
    assert_eq!(arrived, b"half of");
    assert!(matches!(cut, Error::Protocol(ProtocolError::Truncated)), "{cut:?}");
}

#[test]
fn a_silent_peer_is_given_up() {
    let (_silent_client, socket) = UnixStream::pair().unwrap();
    let start = Instant::now();
    let server = thread::spawn(|| accept(socket, &ServerConfig::psk(Arc::clone(&PSK)), |_| Ok(())));
    let (_silent_server, socket) = UnixStream::pair().unwrap();
    let connected = connect(socket, ClientConfig::psk(Arc::clone(&PSK)));
    assert!(matches!(connected, Err(Error::TimedOut(_))), "{connected:?}");
    let accepted = server.join().unwrap();
    assert!(matches!(accepted, Err(Error::TimedOut(_))), "{accepted:?}");
    assert!(start.elapsed() >= HANDSHAKE_DEADLINE, "{:?}", start.elapsed());
}

#[tokio::test]
#[cfg(feature = "tokio")]
async fn a_client_that_opens_nothing_is_given_up() {
    use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};

    let limit = Duration::from_secs(1);
    let config = ServerConfig::psk(Arc::clone(&PSK)).idle_timeout(limit);
    let (here, there) = UnixStream::pair().unwrap();
    let start = Instant::now();
    let server = thread::spawn(move || accept(there, &config, |_| Ok(())));
    let idle = ClientConfig::new(ExpectedServer::Psk(Arc::clone(&PSK)));
    here.set_nonblocking(true).unwrap();
    let here = tokio::net::UnixStream::from_std(here).unwrap();
    let idle = wire_protocol::stream::connect_channel(here, idle).await.unwrap();
    let accepted = server.join().unwrap();
    assert!(matches!(accepted, Err(Error::TimedOut(_))), "{accepted:?}");
    assert!(start.elapsed() >= limit && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    drop(idle);
}

#[test]
fn two_threads_read_and_write_at_once() {
    let (at_server, at_client) =
        meet(ServerConfig::psk(Arc::clone(&PSK)), ClientConfig::psk(Arc::clone(&PSK)));
    let echo = thread::spawn(move || {
        let (mut reader, mut writer) = at_server?.into_split()?;
        std::io::copy(&mut reader, &mut writer)?;
        writer.shutdown()?;
        writer.close()?;
        reader.expect_close()
    });
    let (mut reader, mut writer) = at_client.unwrap().into_split().unwrap();
    // More than all buffers on the way hold, so that neither side can wait with the other direction.
    let sent: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown().unwrap();
        writer
    });
    let mut echoed = Vec::new();
    reader.read_to_end(&mut echoed).unwrap();
    assert!(echoed == expected, "{} bytes of {}", echoed.len(), expected.len());
    sender.join().unwrap().close().unwrap();
    reader.expect_close().unwrap();
    echo.join().unwrap().unwrap();
}

#[test]
fn a_half_that_waits_for_the_close_of_a_peer_that_is_gone_says_so() {
    let (at_server, at_client) =
        meet(ServerConfig::psk(Arc::clone(&PSK)), ClientConfig::psk(Arc::clone(&PSK)));
    let (mut reader, mut writer) = at_server.unwrap().into_split().unwrap();
    let mut at_client = at_client.unwrap();
    at_client.shutdown().unwrap();
    writer.shutdown().unwrap();
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(at_client.read_to_end(&mut Vec::new()).unwrap(), 0);
    drop(at_client);
    let gone = reader.expect_close().unwrap_err();
    assert!(matches!(gone, Error::Protocol(ProtocolError::Truncated)), "{gone:?}");
}

const PATIENCE: Duration = Duration::from_secs(30);
