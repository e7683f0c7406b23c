//! A server that enrols a client by an invite: one line, passed on by a person, that is good once.
//!
//!     cargo run -p sockseal --example invite

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sockseal::{
    ClientConfig, ClientIdentity, ClientKey, DeniedCode, Error, InviteLine, InviteSecret, InviteVerdict,
    InviteVerifier, JoinOutcome, Joined, KeyId, ServerConfig, ServerKey, SysRng, authenticate,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = ServerKey::generate(&mut SysRng, 2048)?;
    let id = key.public().id();
    let mut server = Server { config: ServerConfig::rsa(key).require_client(), invite: None, enrolled: None };

    // The server keeps what it needs to know the invite again, which does not suffice to use it.
    let secret = InviteSecret::generate(&mut SysRng)?;
    server.invite = Some(secret.verifier(id));
    let tomorrow = SystemTime::UNIX_EPOCH.elapsed()? + Duration::from_hours(24);
    let line = InviteLine::new(id, secret, tomorrow, vec!["gate.example.org:7117".into()])?.to_text()?;
    println!("a line of {} characters", line.len());

    // A mail program has been at it.
    let pasted = format!("> {}\n> {}", &line[..76], &line[76..]);
    let key = Arc::new(ClientKey::generate(&mut SysRng, 2048)?);
    let invited = ClientConfig::invited(InviteLine::parse(&pasted)?, Arc::clone(&key));
    println!("joined: {}", server.meet(invited).await?);
    println!("back again: {}", server.meet(ClientConfig::pinned(id).identity(key)).await?);

    let other = ClientKey::generate(&mut SysRng, 2048)?;
    let second = ClientConfig::invited(InviteLine::parse(&line)?, other);
    println!("a second key: {}", server.meet(second).await.expect_err("the invite is used"));
    Ok(())
}

struct Server {
    config: ServerConfig,
    invite: Option<InviteVerifier>,
    enrolled: Option<KeyId>,
}

impl Server {
    /// Serves one client, and gives what that hears.
    async fn meet(&mut self, client: ClientConfig) -> Result<String, Error> {
        let (here, there) = tokio::io::duplex(16 * 1024);
        let visit = async {
            let mut stream = sockseal::connect(here, client).await?;
            stream.shutdown().await?;
            let mut greeting = String::new();
            stream.read_to_string(&mut greeting).await?;
            stream.close().await?;
            Ok(greeting)
        };
        // What the server gives up with, the client is told.
        let (_, heard) = tokio::join!(self.serve(there), visit);
        heard
    }

    async fn serve(&mut self, socket: DuplexStream) -> Result<(), Error> {
        let client = authenticate(socket, &self.config).await?;
        let is_known = matches!(client.client(), ClientIdentity::Key(key) if Some(*key) == self.enrolled);
        let mut stream = match client.invite() {
            None if is_known => client.accept().await?,
            Some(attempt)
                if !is_known && attempt.check(self.invite.as_ref(), &mut SysRng)? == InviteVerdict::Right =>
            {
                // Both durably, in this order, where there is a disk: never two keys by one invite.
                self.invite = None;
                self.enrolled = Some(attempt.client());
                let (name, grant) = ("guest".to_owned(), "to be greeted".to_owned());
                client.join(Joined { outcome: JoinOutcome::Enrolled, name, grant }).await?
            }
            _ => return Err(client.deny(DeniedCode::NotAllowed).await),
        };
        stream.write_all(b"welcome").await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        stream.close().await
    }
}
