//! The applications at both ends of a forward: each writes what its script says, and reads what the other one has written.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::time::sleep;
use tunnel::memory::{MemoryHost, MemoryListener, MemorySocket, Random};

use super::ledger::{Ledger, Outcome, Side, content};

/// What an application writes, and how it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    pub(super) len: usize,
    pub(super) ending: Ending,
    /// Milliseconds that it takes between two chunks at most.
    pub(super) pause: u64,
}

/// How an application ends its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It says that nothing more comes, and reads the rest.
    HalfClose,
    /// It closes the connection, whatever it has not read.
    Close,
    /// It resets the connection.
    Reset,
}

/// How a visitor says where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// The forward knows.
    Direct,
    /// By SOCKS, to this target.
    Socks(SocketAddr),
}

/// Connects to a forward, and does what the script says. The number of the connection comes first, so that the target knows
/// which one it is.
pub(super) async fn visit(
    host: MemoryHost,
    forward: SocketAddr,
    entrance: Entrance,
    connection: u64,
    greets: bool,
    script: Script,
    ledger: Ledger,
) {
    let begun = async {
        let mut socket = host.dial(forward).await?;
        if let Entrance::Socks(target) = entrance {
            negotiate(&mut socket, target).await?;
        }
        if greets {
            let mut greeting = [0; GREETING.len()];
            socket.read_exact(&mut greeting).await?;
            assert_eq!(greeting, GREETING, "connection {connection}: another greeting");
        }
        socket.write_all(&connection.to_be_bytes()).await?;
        io::Result::Ok(socket)
    };
    let Ok(socket) = begun.await else {
        ledger.note(connection, Side::Target, |direction| direction.outcome = Some(Outcome::Error));
        return;
    };
    follow(socket, connection, Side::Visitor, script, ledger).await;
}

/// Serves connections, each by the script that `find` has for its number, and greets them first where that is asked.
pub(super) async fn serve(
    listener: MemoryListener,
    greets: bool,
    find: impl Fn(u64) -> Script + Clone + Send + 'static,
    ledger: Ledger,
) {
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let mut socket = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            Some(served) = serving.join_next() => {
                let () = served.unwrap();
                continue;
            }
        };
        let (find, ledger) = (find.clone(), ledger.clone());
        serving.spawn(async move {
            if greets && socket.write_all(&GREETING).await.is_err() {
                return;
            }
            let Ok(connection) = socket.read_u64().await else { return };
            follow(socket, connection, Side::Target, find(connection), ledger).await;
        });
    }
}

async fn follow(socket: MemorySocket, connection: u64, side: Side, script: Script, ledger: Ledger) {
    let mut random = Random::new(connection * 2 + u64::from(side == Side::Target));
    socket.set_reset_on_drop(script.ending == Ending::Reset);
    let (reader, writer) = split(socket);
    let reading = read(reader, connection, side.other(), random.fork(), script.pause, ledger.clone());
    let writing = write(writer, connection, side, random, script, ledger.clone());
    if script.ending == Ending::HalfClose {
        let (outcome, ()) = tokio::join!(reading, writing);
        ledger.note(connection, side.other(), |direction| direction.outcome = Some(outcome));
        return;
    }
    // An application that leaves reads nothing any more, and has seen no end.
    let mut reading = std::pin::pin!(reading);
    let mut writing = std::pin::pin!(writing);
    let outcome = tokio::select! {
        () = &mut writing => Outcome::Error,
        outcome = &mut reading => {
            writing.await;
            outcome
        }
    };
    ledger.note(connection, side.other(), |direction| direction.outcome = Some(outcome));
    if script.ending == Ending::Close {
        ledger.note(connection, side, |direction| direction.has_ended = true);
    }
}

async fn write(
    mut writer: WriteHalf<MemorySocket>,
    connection: u64,
    side: Side,
    mut random: Random,
    script: Script,
    ledger: Ledger,
) {
    let mut at = 0;
    while at < script.len {
        let len = (random.index(MAX_CHUNK) + 1).min(script.len - at);
        let chunk = content(connection, side, at, len);
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let Ok(len) = writer.write(rest).await else { return };
            ledger.note(connection, side, |direction| direction.written += len);
            rest = &rest[len..];
        }
        at += len;
        pause(&mut random, script.pause).await;
    }
    if script.ending == Ending::HalfClose && writer.shutdown().await.is_ok() {
        ledger.note(connection, side, |direction| direction.has_ended = true);
    }
}

async fn read(
    mut reader: ReadHalf<MemorySocket>,
    connection: u64,
    side: Side,
    mut random: Random,
    most: u64,
    ledger: Ledger,
) -> Outcome {
    let mut buffer = vec![0; random.index(MAX_CHUNK) + MIN_ROOM];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Outcome::End,
            Ok(len) => ledger.read(connection, side, &buffer[..len]),
            Err(_) => return Outcome::Error,
        }
        pause(&mut random, most).await;
    }
}

async fn pause(random: &mut Random, most: u64) {
    if most > 0 && random.chance(1, 4) {
        sleep(Duration::from_millis(random.below(most) + 1)).await;
    }
}

/// Asks a SOCKS 5 proxy (RFC 1928) for a target.
async fn negotiate(socket: &mut MemorySocket, target: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(target) = target else { return Err(io::ErrorKind::Unsupported.into()) };
    socket.write_all(&[5, 1, 0]).await?;
    let mut chosen = [0; 2];
    socket.read_exact(&mut chosen).await?;
    let mut request = vec![5, 1, 0, 1];
    request.extend(target.ip().octets());
    request.extend(target.port().to_be_bytes());
    socket.write_all(&request).await?;
    let mut answer = [0; 10];
    socket.read_exact(&mut answer).await?;
    if chosen != [5, 0] || answer[..2] != [5, 0] {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

const GREETING: [u8; 6] = *b"hello\n";
const MAX_CHUNK: usize = 8192;
const MIN_ROOM: usize = 512;
