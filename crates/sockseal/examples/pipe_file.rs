//! A file from one side to the other: when both have closed, it has arrived whole.
//!
//!     cargo run -p sockseal --example pipe_file

use sockseal::{ClientConfig, Error, ServerConfig, ServerKey, SysRng};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let content: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    fs::write(&source, &content).await?;

    let key = ServerKey::generate(&mut SysRng, 2048)?;
    let id = key.public().id();
    let config = ServerConfig::rsa(key);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;

    let receive = async {
        let (socket, _) = listener.accept().await?;
        let mut stream = sockseal::accept(socket, &config, |_client| Ok(())).await?;
        let mut file = File::create(&target).await?;
        copy(&mut stream, &mut file).await?;
        // The Close says that what was received is safe, so that it comes behind this.
        file.sync_all().await?;
        stream.shutdown().await?;
        stream.close().await
    };
    let send = async {
        let socket = TcpStream::connect(address).await?;
        let mut stream = sockseal::connect(socket, ClientConfig::pinned(id)).await?;
        let sent = copy(&mut File::open(&source).await?, &mut stream).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        stream.close().await?;
        println!("sent {sent} bytes, and all of them have arrived");
        Ok(())
    };
    tokio::try_join!(receive, send)?;

    assert!(fs::read(&target).await? == content, "the file has arrived as it was");
    Ok(())
}
