//! The socket on which a running program accepts admin commands.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::command::Command;
use super::folder::{Folder, SocketFile, is_socket, socket_name};
use super::line::{MAX_ANSWER_LEN, read_line};
use crate::error::Error;
use crate::home::Home;

/// The admin socket of a running program. Dropping it removes its file.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    _file: SocketFile,
    /// Connections whose line has not arrived yet.
    reading: JoinSet<Option<(Command, Responder)>>,
}

impl AdminSocket {
    /// Listens for commands to this process of `program`. A socket that a dead process of the same id has left
    /// behind is replaced.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::ExposedFolder`], [`Error::ForeignFolder`]. The programs then run without the
    /// socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(home: &Home, program: &str) -> Result<Self, Error> {
        Self::bind_as(home, program, std::process::id())
    }

    pub(super) fn bind_as(home: &Home, program: &str, pid: u32) -> Result<Self, Error> {
        let folder = Folder::create(home)?;
        let name = socket_name(program, pid);
        let path = folder.path(&name);
        let address = folder.address(&name);
        let bound = match UnixListener::bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(&address) => {
                std::fs::remove_file(&path).and_then(|()| UnixListener::bind(&address))
            }
            bound => bound,
        };
        let bound = bound.and_then(|listener| Ok((listener, SocketFile::new(path.clone())?)));
        let (listener, file) = bound.map_err(Error::file("listen on", path))?;
        Ok(Self { listener, _file: file, reading: JoinSet::new() })
    }

    /// Waits for a command. Lines that are no command are answered here. The future is cancel-safe, so it may be
    /// used in a `select!`.
    pub async fn next(&mut self) -> (Command, Responder) {
        loop {
            tokio::select! {
                Some(read) = self.reading.join_next() => {
                    if let Ok(Some(asked)) = read {
                        return asked;
                    }
                }
                // Further connections wait in the socket's queue until one of these has sent its line or timed out.
                accepted = self.listener.accept(), if self.reading.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        self.reading.spawn(read_command(stream));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a command");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Waits for a command as [`AdminSocket::next`] does, or forever where `socket` is `None`.
    pub async fn next_of(socket: Option<&mut Self>) -> (Command, Responder) {
        match socket {
            Some(socket) => socket.next().await,
            None => std::future::pending().await,
        }
    }
}

/// Sends the answer to one command. Dropping it closes the connection without an answer.
#[derive(Debug)]
#[must_use = "somebody waits for the answer"]
pub struct Responder(UnixStream);

impl Responder {
    /// Sends the answer without waiting: the line fits in an empty socket buffer. A peer that has made its buffer
    /// too small, or is gone, does not get the line.
    ///
    /// # Panics
    /// Never: an answer can always be encoded as JSON.
    pub fn answer(self, answer: &Answer) {
        let line = |answer| serde_json::to_string(answer).expect("an answer can be written as JSON");
        let mut text = line(answer);
        if text.len() >= MAX_ANSWER_LEN {
            text = line(&Answer::refusal("the answer is too long"));
        }
        text.push('\n');
        let sent = self.0.into_std().and_then(|mut stream| stream.write_all(text.as_bytes()));
        if let Err(error) = sent {
            tracing::debug!(%error, "an answer was not taken");
        }
    }
}

/// Reads the one line of a connection. A line that is no command is answered at once.
async fn read_command(mut stream: UnixStream) -> Option<(Command, Responder)> {
    let line = match timeout(LINE_DEADLINE, read_line(&mut stream, MAX_LINE_LEN)).await {
        Ok(line) => line,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no line came in time")),
    };
    let command = line.map_err(|error| error.to_string()).and_then(|line| {
        let text = str::from_utf8(&line).map_err(|error| error.to_string())?;
        text.parse::<Command>().map_err(str::to_owned)
    });
    match command {
        Ok(command) => Some((command, Responder(stream))),
        Err(error) => {
            let hint = Some(format!("the commands are {}", Command::ALL.map(Command::word).join(", ")));
            Responder(stream).answer(&Answer::Failed { error, hint });
            None
        }
    }
}

/// Returns whether `address` is a socket on which no process listens. A process with the same id elsewhere, such as
/// in another container, may still listen on its socket.
fn is_stale(address: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket(address) && std::os::unix::net::UnixStream::connect(address).is_err_and(refused)
}

/// Most connections whose line is awaited at once.
const MAX_CONNECTIONS: usize = 8;
/// Longest line of a command in bytes, though a command is a single word.
const MAX_LINE_LEN: usize = 4096;
/// Longest wait for the line of a command.
const LINE_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after an error of `accept`, which would probably fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        (folder, home)
    }

    async fn connect(home: &Home) -> UnixStream {
        UnixStream::connect(home.file("run").join(socket_name("server", 7))).await.unwrap()
    }

    fn answer_all(mut socket: AdminSocket) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let (_, responder) = socket.next().await;
                responder.answer(&Answer::Done);
            }
        })
    }

    async fn answer_to(stream: &mut UnixStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The answer to `line`.
    #[track_caller]
    fn check(home: &Home, line: &[u8], expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let (mut read, mut write) = connect(home).await.into_split();
            let mut answer = Vec::new();
            // The program stops reading after the longest line.
            let (_, read) = tokio::join!(
                async {
                    write.write_all(line).await.ok();
                    write.shutdown().await.ok();
                },
                read.read_to_end(&mut answer)
            );
            let shown = String::from_utf8_lossy(&answer).into_owned();
            assert!(shown.contains(expected), "{caller}: {read:?} {shown}");
            assert!(answer.len() < 1024 && answer.ends_with(b"\n"), "{caller}: {shown}");
        }
    }

    #[tokio::test]
    async fn whatever_is_no_command_is_answered_and_nothing_stops() {
        let (_folder, home) = home();
        let _serving = answer_all(AdminSocket::bind_as(&home, "server", 7).unwrap());
        check(&home, b"status\n", "{\"ok\":true}").await;
        check(&home, b"status\nreload\n", "{\"ok\":true}").await;
        for bad in [&b"\n"[..], b"STATUS\n", b" status\n", b"status \n", b"status\r\n", b"stop\n", b"{}\n"] {
            check(&home, bad, "{\"ok\":false,\"error\":\"there is no such command\",\"hint\":").await;
        }
        check(&home, b"\xff\xfe\n", "invalid utf-8").await;
        check(&home, b"\0\n", "there is no such command").await;
        check(&home, b"", "the line was cut off").await;
        check(&home, b"status", "the line was cut off").await;
        check(&home, &[b'x'; MAX_LINE_LEN - 1], "the line was cut off").await;
        check(&home, &[b'x'; MAX_LINE_LEN], "the line is too long").await;
        check(&home, &[&[b'x'; MAX_LINE_LEN][..], b"\n"].concat(), "the line is too long").await;
        check(&home, &vec![b'x'; 1 << 20], "the line is too long").await;
        check(&home, b"recheck\n", "{\"ok\":true}").await;
    }

    #[tokio::test(start_paused = true)]
    async fn slow_peers_get_their_time_and_no_more() {
        let (_folder, home) = home();
        let _serving = answer_all(AdminSocket::bind_as(&home, "server", 7).unwrap());
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            let mut stream = connect(&home).await;
            stream.write_all(b"stat").await.unwrap();
            silent.push(stream);
        }
        let begun = tokio::time::Instant::now();
        let mut late = connect(&home).await;
        late.write_all(b"status\n").await.unwrap();
        assert_eq!(answer_to(&mut late).await, "{\"ok\":true}\n");
        let waited = begun.elapsed();
        assert!(waited >= 2 * LINE_DEADLINE && waited < 3 * LINE_DEADLINE, "{waited:?}");
        for mut stream in silent {
            assert!(answer_to(&mut stream).await.contains("no line came in time"));
        }
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let (_folder, home) = home();
        let mut socket = AdminSocket::bind_as(&home, "server", 7).unwrap();
        let mut stream = connect(&home).await;
        for byte in b"reload" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::select! {
                biased;
                asked = AdminSocket::next_of(Some(&mut socket)) => panic!("{asked:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        stream.write_all(b"\n").await.unwrap();
        let (command, responder) = AdminSocket::next_of(Some(&mut socket)).await;
        assert_eq!(command, Command::Reload);
        responder.answer(&Answer::Done);
        assert_eq!(answer_to(&mut stream).await, "{\"ok\":true}\n");
    }

    #[tokio::test]
    async fn whoever_asks_and_goes_does_no_harm() {
        let (_folder, home) = home();
        let mut socket = AdminSocket::bind_as(&home, "server", 7).unwrap();
        let mut stream = connect(&home).await;
        stream.write_all(b"status\n").await.unwrap();
        drop(stream);
        let (_, responder) = socket.next().await;
        responder.answer(&Answer::Done);
        let mut stream = connect(&home).await;
        stream.write_all(b"status\n").await.unwrap();
        drop(socket.next().await);
        assert_eq!(answer_to(&mut stream).await, "");
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_sent() {
        let (_folder, home) = home();
        let mut socket = AdminSocket::bind_as(&home, "server", 7).unwrap();
        let refused = |text: &str| format!("{{\"ok\":false,\"error\":\"{text}\"}}\n");
        let fitting = "x".repeat(MAX_ANSWER_LEN - refused("").len());
        let too_long = format!("{fitting}x");
        for (text, expected) in [(&fitting, &*fitting), (&too_long, "the answer is too long")] {
            let mut stream = connect(&home).await;
            stream.write_all(b"status\n").await.unwrap();
            let (_, responder) = socket.next().await;
            responder.answer(&Answer::refusal(text));
            assert_eq!(answer_to(&mut stream).await, refused(expected));
        }
    }

    #[tokio::test]
    async fn only_the_owner_can_connect_and_the_file_goes_with_the_socket() {
        let (_folder, home) = home();
        let socket = AdminSocket::bind_as(&home, "server", 7).unwrap();
        let path = home.file("run").join(socket_name("server", 7));
        for (path, mode) in [(home.file("run"), 0o700), (path.clone(), 0o600)] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode);
        }
        drop(socket);
        assert!(!path.exists());

        let socket = AdminSocket::bind_as(&home, "server", 7).unwrap();
        std::fs::remove_file(&path).unwrap();
        // The inode of the removed file may be reused, but only for one other file.
        std::fs::write(home.file("run").join("other"), "").unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(socket);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    }

    #[tokio::test]
    async fn a_socket_of_the_same_number_is_replaced_only_when_no_process_listens() {
        let (_folder, home) = home();
        let path = || home.file("run").join(socket_name("server", 7));
        let live = AdminSocket::bind_as(&home, "server", 7).unwrap();
        let second = AdminSocket::bind_as(&home, "server", 7);
        assert!(matches!(second, Err(Error::File { action: "listen on", .. })));
        drop(live);
        drop(std::os::unix::net::UnixListener::bind(path()).unwrap());
        drop(AdminSocket::bind_as(&home, "server", 7).unwrap());
        std::fs::write(path(), "no socket").unwrap();
        let over_file = AdminSocket::bind_as(&home, "server", 7);
        assert!(matches!(over_file, Err(Error::File { action: "listen on", .. })));
        assert_eq!(std::fs::read(path()).unwrap(), b"no socket");
    }
}
