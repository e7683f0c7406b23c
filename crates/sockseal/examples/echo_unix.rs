//! An echo server and its client over a unix socket.
//!
//!     cargo run -p sockseal --example echo_unix

use sockseal::{ClientConfig, Error, KeyId, PreSharedKey, ServerConfig, SysRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let server_id = KeyId::random(&mut SysRng)?;
    let key = PreSharedKey::generate(&mut SysRng, "example", server_id)?.to_text();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("echo.sock");
    let listener = UnixListener::bind(&path)?;

    let server = async {
        let config = ServerConfig::psk(PreSharedKey::from_text(&key)?);
        let (socket, _) = listener.accept().await?;
        let mut stream = sockseal::accept(socket, &config, |_client| Ok(())).await?;
        let mut message = Vec::new();
        stream.read_to_end(&mut message).await?;
        stream.write_all(&message).await?;
        stream.shutdown().await?;
        stream.close().await
    };

    let client = async {
        let config = ClientConfig::psk(PreSharedKey::from_text(&key)?);
        let mut stream = sockseal::connect(UnixStream::connect(&path).await?, config).await?;
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
