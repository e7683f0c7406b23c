//! An echo server and its client in one process: memory is a transport too, as in tests.
//!
//!     cargo run -p sockseal --example echo_memory

use std::sync::Arc;

use sockseal::{ClientConfig, Error, KeyId, PreSharedKey, ServerConfig, SysRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let server_id = KeyId::random(&mut SysRng)?;
    let key = Arc::new(PreSharedKey::generate(&mut SysRng, "example", server_id)?);
    let (here, there) = tokio::io::duplex(16 * 1024);

    let server = async {
        let config = ServerConfig::psk(Arc::clone(&key));
        let mut stream = sockseal::accept(there, &config, |_client| Ok(())).await?;
        let mut message = Vec::new();
        stream.read_to_end(&mut message).await?;
        stream.write_all(&message).await?;
        stream.shutdown().await?;
        stream.close().await
    };

    let client = async {
        let mut stream = sockseal::connect(here, ClientConfig::psk(Arc::clone(&key))).await?;
        stream.write_all(b"Hello, World!").await?;
        stream.shutdown().await?;
        let mut echoed = String::new();
        stream.read_to_string(&mut echoed).await?;
        stream.close().await?;
        println!("echoed: {echoed}");
        assert_eq!(echoed, "Hello, World!");
        Ok(())
    };

    tokio::try_join!(server, client)?;
    Ok(())
}
