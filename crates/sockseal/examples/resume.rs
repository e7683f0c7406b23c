//! A second connection that resumes the first one with a ticket: the client is known again, and neither side does RSA.
//!
//!     cargo run -p sockseal --example resume

use sockseal::{ClientConfig, Error, Mode, ResumptionTicket, ServerConfig, ServerKey, SysRng, TicketKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let key = ServerKey::generate(&mut SysRng, 2048)?;
    let id = key.public().id();
    let server = ServerConfig::rsa(key).tickets(TicketKey::generate(&mut SysRng)?);

    let (mode, ticket) = visit(&server, ClientConfig::pinned(id)).await?;
    println!("first: {mode}");
    assert_eq!(mode, Mode::Rsa);

    // A ticket is good for one connection, which brings the next.
    let ticket = ticket.expect("the server gives tickets");
    let (mode, ticket) = visit(&server, ClientConfig::pinned(id).ticket(ticket)).await?;
    println!("second: {mode}");
    assert_eq!(mode, Mode::Resumption);
    assert!(ticket.is_some());
    Ok(())
}

/// One connection, from its handshake to its end.
async fn visit(
    server: &ServerConfig,
    config: ClientConfig,
) -> Result<(Mode, Option<ResumptionTicket>), Error> {
    let (here, there) = tokio::io::duplex(16 * 1024);
    let serve = async {
        let mut stream = sockseal::accept(there, server, |_client| Ok(())).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        stream.close().await
    };
    let visit = async {
        let mut stream = sockseal::connect(here, config).await?;
        let (mode, ticket) = (stream.mode(), stream.take_ticket());
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        stream.close().await?;
        Ok((mode, ticket))
    };
    let ((), visited) = tokio::try_join!(serve, visit)?;
    Ok(visited)
}
