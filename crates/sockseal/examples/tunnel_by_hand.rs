//! A tunnel for TCP connections of other programs, with their half-closes: one end listens beside the application, the other
//! end connects to the target, and a sealed stream is between them.
//!
//!     cargo run -p sockseal --example tunnel_by_hand

use std::net::SocketAddr;

use sockseal::{ClientConfig, DEFAULT_BITS, Error, KeyId, ServerConfig, ServerKey, SysRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let key = ServerKey::generate(&mut SysRng, DEFAULT_BITS)?;
    let id = key.public().id();
    let config = ServerConfig::rsa(key);
    let (target, far) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let near = TcpListener::bind("127.0.0.1:0").await?;
    let (target_address, far_address) = (target.local_addr()?, far.local_addr()?);
    let near_address = near.local_addr()?;

    let ((), (), (), answer) = tokio::try_join!(
        shout(target),
        far_end(far, &config, target_address),
        near_end(near, far_address, id),
        talk(near_address),
    )?;
    println!("answered: {answer}");
    assert_eq!(answer, "HELLO, WORLD!");
    Ok(())
}

/// The end beside the application.
async fn near_end(listener: TcpListener, far: SocketAddr, server: KeyId) -> Result<(), Error> {
    let (mut local, _) = listener.accept().await?;
    let config = ClientConfig::pinned(server);
    let mut sealed = sockseal::connect(TcpStream::connect(far).await?, config).await?;
    // An end of one direction is handed on as such, and the other direction goes on.
    let (sent, received) = copy_bidirectional(&mut local, &mut sealed).await?;
    println!("near end: {sent} bytes there, {received} bytes back");
    sealed.close().await
}

/// The end that reaches the target.
async fn far_end(listener: TcpListener, config: &ServerConfig, target: SocketAddr) -> Result<(), Error> {
    let (socket, _) = listener.accept().await?;
    // A real one lets in the clients alone that may reach the target.
    let mut sealed = sockseal::accept(socket, config, |_client| Ok(())).await?;
    let mut local = TcpStream::connect(target).await?;
    copy_bidirectional(&mut sealed, &mut local).await?;
    sealed.close().await
}

/// The target: answers once it has all of the question.
async fn shout(listener: TcpListener) -> Result<(), Error> {
    let (mut socket, _) = listener.accept().await?;
    let mut question = String::new();
    socket.read_to_string(&mut question).await?;
    socket.write_all(question.to_uppercase().as_bytes()).await?;
    Ok(socket.shutdown().await?)
}

/// The application: knows nothing of the tunnel.
async fn talk(server: SocketAddr) -> Result<String, Error> {
    let mut socket = TcpStream::connect(server).await?;
    socket.write_all(b"Hello, World!").await?;
    socket.shutdown().await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}
