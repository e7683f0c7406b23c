//! An echo server and its client over TCP on loopback.
//!
//!     cargo run -p wire-protocol --features tokio --example echo_tcp

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crypto_core::identity::ServerKey;
use getrandom::SysRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::ServerLimits;
use wire_protocol::stream;

#[tokio::main]
async fn main() -> io::Result<()> {
    let key = Arc::new(ServerKey::generate(&mut SysRng, 3072).map_err(io::Error::other)?);
    let id = key.public().id();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("listening on {address}, key {id}");

    let config = Arc::new(ServerConfig {
        identity: Some(key),
        psks: BTreeMap::new(),
        tickets: None,
        client_auth: ClientAuth::Optional,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await?;
        // Anyone may come in here; a real server looks at the client's identity.
        let stream = stream::accept(socket, config, |_client| Ok(())).await?;
        let (mut reader, mut writer) = stream.into_split();
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    });

    let socket = TcpStream::connect(address).await?;
    let server_expected = ExpectedServer::Key { id, key: None, ticket: None };
    let config = ClientConfig::new(server_expected);
    let mut stream = stream::connect(socket, config).await?;
    stream.write_all(b"Hello, World!").await?;
    stream.shutdown().await?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await?;
    println!("echoed: {echoed}");
    server.await.map_err(io::Error::other)?
}
