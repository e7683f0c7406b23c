//! The client as a program, and a server that a test plays: what it does with each channel is for the test to say.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{DeniedCode, RefusedCode, ResetCode, ServerLimits, Target};
use wire_protocol::stream::{Channel, Incoming, RsaPool, accept_channel};

/// Clears the screen, moves the cursor, reverses the direction, and begins lines that nobody has said. It fits into a name of
/// SOCKS.
pub(crate) const HOSTILE: &str = "a\x1b]0;title\x07\x1b[2J\u{9b}1A\r\nerror: forged\nremote   forged\n\
                       2001-01-01T00:00:00.000000Z  WARN connection failed peer=\"192.0.2.1:1\"\n\
                       hint: forged\u{2028}\u{85}\u{202e}\u{200b}\u{e0041}\u{7f}\0\\n";

const FORGED: [&str; 5] = ["error: forged", "remote   forged", "2001-01-01", "WARN", "hint: forged"];

/// What a server may say to an Open.
pub(crate) enum Answer {
    Refuse(RefusedCode),
    Reset(ResetCode),
    /// Takes it, says something, and is gone.
    Data,
}

impl Answer {
    /// Gives the channel back where it is idle then.
    pub(crate) async fn give(self, channel: Channel<TcpStream>) -> Option<Channel<TcpStream>> {
        match self {
            Self::Refuse(code) => return Some(channel.refuse_open(code).await.unwrap()),
            Self::Reset(code) => {
                let stream = channel.answer_open().await.unwrap();
                stream.reset(code).await.unwrap();
            }
            Self::Data => {
                let mut stream = channel.answer_open().await.unwrap();
                stream.write_all(HOSTILE.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
        None
    }
}

/// The server, and the home and the key of its client.
pub(crate) struct Scene {
    home: TempDir,
    pub(crate) psk: PathBuf,
    config: Arc<ServerConfig>,
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) address: String,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let key = PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap();
        let psk = home.path().join("laptop.psk");
        fs::write(&psk, key.to_text().as_bytes()).unwrap();
        fs::set_permissions(&psk, Permissions::from_mode(0o600)).unwrap();
        let config = ServerConfig {
            identity: None,
            psks: [("laptop".to_owned(), Arc::new(key))].into(),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: 600 },
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { home, psk, config: Arc::new(config), listener: Arc::new(listener), address }
    }

    /// Starts a command of the client that has the key.
    pub(crate) fn client(&self, arguments: &[&str]) -> Client {
        self.client_with(&[arguments, &["--psk", self.psk.to_str().unwrap()]].concat())
    }

    pub(crate) fn client_with(&self, arguments: &[&str]) -> Client {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.home.path().join(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
        command.arg("--home").arg(self.home.path().join("home")).args(arguments).env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Client { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// The next channel, or its refusal.
    pub(crate) async fn accept(
        &self,
        judgment: Result<(), DeniedCode>,
    ) -> std::io::Result<Channel<TcpStream>> {
        accept(&self.listener, &self.config, judgment).await
    }

    /// Lets all channels in, says to whoever wants it that it listens, and gives the channels that are parked then.
    pub(crate) fn listen_for_client(&self) -> mpsc::Receiver<Channel<TcpStream>> {
        let (sender, parked) = mpsc::channel(64);
        self.serve(move |mut channel| {
            let sender = sender.clone();
            async move {
                loop {
                    match channel.next_incoming().await {
                        Ok(Incoming::Open(Target::Listen { .. })) => {
                            let mut stream = channel.answer_listen(4711).await.unwrap();
                            stream.hold().await.ok();
                            return;
                        }
                        Ok(Incoming::Park(_)) => return drop(sender.send(channel).await),
                        Ok(Incoming::SignOfLife) => {}
                        _ => return,
                    }
                }
            }
        });
        parked
    }

    /// Lets all channels in, and waits for what is opened on them.
    pub(crate) fn take_opens(&self) -> Opens {
        let (sender, opened) = mpsc::channel(64);
        let opens = Opens { sender, opened };
        let sender = opens.sender.clone();
        self.serve(move |channel| next_open(channel, sender.clone()));
        opens
    }

    fn serve<F: Future<Output = ()> + Send>(
        &self,
        play: impl Fn(Channel<TcpStream>) -> F + Clone + Send + 'static,
    ) {
        let (listener, config) = (Arc::clone(&self.listener), Arc::clone(&self.config));
        tokio::spawn(async move {
            loop {
                if let Ok(channel) = accept(&listener, &config, Ok(())).await {
                    let play = play.clone();
                    tokio::spawn(async move { play(channel).await });
                }
            }
        });
    }
}

pub(crate) type Opened = (Channel<TcpStream>, Target);

/// Channels on which a stream has been opened.
pub(crate) struct Opens {
    sender: mpsc::Sender<Opened>,
    opened: mpsc::Receiver<Opened>,
}

impl Opens {
    pub(crate) async fn next(&mut self) -> Opened {
        in_time(self.opened.recv()).await.unwrap()
    }

    /// The client may open the next stream on this channel.
    pub(crate) fn wait_on(&self, idle: Channel<TcpStream>) {
        tokio::spawn(next_open(idle, self.sender.clone()));
    }
}

async fn next_open(mut channel: Channel<TcpStream>, opened: mpsc::Sender<Opened>) {
    match channel.next_open().await {
        Ok(Some(target)) => drop(opened.send((channel, target)).await),
        Ok(None) => drop(channel.close().await),
        Err(_) => {}
    }
}

async fn accept(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    judgment: Result<(), DeniedCode>,
) -> std::io::Result<Channel<TcpStream>> {
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    in_time(accept_channel(socket, Arc::clone(config), &RsaPool::new(1), |_| judgment)).await
}

/// A client that runs, and what it has printed so far.
pub(crate) struct Client {
    child: Child,
    stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

impl Client {
    /// The address in its first line that begins like this.
    pub(crate) async fn said(&self, start: &str) -> String {
        self.logged(&[start]).await.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Waits for a line of its standard error that has all of these.
    pub(crate) async fn logged(&self, names: &[&str]) -> String {
        let logged = async {
            loop {
                let text = fs::read_to_string(&self.stderr).unwrap();
                let line = text.lines().find(|line| names.iter().all(|name| line.contains(name)));
                match line {
                    Some(line) => return line.to_owned(),
                    None => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        in_time(logged).await
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(self) -> Printed {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end().await
    }

    /// It ends by itself, with one of its codes for that, an error of its own, and nothing else.
    pub(crate) async fn expect_failure(self) {
        let printed = self.end().await;
        printed.expect_harmless();
        assert!(matches!(printed.code, Some(1..=6)), "{:?}: {}", printed.code, printed.stderr);
        assert!(printed.stderr.starts_with("error: "), "{}", printed.stderr);
        assert_eq!(printed.stdout, "");
    }

    async fn end(mut self) -> Printed {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let status = in_time(ended).await;
        let [stdout, stderr] = [&self.stdout, &self.stderr].map(|path| fs::read_to_string(path).unwrap());
        Printed { code: status.code(), stdout, stderr }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Printed {
    /// Nothing moves a terminal, and every line is the program's own.
    #[track_caller]
    pub(crate) fn expect_harmless(&self) {
        for text in [&self.stdout, &self.stderr] {
            let invisible = ['\u{2028}', '\u{202e}', '\u{200b}', '\u{e0041}'];
            let moves = |c: char| c != '\n' && (c.is_control() || invisible.contains(&c));
            assert!(!text.contains(moves), "{text:?}");
            for line in text.lines() {
                assert!(!FORGED.iter().any(|forged| line.trim_start().starts_with(forged)), "{text}");
            }
        }
    }
}

/// What should not take long does not take for ever.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.unwrap()
}
