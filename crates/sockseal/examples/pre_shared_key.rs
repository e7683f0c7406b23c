//! One key that both sides have, and no RSA: the server tells its clients apart by the names of their keys.
//!
//!     cargo run -p sockseal --example pre_shared_key

use sockseal::{
    ClientConfig, ClientIdentity, DeniedCode, Error, KeyId, Mode, PreSharedKey, ServerConfig, SysRng,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // The server has chosen 32 bytes that it is known by, and makes a key for each client. The text goes to the client
    // by a way that nobody else can read.
    let server_id = KeyId::random(&mut SysRng)?;
    let laptop = PreSharedKey::generate(&mut SysRng, "laptop", server_id)?;
    let phone = PreSharedKey::generate(&mut SysRng, "phone", server_id)?;
    let text = laptop.to_text();

    let (here, there) = tokio::io::duplex(16 * 1024);
    let server = async {
        let config = ServerConfig::psk(laptop).add_psk(phone);
        let mut stream = sockseal::accept(there, &config, |client| match client {
            ClientIdentity::Psk(name) if name == "laptop" => Ok(()),
            _ => Err(DeniedCode::NotAllowed),
        })
        .await?;
        stream.write_all(b"good morning, laptop").await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        stream.close().await
    };
    let client = async {
        let config = ClientConfig::psk(PreSharedKey::from_text(&text)?);
        let mut stream = sockseal::connect(here, config).await?;
        assert_eq!(stream.mode(), Mode::Psk);
        stream.shutdown().await?;
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await?;
        stream.close().await?;
        println!("{greeting}");
        assert_eq!(greeting, "good morning, laptop");
        Ok(())
    };
    tokio::try_join!(server, client)?;
    Ok(())
}
