//! A hostile client, let in or not: every text that it can choose contains terminal controls, or text that looks
//! like a line of the log.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::{ClientHello, HelloAuth, ListenAddress, ListenKind, RefusedCode, SUITE, Target};
use wire_protocol::stream::{Channel, OpenError, connect_channel};

/// Text that clears the screen, moves the cursor, reverses the direction, and forges lines.
const HOSTILE: &str = "a\x1b]0;title\x07\x1b[2J\u{9b}1A\r\nerror: forged\n[alice] forged\n\
                       2001-01-01T00:00:00.000000Z  WARN connection failed peer=\"192.0.2.1:1\"\n\
                       hint: forged\u{2028}\u{85}\u{202e}\u{200b}\u{e0041}\u{7f}\0\\n";

/// The escaped form of the beginning of `HOSTILE`.
const ESCAPED: &str = "a\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{9b}1A\\r\\nerror: forged\\n[alice]";

const FORGED: [&str; 4] = ["error: forged", "[alice] forged", "2001-01-01", "hint: forged"];

/// All targets are within the client's rights, so that the later checks are reached.
const ALL_RIGHTS: [&str; 12] = [
    "--messages",
    "--tcp",
    "*:*",
    "--tcp",
    "[::/0]:*",
    "--udp",
    "*:*",
    "--udp",
    "[::/0]:*",
    "--listen",
    "*:*",
    "--pipe",
];

fn listen(address: ListenAddress) -> Target {
    Target::Listen { address, kind: ListenKind::Stream, lease: [0; 16] }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_asks_for_is_shown_escaped() {
    for rights in [&ALL_RIGHTS[..], &["--messages"]] {
        let server = Server::start(rights, &[]).await;
        let mut channel = server.connect().await;
        let targets = targets();
        for target in &targets {
            (channel, _) = refused(channel, target).await;
        }
        let mut stream = in_time(channel.open(&Target::Message)).await.unwrap();
        stream.write_all(HOSTILE.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        in_time(stream.read(&mut [0])).await.unwrap();
        in_time(stream.close()).await.unwrap();

        let printed = server.stop();
        printed.expect_harmless();
        assert_eq!(printed.stdout.matches(ESCAPED).count(), 1, "{}", printed.stdout);
        let refused: Vec<&str> =
            printed.stderr.lines().filter(|line| line.contains("stream refused")).collect();
        assert_eq!(refused.len(), targets.len(), "{}", printed.stderr);
        assert!(refused.iter().all(|line| line.contains(ESCAPED)), "{}", printed.stderr);
    }
}

/// The channel on which the server does not want a stream to `target`, and why.
async fn refused(channel: Channel<TcpStream>, target: &Target) -> (Channel<TcpStream>, RefusedCode) {
    match in_time(channel.open(target)).await.unwrap_err() {
        OpenError::Refused { code, channel } => (channel, code),
        error => panic!("{target:?}: {error}"),
    }
}

fn targets() -> Vec<Target> {
    let hostile = || HOSTILE.to_owned();
    // No name may contain a zero byte. Without it the text reaches the system's resolver.
    let hosts = [hostile(), format!("fe80::1%{HOSTILE}"), HOSTILE.replace('\0', "")];
    let path = || format!("/{HOSTILE}");
    let mut targets = vec![
        Target::Unix { path: path() },
        Target::Service { name: hostile() },
        Target::Forwarded { origin: hostile(), destination: hostile() },
        listen(ListenAddress::Unix { path: path() }),
    ];
    for host in hosts {
        targets.push(Target::Tcp { host: host.clone(), port: 1 });
        targets.push(Target::Udp { host: host.clone(), port: 1 });
        targets.push(listen(ListenAddress::Port { host, port: 0 }));
    }
    targets
}

/// An empty host is neither this machine nor all of its addresses, whatever the client may reach and listen on.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_host_is_an_unknown_one() {
    let server = Server::start(&ALL_RIGHTS, &[]).await;
    let mut channel = server.connect().await;
    let empty = String::new;
    for target in [
        Target::Tcp { host: empty(), port: 1 },
        Target::Udp { host: empty(), port: 1 },
        listen(ListenAddress::Port { host: empty(), port: 0 }),
    ] {
        let code;
        (channel, code) = refused(channel, &target).await;
        assert_eq!(code, RefusedCode::UnknownHost, "{target:?}");
    }
}

/// A client without a key chooses texts too: its own name, other protocols, the header of a proxy.
#[tokio::test(flavor = "multi_thread")]
async fn what_unauthenticated_peers_say_is_not_shown() {
    let hello = ClientHello {
        random: [1; 32],
        suites: vec![SUITE],
        x25519: [9; 32],
        encapsulation_key: [0; 1184],
        server_id: KeyId([7; 32]),
        auth: HelloAuth::Psk { id: HOSTILE.to_owned(), binder: [0; 32] },
    };
    let mut said = vec![frame::write(FrameKind::ClientHello, &hello)];
    for start in ["", "GET / HTTP/1.1\r\nHost: ", "SSH-2.0-", "SKS\x01\x05", "SKS\x01\x03\0\x01\x00"] {
        said.push([start.as_bytes(), HOSTILE.as_bytes()].concat());
    }
    let header = |header: String| header.into_bytes();
    let headers = [
        header(format!("PROXY TCP4 {HOSTILE} 192.0.2.1 1 2\r\n")),
        header(format!("PROXY TCP6 2001:db8::1 2001:db8::2%{HOSTILE} 1 2\r\n")),
        header(format!("PROXY UNKNOWN {HOSTILE}\r\n")),
        header(HOSTILE.to_owned()),
    ];
    for (options, said) in [(&[][..], said), (&["--proxy-from", "127.0.0.1"], headers.to_vec())] {
        let server = Server::start(&["--messages"], options).await;
        for bytes in said {
            let mut peer = TcpStream::connect(&server.address).await.unwrap();
            peer.write_all(&bytes).await.unwrap();
            peer.shutdown().await.ok();
            // The server closes the connection once it has logged the reason.
            in_time(peer.read_to_end(&mut Vec::new())).await.ok();
        }
        let printed = server.stop();
        printed.expect_harmless();
        assert!(printed.stderr.contains("127.0.0.1:"), "nobody was noticed: {}", printed.stderr);
        assert!(!printed.stderr.contains("forged"), "{}", printed.stderr);
        assert_eq!(printed.stdout, "");
    }
}

/// The server process, and the key of its single client.
struct Server {
    home: TempDir,
    child: Child,
    address: String,
    psk: Arc<PreSharedKey>,
}

impl Server {
    /// Starts a verbose server with these rights for its client, and these options.
    async fn start(rights: &[&str], options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [psk, stdout, stderr] = ["laptop.psk", "stdout", "stderr"].map(|name| home.path().join(name));
        let psk_path = psk.to_str().unwrap();
        let server = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
            command.arg("--home").arg(home.path().join("home")).args(arguments);
            command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        for arguments in [
            &["keygen", "--psk", "laptop", "--out", psk_path][..],
            &[&["allow", "psk:laptop"], rights].concat(),
        ] {
            let done = server(arguments).output().unwrap();
            assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let arguments = [&["-v", "--listen", "127.0.0.1:0", "--psk", psk_path], options].concat();
        let mut command = server(&arguments);
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap();
        let listening = async {
            loop {
                let text = fs::read_to_string(&stderr).unwrap();
                let line = text.lines().find_map(|line| line.strip_prefix("listening on "));
                match line {
                    Some(address) => return address.trim().to_owned(),
                    None => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let address = in_time(listening).await;
        let psk = PreSharedKey::from_text(&fs::read_to_string(psk).unwrap()).unwrap();
        Self { home, child, address, psk: Arc::new(psk) }
    }

    async fn connect(&self) -> Channel<TcpStream> {
        let socket = TcpStream::connect(&self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let server = ExpectedServer::Psk(Arc::clone(&self.psk));
        let config = ClientConfig::new(server);
        in_time(connect_channel(socket, config)).await.unwrap()
    }

    /// Tells the server to end, and returns its output. Killing it would lose lines on their way to the log.
    fn stop(mut self) -> Printed {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
        let read = |name: &str| fs::read_to_string(self.home.path().join(name)).unwrap();
        Printed { stdout: read("stdout"), stderr: read("stderr") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Printed {
    stdout: String,
    stderr: String,
}

impl Printed {
    /// Checks that no text controls the terminal, and that every line is the program's own.
    #[track_caller]
    fn expect_harmless(&self) {
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

/// Fails when `work` takes far too long.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.unwrap()
}
