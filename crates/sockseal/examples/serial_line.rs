//! A line that has no addresses and no end of file, such as a serial one: two pipes stand for it.
//!
//! A real one has to be raw (eight bits, no flow control by characters, no echo). A handshake has ten seconds for some three
//! thousand bytes, five thousand with RSA, which takes a line of 9600 baud half of that time.
//!
//!     cargo run -p sockseal --example serial_line

use sockseal::{ClientConfig, Error, KeyId, PreSharedKey, ServerConfig, SysRng};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let server_id = KeyId::random(&mut SysRng)?;
    let key = PreSharedKey::generate(&mut SysRng, "meter", server_id)?.to_text();
    let (to_meter, from_station) = pipe::pipe()?;
    let (to_station, from_meter) = pipe::pipe()?;

    let meter = async {
        let mut line = tokio::io::join(from_station, to_station);
        let config = ServerConfig::psk(PreSharedKey::from_text(&key)?);
        let mut stream = BufReader::new(sockseal::accept(&mut line, &config, |_client| Ok(())).await?);
        let mut question = String::new();
        while stream.read_line(&mut question).await? > 0 {
            let answer = format!("{} = 21.5\n", question.trim_end());
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            question.clear();
        }
        stream.shutdown().await?;
        // All has been read, so that nothing is lost in the buffer. The line stays open for the next one.
        stream.into_inner().close().await
    };
    let station = async {
        let mut line = tokio::io::join(from_meter, to_meter);
        let config = ClientConfig::psk(PreSharedKey::from_text(&key)?);
        let mut stream = BufReader::new(sockseal::connect(&mut line, config).await?);
        let mut answers = String::new();
        for question in ["inside\n", "outside\n"] {
            stream.write_all(question.as_bytes()).await?;
            stream.flush().await?;
            stream.read_line(&mut answers).await?;
        }
        stream.shutdown().await?;
        assert_eq!(stream.read(&mut [0]).await?, 0, "the end of the stream, on a line that has none");
        stream.into_inner().close().await?;
        print!("{answers}");
        assert_eq!(answers, "inside = 21.5\noutside = 21.5\n");
        Ok(())
    };
    tokio::try_join!(meter, station)?;
    Ok(())
}
