//! A server and a client that know each other's keys, and what becomes of anybody else.
//!
//!     cargo run -p sockseal --example pinned_client

use std::sync::Arc;

use sockseal::reason::ProtocolError;
use sockseal::{
    ClientConfig, ClientIdentity, ClientKey, DeniedCode, Error, KeyId, ServerConfig, ServerKey, SysRng, pem,
};
use tokio::io::DuplexStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // Each side keeps its own key in a file, and has a fingerprint of the other's in its settings.
    let server_key = ServerKey::generate(&mut SysRng, 2048)?;
    let server_file = pem::write_server_key(&mut SysRng, &server_key, Some(b"a passphrase"))?;
    let server_id = server_key.public().id().to_string();
    let client_key = Arc::new(ClientKey::generate(&mut SysRng, 2048)?);
    let client_id = client_key.public().id();
    println!("the server has {server_id}\nthe client has {client_id}");

    let server_key = pem::read_server_key(&mut SysRng, &server_file, Some(b"a passphrase"))?;
    let server = ServerConfig::rsa(server_key).require_client();
    let pinned: KeyId = server_id.parse()?;

    // The two know each other.
    let config = ClientConfig::pinned(pinned).identity(Arc::clone(&client_key));
    let (accepted, connected) = meet(&server, config, client_id).await;
    let stream = connected?;
    println!("they meet: {:?}", stream.peer());
    drop((accepted?, stream));

    // A server with another key, as somebody in between would have, does not learn who the client is.
    let impostor = ServerConfig::rsa(ServerKey::generate(&mut SysRng, 2048)?);
    let config = ClientConfig::pinned(pinned).identity(client_key);
    let (_, connected) = meet(&impostor, config, client_id).await;
    let refusal = connected.expect_err("the server has another key");
    println!("another server: {refusal}");
    assert!(matches!(refusal, Error::Protocol(ProtocolError::ServerKeyMismatch { .. })));

    // A stranger is not let in.
    let stranger = ClientKey::generate(&mut SysRng, 2048)?;
    let config = ClientConfig::pinned(pinned).identity(stranger);
    let (_, connected) = meet(&server, config, client_id).await;
    let refusal = connected.expect_err("the client has another key");
    println!("another client: {refusal}");
    assert!(matches!(refusal, Error::Protocol(ProtocolError::Denied(DeniedCode::NotAllowed))));
    Ok(())
}

type Met = Result<sockseal::SecureStream<DuplexStream>, Error>;

/// What comes of a client with `config` at a server that lets in `known` alone.
async fn meet(server: &ServerConfig, config: ClientConfig, known: KeyId) -> (Met, Met) {
    let (here, there) = tokio::io::duplex(16 * 1024);
    let authorize = |client: &ClientIdentity| match client {
        ClientIdentity::Key(id) if *id == known => Ok(()),
        _ => Err(DeniedCode::NotAllowed),
    };
    tokio::join!(sockseal::accept(there, server, authorize), sockseal::connect(here, config))
}
