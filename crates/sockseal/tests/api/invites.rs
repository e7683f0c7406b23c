//! Clients that join with an invite, over both kinds of stream.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sockseal::reason::ProtocolError;
use sockseal::{
    ClientConfig, ClientIdentity, DeniedCode, Error, InviteLine, InviteSecret, InviteVerdict, JoinOutcome,
    Joined, Secret, ServerConfig, authenticate, blocking, connect,
};
use tokio::io::duplex;

use super::keys::{CLIENT, SERVER};

fn line() -> InviteLine {
    let (server, secret) = (SERVER.public().id(), InviteSecret::new(Secret::new([7; 32])));
    InviteLine::new(server, secret, Duration::from_secs(1), vec!["gate:1".into()]).unwrap()
}

fn invited() -> ClientConfig {
    let text = line().to_text().unwrap();
    ClientConfig::invited(InviteLine::parse(&text).unwrap(), Arc::clone(&CLIENT))
}

fn server() -> ServerConfig {
    ServerConfig::rsa(Arc::clone(&SERVER))
}

fn joined() -> Joined {
    Joined { outcome: JoinOutcome::Enrolled, name: "guest".into(), grant: "to be greeted".into() }
}

#[track_caller]
fn check_protocol<T>(result: Result<T, Error>, expected: ProtocolError) {
    match result {
        Err(Error::Protocol(error)) => assert_eq!(error, expected),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it went well"),
    }
}

#[tokio::test]
async fn a_client_joins_and_is_told_what_has_come_of_it() {
    let (here, there) = duplex(1 << 16);
    let config = server();
    let serve = async {
        let client = authenticate(there, &config).await?;
        let attempt = client.invite().expect("it has an invite");
        assert_eq!(client.client(), &ClientIdentity::Key(attempt.client()));
        assert_eq!(attempt.id(), line().id());
        let kept = line().secret().verifier(SERVER.public().id());
        assert_eq!(attempt.check(Some(&kept), &mut sockseal::SysRng)?, InviteVerdict::Right);
        client.join(joined()).await
    };
    let (at_server, at_client) = tokio::join!(serve, connect(here, invited()));
    assert_eq!(at_server.unwrap().joined(), None);
    assert_eq!(at_client.unwrap().joined(), Some(&joined()));
}

#[tokio::test]
async fn a_client_is_answered_in_kind() {
    let config = server();
    let (here, there) = duplex(1 << 16);
    let deny = async { authenticate(there, &config).await.unwrap().deny(DeniedCode::NotAllowed).await };
    let (at_server, at_client) = tokio::join!(deny, connect(here, invited()));
    check_protocol(Err::<(), _>(at_server), ProtocolError::Denied(DeniedCode::NotAllowed));
    check_protocol(at_client, ProtocolError::Denied(DeniedCode::NotAllowed));

    let (here, there) = duplex(1 << 16);
    let welcome = async { authenticate(there, &config).await.unwrap().accept().await };
    let (at_server, at_client) = tokio::join!(welcome, connect(here, invited()));
    assert!(matches!(at_server, Err(Error::Protocol(ProtocolError::ApiMisuse(_)))));
    check_protocol(at_client, ProtocolError::InviteUnanswered);

    let (here, there) = duplex(1 << 16);
    let without = ClientConfig::pinned(SERVER.public().id()).identity(Arc::clone(&CLIENT));
    let serve = async { authenticate(there, &config).await.unwrap().accept().await };
    let (at_server, at_client) = tokio::join!(serve, connect(here, without));
    at_server.unwrap();
    assert_eq!(at_client.unwrap().joined(), None);

    // A server that asks for no invites takes none.
    let (here, there) = duplex(1 << 16);
    let accept = sockseal::accept(there, &config, |_| panic!("nobody is asked"));
    let (_, at_client) = tokio::join!(accept, connect(here, invited()));
    check_protocol(at_client, ProtocolError::Denied(DeniedCode::NotAllowed));
}

#[test]
fn a_client_joins_over_a_socket_that_blocks() {
    for is_denied in [false, true] {
        let (here, there) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || {
            let client = blocking::authenticate(there, &server()).unwrap();
            assert!(client.invite().is_some());
            if is_denied { Err(client.deny(DeniedCode::NotAllowed)) } else { client.join(joined()) }
        });
        let at_client = blocking::connect(here, invited());
        let at_server = serving.join().unwrap();
        if is_denied {
            check_protocol(at_client, ProtocolError::Denied(DeniedCode::NotAllowed));
            check_protocol(at_server, ProtocolError::Denied(DeniedCode::NotAllowed));
        } else {
            assert_eq!(at_client.unwrap().joined(), Some(&joined()));
            assert_eq!(at_server.unwrap().joined(), None);
        }
    }
}
