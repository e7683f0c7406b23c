//! `client send`: sends one message, and reports success only once the server has confirmed it.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use cli_support::output::say;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tunnel::dial::in_time;
use wire_protocol::message::Target;
use wire_protocol::stream::{SecureStream, error_in};
use wire_protocol::{Error as ProtocolError, PeerMisbehaved};

use crate::Error;
use crate::connect::{Credentials, connect_open};
use crate::server::Server;

/// Sends `text`, or standard input, and returns once the server has confirmed that it has handed it on.
///
/// # Errors
/// [`Error`]; after any the message counts as not sent.
pub async fn send(credentials: &Credentials, server: &Server, text: Option<&str>) -> Result<(), Error> {
    let mut stream = connect_open(credentials, server, Target::Message).await?;
    let channel = |source| Error::Channel { address: server.to_string(), source };
    match text {
        Some(text) => copy(&mut text.as_bytes(), &mut stream, channel).await?,
        None => {
            if io::stdin().is_terminal() {
                say("reading the message from the terminal, up to Ctrl-D on a line of its own");
            }
            copy(&mut tokio::io::stdin(), &mut stream, channel).await?;
        }
    }
    // What the server says before it has the whole message confirms nothing. What has arrived is looked at.
    while let Ok(said) = timeout(Duration::ZERO, stream.read_or_sign_of_life(&mut [0])).await {
        if said.map_err(channel)?.is_some() {
            return Err(channel(unasked()));
        }
    }
    stream.shutdown().await.map_err(channel)?;
    // The server's end of the stream is its confirmation; it has nothing to say before it.
    match stream.read(&mut [0]).await {
        Ok(0) => {}
        Ok(_) => return Err(channel(unasked())),
        Err(error) => return Err(channel(error)),
    }
    // A server that is gone without a Close has not said all of it.
    in_time(stream.close()).await.map_err(channel)
}

async fn copy<S: AsyncRead + AsyncWrite + Unpin>(
    input: &mut (impl AsyncRead + Unpin),
    stream: &mut SecureStream<S>,
    channel: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = input.read(&mut chunk) => read,
            error = wait(stream) => return Err(channel(error)),
        };
        let read = read.map_err(|source| Error::Stdio { stream: "standard input", source })?;
        if read == 0 {
            return Ok(());
        }
        if let Err(error) = stream.write_all(&chunk[..read]).await {
            return Err(channel(reason(stream, error).await));
        }
    }
}

/// Keeps the channel up while the input has nothing, with signs of life both ways; gives what ends it. Can be
/// dropped at any time.
async fn wait<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut SecureStream<S>) -> io::Error {
    loop {
        match stream.read_or_sign_of_life(&mut [0]).await {
            Ok(None) => {}
            Ok(Some(_)) => return unasked(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let message = "the server has not been heard of for too long";
                return io::Error::new(io::ErrorKind::TimedOut, message);
            }
            Err(error) => return error,
        }
    }
}

/// The server has said something, if only the end of its stream, before it could have anything to say.
fn unasked() -> io::Error {
    ProtocolError::from(PeerMisbehaved::UnexpectedMessage).into()
}

/// A server that gives a message up says why and is gone: its last word tells more than the write that failed.
async fn reason<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SecureStream<S>,
    failed: io::Error,
) -> io::Error {
    match stream.read(&mut [0]).await {
        Err(error) if matches!(error_in(&error), Some(ProtocolError::Reset(_))) => error,
        _ => failed,
    }
}

const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crypto_core::identity::KeyId;
    use crypto_core::psk::PreSharedKey;
    use getrandom::SysRng;
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{Instant, sleep};
    use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
    use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
    use wire_protocol::message::ServerLimits;
    use wire_protocol::stream::{self, HEARTBEAT, RsaPool, SILENCE, accept_channel};

    use super::*;

    /// A client and a server between which a message is open.
    async fn open() -> (SecureStream<DuplexStream>, SecureStream<DuplexStream>) {
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let config = ServerConfig {
            identity: None,
            psks: [("laptop".to_owned(), Arc::clone(&psk))].into(),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: 600 },
        };
        let (here, there) = duplex(1 << 16);
        let pool = RsaPool::new(1);
        let expected = ExpectedServer::Psk(psk);
        let client = ClientConfig {
            server: expected,
            identity: None,
            invite: None,
            open: Some(Target::Message),
            asks_reason: false,
        };
        let (client, server) = tokio::join!(
            stream::connect_open(here, client),
            accept_channel(there, Arc::new(config), &pool, |_| Ok(()))
        );
        let mut server = server.unwrap();
        assert_eq!(server.next_open().await.unwrap(), Some(Target::Message));
        let server = server.answer_open().await.unwrap();
        (client.unwrap().confirm().await.unwrap(), server)
    }

    fn failed(source: io::Error) -> Error {
        Error::Channel { address: "there".into(), source }
    }

    #[tokio::test(start_paused = true)]
    async fn input_that_takes_its_time_is_waited_for() {
        let (mut client, mut server) = open().await;
        let (mut typing, mut input) = duplex(16);
        let typing = async move {
            for word in ["slow", "er"] {
                sleep(Duration::from_secs(600)).await;
                typing.write_all(word.as_bytes()).await.unwrap();
            }
        };
        let sending = async {
            copy(&mut input, &mut client, failed).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let receiving = async {
            let mut message = Vec::new();
            let mut chunk = [0; 16];
            loop {
                let heard = timeout(SILENCE, server.read_or_sign_of_life(&mut chunk)).await;
                match heard.expect("the client says that it is there").unwrap() {
                    None => {}
                    Some(0) => return message,
                    Some(len) => message.extend_from_slice(&chunk[..len]),
                }
            }
        };
        let ((), (), message) = tokio::join!(typing, sending, receiving);
        assert_eq!(message, b"slower");
    }

    /// So that no Ping is due, and the server has nothing to say.
    #[tokio::test(start_paused = true)]
    async fn input_that_keeps_coming_is_sent_however_long_that_takes() {
        let (mut client, mut server) = open().await;
        let (mut typing, mut input) = duplex(16);
        let typing = async move {
            for _ in 0..20 {
                sleep(HEARTBEAT / 2).await;
                typing.write_all(b"word").await.unwrap();
            }
        };
        let sending = async {
            copy(&mut input, &mut client, failed).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut message = Vec::new();
        let receiving = server.read_to_end(&mut message);
        let ((), (), received) = tokio::join!(typing, sending, receiving);
        assert_eq!(received.unwrap(), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_goes_is_noticed_while_the_input_waits() {
        let (_typing, mut input) = duplex(16);
        // It is gone.
        let (mut client, server) = open().await;
        let started = Instant::now();
        let (sent, ()) = tokio::join!(copy(&mut input, &mut client, failed), async { drop(server) });
        assert!(matches!(sent, Err(Error::Channel { .. })), "{sent:?}");
        assert!(started.elapsed() < HEARTBEAT);
        // It is there, and says nothing any more.
        let (mut client, _server) = open().await;
        let Err(Error::Channel { source, .. }) = copy(&mut input, &mut client, failed).await else {
            panic!("a message to nobody");
        };
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
        // It says that it has all of the message, of which it has nothing.
        let (mut client, mut server) = open().await;
        server.shutdown().await.unwrap();
        let Err(Error::Channel { source, .. }) = copy(&mut input, &mut client, failed).await else {
            panic!("a message that was confirmed before it was sent");
        };
        assert!(matches!(error_in(&source), Some(ProtocolError::PeerMisbehaved(_))), "{source:?}");
    }
}
