//! The streams that a client gets, and keeps, with each set of rights.

use std::time::{Duration, Instant};

use server::config::{NamedService, ServerConfig};
use server::{MessageFormat, Messages, Services};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::time::{sleep, timeout};
use tunnel::address::Address;
use tunnel::proxy_header::ProxyHeader;
use wire_protocol::message::{RefusedCode, ResetCode, Target};
use wire_protocol::stream::{self, Incoming, OpenError};

use super::running::{DEADLINE, Running, Stream, listening};

/// Echo servers of each kind, and a server with a right for each.
struct Fixture {
    running: Running,
    /// Each kind of target, with the line of `clients.toml` that is its right.
    kinds: Vec<(Target, String)>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let path = folder.path().join("echo.sock").display().to_string();
        let unix = UnixListener::bind(&path).unwrap();
        let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = tcp.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = unix.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        tokio::spawn(async move {
            let mut datagram = [0; 1024];
            loop {
                let (len, from) = udp.recv_from(&mut datagram).await.unwrap();
                udp.send_to(&datagram[..len], from).await.unwrap();
            }
        });
        let service = NamedService {
            name: "db".into(),
            target: Address::Tcp { host: "127.0.0.1".into(), port: tcp_port },
            header: ProxyHeader::None,
        };
        let config = ServerConfig { services: vec![service], ..ServerConfig::default() };
        let messages = Messages::new(MessageFormat::Text, 1024, Some(std::io::sink()));
        let running =
            Running::start(Services::new().messages(messages).tunnels().listening(), &config, "").await;
        let host = || "127.0.0.1".to_owned();
        let kinds = vec![
            (Target::Message, "messages = true".to_owned()),
            (Target::Tcp { host: host(), port: tcp_port }, format!("tcp = [\"127.0.0.1:{tcp_port}\"]")),
            (Target::Udp { host: host(), port: udp_port }, format!("udp = [\"127.0.0.1:{udp_port}\"]")),
            (Target::Unix { path: path.clone() }, format!("unix = [\"{path}\"]")),
            (Target::Service { name: "db".into() }, "service = [\"db\"]".into()),
            (listening(), "listen = [\"*\"]".into()),
        ];
        Self { running, kinds, _folder: folder }
    }

    /// All rights except those for which `is_held` is false, by their number.
    fn rights(&self, is_held: impl Fn(usize) -> bool) -> String {
        let held = self.kinds.iter().enumerate().filter(|(number, _)| is_held(*number));
        let lines: Vec<&str> = held.map(|(_, (_, line))| line.as_str()).collect();
        if lines.is_empty() { "messages = false".into() } else { lines.join("\n") }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_opens_its_own_kind_of_stream_and_no_other() {
    let fixture = Fixture::start().await;
    for right in 0..fixture.kinds.len() {
        fixture.running.change_rights(&fixture.rights(|number| number == right)).await;
        for (number, (target, _)) in fixture.kinds.iter().enumerate() {
            let refused = fixture.running.open(target).await.err();
            let expected = if number == right { None } else { Some(RefusedCode::NotAllowed) };
            assert_eq!(refused, expected, "{target} with {}", fixture.kinds[right].1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_not_have_is_not_offered_whatever_the_rights_are() {
    let fixture = Fixture::start().await;
    fixture.running.change_rights("messages = true\npipe = true\nservice = [\"web\"]").await;
    for target in [Target::Pipe, Target::Service { name: "web".into() }] {
        assert_eq!(fixture.running.open(&target).await.err(), Some(RefusedCode::NotOffered), "{target}");
    }
    // The right is checked before the configuration, so that a client cannot find out names.
    let other = Target::Service { name: "db".into() };
    assert_eq!(fixture.running.open(&other).await.err(), Some(RefusedCode::NotAllowed));

    let without_output = Messages::new::<std::io::Sink>(MessageFormat::Text, 1024, None);
    let services = Services::new().messages(without_output);
    let running = Running::start(services, &ServerConfig::default(), "messages = true").await;
    assert_eq!(running.open(&Target::Message).await.err(), Some(RefusedCode::NotOffered));
    running.change_rights("messages = false").await;
    assert_eq!(running.open(&Target::Message).await.err(), Some(RefusedCode::NotAllowed));
}

/// Reads a stream that the server ends, and returns the code of its reset.
async fn reset_of(open: &mut Stream) -> Option<ResetCode> {
    let ended = async {
        loop {
            match open.read_or_sign_of_life(&mut [0; 64]).await {
                Ok(Some(0)) => return None,
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
    };
    let error = timeout(DEADLINE, ended).await.unwrap()?;
    match stream::error_in(&error) {
        Some(wire_protocol::Error::Reset(code)) => Some(*code),
        _ => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_goes_ends_its_own_kind_of_stream_and_no_other() {
    let fixture = Fixture::start().await;
    for gone in 0..fixture.kinds.len() {
        fixture.running.change_rights(&fixture.rights(|_| true)).await;
        let mut open = Vec::new();
        for (target, _) in &fixture.kinds {
            open.push(fixture.running.open(target).await.unwrap());
        }
        fixture.running.change_rights(&fixture.rights(|number| number != gone)).await;
        assert_eq!(reset_of(&mut open[gone]).await, Some(ResetCode::NotAllowed), "{}", fixture.kinds[gone].1);
        for number in [1, 2, 3, 4].into_iter().filter(|number| *number != gone) {
            echo(&mut open[number]).await;
        }
        for number in [0, 5].into_iter().filter(|number| *number != gone) {
            open[number].shutdown().await.unwrap();
            assert_eq!(reset_of(&mut open[number]).await, None, "{}", fixture.kinds[number].1);
        }
        drop(open);
        wait_for_streams(&fixture.running, 0).await;
    }
}

/// Datagrams may be lost in general, but not on loopback with so few of them.
async fn echo(open: &mut Stream) {
    open.write_all(b"still here").await.unwrap();
    open.flush().await.unwrap();
    let mut back = [0; 10];
    timeout(DEADLINE, open.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"still here");
}

async fn wait_for_streams(running: &Running, count: usize) {
    let started = Instant::now();
    while running.control.status().await.unwrap().counts.streams != count {
        assert!(started.elapsed() < DEADLINE, "streams do not end");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Without the check, a target that trusts the header would take it from the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_to_be_told_who_connects_keeps_no_stream_without() {
    let fixture = Fixture::start().await;
    let told = |line: &str| line.replace("\"]", ",proxy\"]");
    for number in [1, 3] {
        let (target, line) = &fixture.kinds[number];
        fixture.running.change_rights(line).await;
        let mut without = fixture.running.open(target).await.unwrap();
        fixture.running.change_rights(&told(line)).await;
        assert_eq!(reset_of(&mut without).await, Some(ResetCode::NotAllowed), "{line}");
        // A stream whose target was told may stay when that is no longer required.
        let mut with = fixture.running.open(target).await.unwrap();
        fixture.running.change_rights(line).await;
        let mut header = [0; 16];
        timeout(DEADLINE, with.read_exact(&mut header)).await.unwrap().unwrap();
        assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{header:?}");
    }
}

/// The server checks the file without a request, and with it every stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_written_by_hand_counts_for_the_next_stream_of_a_channel() {
    let fixture = Fixture::start().await;
    let (tcp, line) = &fixture.kinds[1];
    fixture.running.change_rights(line).await;
    let mut channel = fixture.running.connect().await.unwrap();
    fixture.running.write_rights("messages = true");
    let started = Instant::now();
    loop {
        match channel.open(tcp).await {
            Ok(open) => channel = open.finish().await.unwrap(),
            Err(OpenError::Refused { code: RefusedCode::NotAllowed, .. }) => return,
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < Duration::from_secs(5), "the file is not looked at");
    }
}

/// A change that one channel finds in the file applies to all channels at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_written_by_hand_ends_what_others_have_open_once_anybody_looks() {
    let fixture = Fixture::start().await;
    let (tcp, line) = &fixture.kinds[1];
    fixture.running.change_rights(line).await;
    let mut open = fixture.running.open(tcp).await.unwrap();
    fixture.running.write_rights("messages = true");
    // The wait is longer than a check of the file stays valid.
    sleep(Duration::from_millis(200)).await;
    echo(&mut open).await;
    assert!(fixture.running.open(&Target::Message).await.is_ok());
    let started = Instant::now();
    assert_eq!(reset_of(&mut open).await, Some(ResetCode::NotAllowed));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_makes_no_sense_keeps_others_out_and_one_that_is_gone_ends_what_is_open() {
    let fixture = Fixture::start().await;
    let running = &fixture.running;
    let (tcp, line) = &fixture.kinds[1];
    running.change_rights(line).await;
    let mut channel = running.open(tcp).await.unwrap();
    let good = std::fs::read(running.access_path()).unwrap();

    std::fs::write(running.access_path(), "[[psk]\n").unwrap();
    assert!(running.control.recheck().await);
    assert!(running.connect().await.is_err());
    echo(&mut channel).await;
    std::fs::write(running.access_path(), good).unwrap();
    assert!(running.control.recheck().await);
    echo(&mut channel).await;

    std::fs::remove_file(running.access_path()).unwrap();
    assert!(running.control.recheck().await);
    echo(&mut channel).await;
    // The file may come back within a second.
    sleep(Duration::from_millis(1100)).await;
    assert!(running.control.recheck().await);
    assert_eq!(reset_of(&mut channel).await, Some(ResetCode::NotAllowed));
    assert!(running.connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_expires_ends_what_is_open_at_that_moment() {
    let fixture = Fixture::start().await;
    let (tcp, line) = &fixture.kinds[1];
    let expires = jiff::Timestamp::now() + Duration::from_secs(2);
    fixture.running.change_rights(&format!("{line}\nexpires = \"{expires}\"")).await;
    let mut channel = fixture.running.open(tcp).await.unwrap();
    assert_eq!(reset_of(&mut channel).await, Some(ResetCode::NotAllowed));
    let late = jiff::Timestamp::now().duration_since(expires);
    assert!((0..5).contains(&late.as_secs()) && !late.is_negative(), "{late}");
    assert!(fixture.running.connect().await.is_err());
}

/// A repair of the file must not disconnect clients, nor extend the stay of any beyond the file's rights.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_expires_also_while_the_file_cannot_be_used() {
    let fixture = Fixture::start().await;
    let running = &fixture.running;
    let (tcp, line) = &fixture.kinds[1];
    let expires = jiff::Timestamp::now() + Duration::from_secs(2);
    running.change_rights(&format!("{line}\nexpires = \"{expires}\"")).await;
    let mut channel = running.open(tcp).await.unwrap();
    std::fs::write(running.access_path(), "[[psk]\n").unwrap();
    assert!(running.control.recheck().await);
    echo(&mut channel).await;
    assert_eq!(reset_of(&mut channel).await, Some(ResetCode::NotAllowed));
    assert!(jiff::Timestamp::now() >= expires);
}

/// Otherwise a client could take a connection that comes in between a change and its holder's end, and keep it
/// forever.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_parked_only_with_the_right_to_listen() {
    let fixture = Fixture::start().await;
    let running = &fixture.running;
    running.change_rights(&fixture.rights(|_| true)).await;
    let target = listening();
    let Target::Listen { lease, .. } = &target else { panic!("{target}") };
    let _holder = running.open(&target).await.unwrap();
    let mut parked = running.connect().await.unwrap();
    running.write_rights(&fixture.rights(|number| number != 5));
    // The wait is longer than a check of the file stays valid.
    sleep(Duration::from_millis(200)).await;
    parked.park(*lease).await.unwrap();
    // The end comes before the server's own check of the file. Where the holder has lost the lease already, there
    // is no lease to park for.
    let ended = timeout(Duration::from_secs(5), parked.next_incoming()).await.unwrap();
    assert!(matches!(ended, Ok(Incoming::Close)) || is_revoked(&ended.unwrap_err()));
}

fn is_revoked(error: &std::io::Error) -> bool {
    matches!(stream::error_in(error), Some(wire_protocol::Error::Reset(ResetCode::NotAllowed)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_takes_nobody_in_and_keeps_nobody() {
    let fixture = Fixture::start().await;
    let (tcp, line) = &fixture.kinds[1];
    fixture.running.change_rights(line).await;
    let mut open = fixture.running.open(tcp).await.unwrap();
    let mut idle = fixture.running.connect().await.unwrap();
    echo(&mut open).await;
    fixture.running.server.abort();
    let error = timeout(DEADLINE, open.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert!(!is_revoked(&error), "{error}");
    assert!(timeout(DEADLINE, idle.next_incoming()).await.unwrap().is_err());
    assert!(fixture.running.is_gone().await);
}
