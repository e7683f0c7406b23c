//! Services: those that are not enabled are refused, and enabled ones work side by side.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use server::config::ServerConfig;
use server::{MessageFormat, Messages, Pipe, Services};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;
use wire_protocol::message::{RefusedCode, Target};

use super::running::{DEADLINE, Running, Stream, listening};

/// The rights that all services together need.
const RIGHTS: &str = "messages = true\npipe = true\ntcp = [\"127.0.0.1:*\"]\nlisten = [\"*\"]";

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn messages(printed: &Sink) -> Messages {
    Messages::new(MessageFormat::Text, 1024, Some(printed.clone()))
}

/// A pipe, with the ends of its input and its output.
fn pipe() -> (Pipe, File, File) {
    let file = |end: OwnedFd| File::from(end);
    let (input, into) = io::pipe().unwrap();
    let (out, output) = io::pipe().unwrap();
    (Pipe::new(file(input.into()), file(output.into())), file(into.into()), file(out.into()))
}

async fn target() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Target::Tcp { host: "127.0.0.1".into(), port })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_offers_what_was_registered_and_nothing_else() {
    let (_listener, tcp) = target().await;
    let kinds = [Target::Message, Target::Pipe, tcp, listening()];
    let (pipe, _into, _out) = pipe();
    let sets = [
        Services::new().messages(messages(&Sink::default())),
        Services::new().pipe(pipe),
        Services::new().tunnels(),
        Services::new().listening(),
    ];
    for (offered, services) in sets.into_iter().enumerate() {
        let running = Running::start(services, &ServerConfig::default(), "messages = false").await;
        // The services are refused also for a client without the right.
        for (number, target) in kinds.iter().enumerate() {
            let expected = if number == offered { RefusedCode::NotAllowed } else { RefusedCode::NotOffered };
            assert_eq!(running.open(target).await.err(), Some(expected), "{target}");
        }
        running.change_rights(RIGHTS).await;
        // The offered service comes last, since the pipe ends the server.
        for number in (0..kinds.len()).filter(|number| *number != offered).chain([offered]) {
            let refused = running.open(&kinds[number]).await.err();
            let expected = if number == offered { None } else { Some(RefusedCode::NotOffered) };
            assert_eq!(refused, expected, "{} of the server that has {}", kinds[number], kinds[offered]);
        }
    }
}

async fn finish(stream: &mut Stream) {
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(DEADLINE, stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_services_stand_side_by_side_and_the_server_outlives_its_pipe() {
    let (listener, tcp) = target().await;
    let (pipe, mut into, mut out) = pipe();
    let printed = Sink::default();
    let services = Services::new().messages(messages(&printed)).pipe(pipe).tunnels().listening();
    let running = Running::start(services, &ServerConfig::default(), RIGHTS).await;

    let mut piped = running.open(&Target::Pipe).await.unwrap();
    let mut tunneled = running.open(&tcp).await.unwrap();
    let mut leased = running.open(&listening()).await.unwrap();
    let mut message = running.open(&Target::Message).await.unwrap();
    assert_eq!(running.control.status().await.unwrap().counts.streams, 4);

    piped.write_all(b"to the output").await.unwrap();
    piped.flush().await.unwrap();
    into.write_all(b"from the input").unwrap();
    let mut read = [0; 14];
    timeout(DEADLINE, piped.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(&read, b"from the input");
    drop(into);
    finish(&mut piped).await;
    let mut taken = String::new();
    let reading = tokio::task::spawn_blocking(move || out.read_to_string(&mut taken).map(|_| taken));
    assert_eq!(timeout(DEADLINE, reading).await.unwrap().unwrap().unwrap(), "to the output");
    assert_eq!(running.open(&Target::Pipe).await.err(), Some(RefusedCode::Busy));

    // The earlier streams are still open, and more can be opened.
    let (mut accepted, _) = listener.accept().await.unwrap();
    accepted.write_all(b"tunneled").await.unwrap();
    let mut read = [0; 8];
    timeout(DEADLINE, tunneled.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(&read, b"tunneled");
    message.write_all(b"hello").await.unwrap();
    finish(&mut message).await;
    finish(&mut leased).await;
    let mut another = running.open(&Target::Message).await.unwrap();
    another.write_all(b"again").await.unwrap();
    finish(&mut another).await;
    assert_eq!(*printed.0.lock().unwrap(), b"[laptop] hello\n[laptop] again\n");
    assert!(!running.server.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_pipe_alone_ends_with_it() {
    let (pipe, into, _out) = pipe();
    let mut running = Running::start(Services::new().pipe(pipe), &ServerConfig::default(), RIGHTS).await;
    let mut piped = running.open(&Target::Pipe).await.unwrap();
    drop(into);
    finish(&mut piped).await;
    piped.close().await.unwrap();
    timeout(DEADLINE, &mut running.server).await.unwrap().unwrap().unwrap();
}
