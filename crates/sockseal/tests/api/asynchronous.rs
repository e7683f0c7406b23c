//! The stream over tokio.

use std::sync::Arc;
use std::time::Duration;

use sockseal::reason::{AbortCode, ProtocolError};
use sockseal::{
    ClientConfig, ClientIdentity, DeniedCode, Error, HANDSHAKE_DEADLINE, KeyId, Mode, Peer, SecureStream,
    ServerConfig, accept, connect,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::Instant;

use super::keys::{CLIENT, PSK, SERVER, psk};

type Met = Result<SecureStream<DuplexStream>, Error>;

/// What comes of the two at the server and at the client.
async fn meet(server: &ServerConfig, client: ClientConfig) -> (Met, Met) {
    let (here, there) = duplex(1 << 16);
    tokio::join!(accept(there, server, |_| Ok(())), connect(here, client))
}

fn server() -> ServerConfig {
    ServerConfig::rsa(Arc::clone(&SERVER))
}

fn pinned() -> ClientConfig {
    ClientConfig::pinned(SERVER.public().id())
}

#[track_caller]
fn check_protocol<T: std::fmt::Debug>(met: Result<T, Error>, expected: ProtocolError) {
    match met {
        Err(Error::Protocol(found)) => assert_eq!(found, expected),
        other => panic!("{expected:?} expected, not {other:?}"),
    }
}

#[tokio::test]
async fn both_know_each_other_and_close_in_good_order() {
    let config = server().require_client();
    let (at_server, at_client) = meet(&config, pinned().identity(Arc::clone(&CLIENT))).await;
    let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
    assert_eq!(at_client.peer(), &Peer::Server(Some(SERVER.public().clone())));
    assert_eq!(at_server.peer(), &Peer::Client(ClientIdentity::Key(CLIENT.public().id())));
    assert_eq!((at_server.mode(), at_client.mode()), (Mode::Rsa, Mode::Rsa));
    assert!(at_client.take_ticket().is_none(), "no ticket key was given");

    at_client.write_all(b"there").await.unwrap();
    at_client.shutdown().await.unwrap();
    at_server.write_all(b"back").await.unwrap();
    at_server.shutdown().await.unwrap();
    let (mut there, mut back) = (String::new(), String::new());
    at_server.read_to_string(&mut there).await.unwrap();
    at_client.read_to_string(&mut back).await.unwrap();
    assert_eq!((there.as_str(), back.as_str()), ("there", "back"));
    let (server_closed, client_closed) = tokio::join!(at_server.close(), at_client.close());
    server_closed.unwrap();
    client_closed.unwrap();
}

#[tokio::test]
async fn a_server_with_another_key_is_not_the_one_that_is_pinned() {
    let expected = KeyId([1; 32]);
    let (_, at_client) = meet(&server(), ClientConfig::pinned(expected)).await;
    check_protocol(at_client, ProtocolError::ServerKeyMismatch { expected, offered: SERVER.public().id() });
}

#[tokio::test]
async fn a_key_that_is_known_already_has_to_be_the_pinned_one() {
    let key = SERVER.public().clone();
    let (_, at_client) = meet(&server(), pinned().server_key(key.clone())).await;
    at_client.unwrap();
    let expected = KeyId([1; 32]);
    let (_, at_client) = meet(&server(), ClientConfig::pinned(expected).server_key(key)).await;
    check_protocol(at_client, ProtocolError::ServerKeyMismatch { expected, offered: SERVER.public().id() });
}

#[tokio::test]
async fn nobody_comes_in_anonymously_where_clients_have_to_say_who_they_are() {
    let (at_server, at_client) = meet(&server().require_client(), pinned()).await;
    check_protocol(at_server, ProtocolError::Denied(DeniedCode::ClientKeyRequired));
    check_protocol(at_client, ProtocolError::Denied(DeniedCode::ClientKeyRequired));
}

#[tokio::test]
async fn the_function_that_is_given_decides_who_comes_in() {
    let (here, there) = duplex(1 << 16);
    let config = server();
    let (at_server, at_client) = tokio::join!(
        accept(there, &config, |client| {
            assert_eq!(client, &ClientIdentity::Anonymous);
            Err(DeniedCode::NotAllowed)
        }),
        connect(here, pinned())
    );
    check_protocol(at_server, ProtocolError::Denied(DeniedCode::NotAllowed));
    check_protocol(at_client, ProtocolError::Denied(DeniedCode::NotAllowed));
}

#[tokio::test]
async fn a_pre_shared_key_says_who_the_client_is() {
    let config = ServerConfig::psk(psk("another")).add_psk(Arc::clone(&PSK));
    let (at_server, at_client) = meet(&config, ClientConfig::psk(Arc::clone(&PSK))).await;
    let identity = ClientIdentity::Psk("client".to_owned());
    assert_eq!(identity.to_string(), "psk:client");
    assert_eq!(at_server.unwrap().peer(), &Peer::Client(identity));
    assert_eq!(at_client.unwrap().mode(), Mode::Psk);
}

#[tokio::test]
async fn another_secret_or_another_name_opens_nothing() {
    let config = ServerConfig::psk(Arc::clone(&PSK));
    for wrong in [psk("client"), psk("another")] {
        let (at_server, at_client) = meet(&config, ClientConfig::psk(wrong)).await;
        check_protocol(at_server, ProtocolError::UnknownServerOrPsk(AbortCode::UnknownPsk));
        check_protocol(at_client, ProtocolError::Aborted(AbortCode::UnknownPsk));
    }
}

#[tokio::test]
async fn what_contradicts_itself_connects_to_nobody() {
    let of_psk = || ClientConfig::psk(Arc::clone(&PSK));
    let known = SERVER.public().clone();
    let config = ServerConfig::rsa(Arc::clone(&SERVER)).tickets(ticket_key());
    let (_, at_client) = meet(&config, pinned()).await;
    let ticket = at_client.unwrap().take_ticket().unwrap();
    for config in
        [of_psk().identity(Arc::clone(&CLIENT)), of_psk().server_key(known), of_psk().ticket(ticket)]
    {
        let (here, mut there) = duplex(1 << 16);
        let refused = connect(here, config).await;
        assert!(matches!(refused, Err(Error::Protocol(ProtocolError::ApiMisuse(_)))), "{refused:?}");
        assert_eq!(there.read(&mut [0]).await.unwrap(), 0, "something was sent");
    }
}

#[tokio::test]
async fn a_ticket_resumes_once_and_brings_the_next() {
    let config = server().tickets(ticket_key());
    let (_, at_client) = meet(&config, pinned().identity(Arc::clone(&CLIENT))).await;
    let mut at_client = at_client.unwrap();
    let ticket = at_client.take_ticket().unwrap();
    assert!(at_client.take_ticket().is_none());
    let (at_server, at_client) = meet(&config, pinned().ticket(ticket)).await;
    let expected = ClientIdentity::Key(CLIENT.public().id());
    assert_eq!(expected.to_string(), CLIENT.public().id().to_string());
    assert_eq!(at_server.unwrap().peer(), &Peer::Client(expected));
    let mut at_client = at_client.unwrap();
    assert_eq!(at_client.mode(), Mode::Resumption);
    assert!(at_client.take_ticket().is_some());
}

fn ticket_key() -> sockseal::TicketKey {
    sockseal::TicketKey::generate(&mut sockseal::SysRng).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let start = Instant::now();
    let (here, _there) = duplex(1 << 16);
    let accepted = accept(here, &server(), |_| Ok(())).await;
    assert!(matches!(accepted, Err(Error::TimedOut(_))), "{accepted:?}");
    assert!(start.elapsed() >= HANDSHAKE_DEADLINE && start.elapsed() < HANDSHAKE_DEADLINE * 2);

    let start = Instant::now();
    let (here, _there) = duplex(1 << 16);
    let connected = connect(here, pinned()).await;
    assert!(matches!(connected, Err(Error::TimedOut(_))), "{connected:?}");
    assert!(start.elapsed() >= HANDSHAKE_DEADLINE && start.elapsed() < HANDSHAKE_DEADLINE * 2);
}

/// Each byte that arrives is a sign of life, and gives no more time for the handshake.
#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_a_byte_a_second_is_given_up() {
    let start = Instant::now();
    let (mut here, there) = duplex(1 << 16);
    let drip = async {
        // The beginning of a hello that would go on for more than a thousand bytes.
        for byte in *b"SKS\x01\x03\0\x07" {
            here.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        while here.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let config = server();
    let (accepted, ()) = tokio::join!(accept(there, &config, |_| Ok(())), drip);
    assert!(matches!(accepted, Err(Error::TimedOut(_))), "{accepted:?}");
    assert!(start.elapsed() < HANDSHAKE_DEADLINE * 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_nothing_is_given_up() {
    use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};

    let (usual, chosen) = (Duration::from_secs(60), Duration::from_secs(20));
    let config = ServerConfig::psk(Arc::clone(&PSK));
    for (config, limit) in [(config.clone(), usual), (config.idle_timeout(chosen), chosen)] {
        let (here, there) = duplex(1 << 16);
        let idle = ClientConfig::new(ExpectedServer::Psk(Arc::clone(&PSK)));
        let start = Instant::now();
        let (accepted, idle) = tokio::join!(
            accept(there, &config, |_| Ok(())),
            wire_protocol::stream::connect_channel(here, idle)
        );
        assert!(matches!(accepted, Err(Error::TimedOut(_))), "{accepted:?}");
        assert!(start.elapsed() >= limit && start.elapsed() < limit * 2, "{:?}", start.elapsed());
        drop(idle.unwrap());
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_no_end_of_file() {
    let config = ServerConfig::psk(Arc::clone(&PSK));
    let (at_server, at_client) = meet(&config, ClientConfig::psk(Arc::clone(&PSK))).await;
    let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
    at_client.write_all(b"half of").await.unwrap();
    at_client.flush().await.unwrap();
    drop(at_client);
    let mut arrived = Vec::new();
    let cut = at_server.read_to_end(&mut arrived).await.map_err(Error::from);
    assert_eq!(arrived, b"half of");
    check_protocol(cut, ProtocolError::Truncated);
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_handshake_is_disconnected() {
    let (here, there) = duplex(1 << 16);
    drop(there);
    let connected = connect(here, pinned()).await;
    assert!(matches!(connected, Err(Error::Disconnected(_))), "{connected:?}");
    let (here, there) = duplex(1 << 16);
    drop(there);
    let accepted = accept(here, &server(), |_| Ok(())).await;
    assert!(matches!(accepted, Err(Error::Disconnected(_))), "{accepted:?}");
}

#[tokio::test]
async fn two_tasks_read_and_write_at_once() {
    let config = ServerConfig::psk(Arc::clone(&PSK));
    let (at_server, at_client) = meet(&config, ClientConfig::psk(Arc::clone(&PSK))).await;
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(at_server?);
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await?;
        reader.unsplit(writer).close().await
    });
    let (mut reader, mut writer) = tokio::io::split(at_client.unwrap());
    // More than all buffers on the way hold, so that neither side can wait with the other direction.
    let sent: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    let expected = sent.clone();
    let sender = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut echoed = Vec::new();
    reader.read_to_end(&mut echoed).await.unwrap();
    assert!(echoed == expected, "{} bytes of {}", echoed.len(), expected.len());
    reader.unsplit(sender.await.unwrap()).close().await.unwrap();
    echo.await.unwrap().unwrap();
}
