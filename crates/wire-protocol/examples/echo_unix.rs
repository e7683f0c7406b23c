//! An echo server and its client over a unix socket, with threads and a pre-shared key.
//!
//!     cargo run -p wire-protocol --features std-io --example echo_unix

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::ServerLimits;
use wire_protocol::stream::blocking;

fn main() -> io::Result<()> {
    let key = PreSharedKey::generate(&mut SysRng, "example", KeyId([1; 32])).map_err(io::Error::other)?;
    let key = Arc::new(key);
    let (server_socket, client_socket) = UnixStream::pair()?;

    let config = Arc::new(ServerConfig {
        identity: None,
        psks: BTreeMap::from([(key.id().to_owned(), Arc::clone(&key))]),
        tickets: None,
        client_auth: ClientAuth::Required,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let server = thread::spawn(move || {
        let stream = blocking::accept(server_socket, config, |_client| Ok(()))?;
        let (mut reader, mut writer) = stream.into_split()?;
        io::copy(&mut reader, &mut writer)?;
        writer.shutdown()
    });

    let config = ClientConfig::new(ExpectedServer::Psk(key));
    let mut stream = blocking::connect(client_socket, config)?;
    stream.write_all(b"Hello, World!")?;
    stream.shutdown()?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed)?;
    println!("echoed: {echoed}");
    server.join().map_err(|_| io::Error::other("the server panicked"))?
}
