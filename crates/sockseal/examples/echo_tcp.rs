//! An echo server and its client over TCP on loopback.
//!
//!     cargo run -p sockseal --example echo_tcp

use sockseal::{ClientConfig, DEFAULT_BITS, Error, ServerConfig, ServerKey, SysRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let key = ServerKey::generate(&mut SysRng, DEFAULT_BITS)?;
    let id = key.public().id();
    let config = ServerConfig::rsa(key);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("listening on {address}, key {id}");

    let server = async {
        let (socket, _) = listener.accept().await?;
        // Anyone may come in here; a real server looks at who the client is.
        let mut stream = sockseal::accept(socket, &config, |_client| Ok(())).await?;
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await? {
                0 => break,
                len => stream.write_all(&piece[..len]).await?,
            }
            stream.flush().await?;
        }
        stream.shutdown().await?;
        stream.close().await
    };

    let client = async {
        let socket = TcpStream::connect(address).await?;
        let mut stream = sockseal::connect(socket, ClientConfig::pinned(id)).await?;
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
