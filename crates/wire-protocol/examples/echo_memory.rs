//! An echo server and its client over an in-memory duplex: any `AsyncRead + AsyncWrite` will do.
//!
//!     cargo run -p wire-protocol --features tokio --example echo_memory

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::ServerLimits;
use wire_protocol::stream;

#[tokio::main]
async fn main() -> io::Result<()> {
    let key = PreSharedKey::generate(&mut SysRng, "example", KeyId([1; 32])).map_err(io::Error::other)?;
    let key = Arc::new(key);
    let (server_end, client_end) = tokio::io::duplex(16 * 1024);

    let config = Arc::new(ServerConfig {
        identity: None,
        psks: BTreeMap::from([(key.id().to_owned(), Arc::clone(&key))]),
        tickets: None,
        client_auth: ClientAuth::Required,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let server = tokio::spawn(async move {
        let mut stream = stream::accept(server_end, config, |_client| Ok(())).await?;
        let mut message = String::new();
        stream.read_to_string(&mut message).await?;
        stream.write_all(message.as_bytes()).await?;
        stream.shutdown().await
    });

    let config = ClientConfig::new(ExpectedServer::Psk(key));
    let mut stream = stream::connect(client_end, config).await?;
    stream.write_all(b"Hello, World!").await?;
    stream.shutdown().await?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await?;
    println!("echoed: {echoed}");
    server.await.map_err(io::Error::other)?
}
