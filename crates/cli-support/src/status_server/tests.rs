//! Tests of the status server, with requests as bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::accept_loop::rooms;
use super::*;
use crate::admin::{Counts, Status};
use crate::hardening::raise_descriptor_limit;
use crate::report::{Exit, Report as _};

#[derive(Debug, Default)]
struct TestSite {
    is_draining: AtomicBool,
    asked: AtomicU64,
    has_ended: AtomicBool,
}

impl Site for TestSite {
    fn status(&self) -> Reply<'_, Option<Status>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let counts =
                Counts { channels: 2, streams: 1, leases: 0, idle_channels: 1, dropped_datagrams: 0 };
            let status = Status::of_this_process("server\u{1b}", Instant::now(), 1, counts);
            (!self.has_ended.load(Ordering::SeqCst)).then_some(status)
        })
    }

    fn is_ready(&self) -> bool {
        !self.is_draining.load(Ordering::SeqCst)
    }

    fn tick(&self) -> Reply<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn history(&self) -> Reply<'_, Option<String>> {
        Box::pin(std::future::ready(Some("{}".into())))
    }

    fn metrics(&self, format: MetricsFormat) -> Reply<'_, Option<String>> {
        Box::pin(std::future::ready(Some(format!("{format:?}\n"))))
    }
}

fn options(address: &str) -> StatusOptions {
    StatusOptions { address: Some(Address::listening(address).unwrap()), ..StatusOptions::default() }
}

async fn start() -> (StatusServer, Arc<TestSite>, String) {
    let site = Arc::new(TestSite::default());
    let asked: Arc<dyn Site> = site.clone();
    let server = StatusServer::start(&options("127.0.0.1:0"), asked).await.unwrap().unwrap();
    let address = server.addresses()[0].to_string();
    (server, site, address)
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset at the end takes nothing of what was read.
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the connection ends").ok();
    String::from_utf8(bytes).unwrap()
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.ok();
    read_all(&mut stream).await
}

async fn ask(address: &str, request: &str) -> String {
    exchange(TcpStream::connect(address).await.unwrap(), request).await
}

async fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_has_its_answer_and_each_answer_its_headers() {
    let (_server, site, address) = start().await;
    for (path, status, kind) in [
        ("/", "200 OK", "text/html; charset=utf-8"),
        ("/?theme=dark", "200 OK", "text/html; charset=utf-8"),
        ("/page.css", "200 OK", "text/css; charset=utf-8"),
        ("/page.js", "200 OK", "text/javascript; charset=utf-8"),
        ("/status.json", "200 OK", "application/json"),
        ("/healthz", "200 OK", "text/plain; charset=utf-8"),
        ("/readyz", "200 OK", "text/plain; charset=utf-8"),
        ("/metrics", "200 OK", "text/plain; version=0.0.4; charset=utf-8"),
        ("/status.json/", "404 Not Found", "text/plain; charset=utf-8"),
        ("/../etc/passwd", "404 Not Found", "text/plain; charset=utf-8"),
        ("//", "404 Not Found", "text/plain; charset=utf-8"),
        ("/%2e", "404 Not Found", "text/plain; charset=utf-8"),
    ] {
        let answer = get(&address, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        for header in [
            &format!("content-type: {kind}\r\n"),
            "cache-control: no-store\r\n",
            "x-content-type-options: nosniff\r\n",
            "cross-origin-resource-policy: same-origin\r\n",
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; ",
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n",
        ] {
            assert!(answer.contains(header), "{path}: {header}: {answer}");
        }
        assert!(!answer.contains("access-control"), "{answer}");
    }
    let status = get(&address, "/status.json").await;
    assert!(
        status.contains("\"program\":\"server\\u001b\"") && status.contains("\"channels\":2"),
        "{status}"
    );
    let accept = "GET /metrics HTTP/1.1\r\nHost: [::1]\r\nAccept: application/openmetrics-text\r\n\
        Connection: close\r\n\r\n";
    assert!(ask(&address, accept).await.ends_with("\r\n\r\nOpenMetrics\n"));

    site.is_draining.store(true, Ordering::SeqCst);
    let answer = get(&address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
    assert!(get(&address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    site.has_ended.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(get(&address, "/status.json").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn what_is_not_to_read_or_not_for_this_host_is_refused() {
    let (_server, _site, address) = start().await;
    let host = "Host: localhost";
    for (request, status) in [
        (format!("POST / HTTP/1.1\r\n{host}\r\nContent-Length: 3\r\n\r\nabc"), "405 "),
        (format!("DELETE /status.json HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"), "405 "),
        (format!("OPTIONS * HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"), "405 "),
        (format!("CONNECT localhost:1 HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"), "405 "),
        (format!("BREW / HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"), "405 "),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".into(), "421 "),
        ("POST / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".into(), "421 "),
        (format!("GET http://evil.example/ HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n"), "421 "),
        ("GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".into(), "421 "),
        ("GET / HTTP/1.1\r\nHost: local\u{e4}host\r\nConnection: close\r\n\r\n".into(), "421 "),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".into(), "400 "),
        (format!("GET / HTTP/1.1\r\n{host}\r\n{host}\r\nConnection: close\r\n\r\n"), "400 "),
        ("GET / HTTP/1.0\r\n\r\n".into(), "400 "),
        (format!("GET / HTTP/1.0\r\n{host}\r\n\r\n"), "200 "),
        (format!("GET / HTTP/1.1\r\n{host}\r\nContent-Length: 5\r\n\r\nhello"), "200 "),
        (format!("GET / HTTP/1.1\r\n{host}\r\nContent-Length: x\r\n\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\n{host}\r\nX: {}\r\n\r\n", "x".repeat(9000)), "431 "),
        (format!("GET / HTTP/1.1\r\n{host}\r\n{}\r\n", "X: x\r\n".repeat(100)), "431 "),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n\r\n", "x".repeat(9000)), "4"),
        ("hello\r\n\r\n".into(), "400 "),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\r\n\r\n".into(), "400 "),
    ] {
        let answer = ask(&address, &request).await;
        let is_expected = answer.split_once(' ').is_some_and(|(_, rest)| rest.starts_with(status));
        assert!(is_expected, "{request}: {answer}");
        assert_eq!(answer.contains("allow: GET, HEAD\r\n"), status == "405 ", "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_head_has_no_body_and_requests_may_come_together_or_in_pieces() {
    let (_server, site, address) = start().await;
    let request =
        |method: &str, end: &str| format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\n{end}\r\n");
    let answer = ask(&address, &request("HEAD", "Connection: close\r\n")).await;
    assert!(answer.contains("content-length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");

    let many = format!("{}{}", request("GET", "").repeat(50), request("GET", "Connection: close\r\n"));
    assert_eq!(ask(&address, &many).await.matches("\r\n\r\nok\n").count(), 51);

    let mut stream = TcpStream::connect(&address).await.unwrap();
    for byte in request("GET", "Connection: close\r\n").as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_all(&mut stream).await.ends_with("\r\n\r\nok\n"));

    for _ in 0..20 {
        get(&address, "/status.json").await;
    }
    // Who asks often within a moment is told the same.
    assert!(site.asked.load(Ordering::SeqCst) < 20);
}

#[tokio::test]
async fn slow_clients_hold_their_places_for_a_while_and_others_are_told_so() {
    let (_server, _site, address) = start().await;
    let (places, _) = rooms(raise_descriptor_limit());
    let mut slow = Vec::new();
    for _ in 0..places {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    let begun = Instant::now();
    loop {
        let answer = get(&address, "/healthz").await;
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(
                answer.contains("retry-after: 1\r\n") && answer.ends_with("\r\n\r\ntoo many connections\n")
            );
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{answer}");
    }
    for mut stream in slow {
        let answer = read_all(&mut stream).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert!(get(&address, "/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_unix_socket_serves_too_and_its_file_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status");
    let address = format!("unix:{}", path.display());
    let site: Arc<dyn Site> = Arc::new(TestSite::default());
    let server = StatusServer::start(&options(&address), Arc::clone(&site)).await.unwrap().unwrap();
    assert_eq!(server.urls(), std::slice::from_ref(&address));
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), request).await;
    assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");
    let second = StatusServer::start(&options(&address), site).await.unwrap_err();
    assert!(matches!(second, Error::StatusListen { .. }), "{second}");
    drop(server);
    assert!(!path.exists());
}

#[tokio::test]
async fn addresses_that_others_reach_need_a_word_for_it() {
    let site = || -> Arc<dyn Site> { Arc::new(TestSite::default()) };
    assert!(StatusServer::start(&StatusOptions::default(), site()).await.unwrap().is_none());
    for address in ["0.0.0.0:0", "[::]:0", "*:0"] {
        let error = StatusServer::start(&options(address), site()).await.unwrap_err();
        assert!(matches!(error, Error::StatusExposed { .. }), "{error}");
        assert!(error.exit() == Exit::Usage && error.hint().unwrap().contains("--status-anywhere"));
    }
    let anywhere = StatusOptions { anywhere: true, ..options("0.0.0.0:0") };
    let server = StatusServer::start(&anywhere, site()).await.unwrap().unwrap();
    let port = server.addresses()[0].to_string().rsplit_once(':').unwrap().1.to_owned();
    assert!(get(&format!("127.0.0.1:{port}"), "/healthz").await.starts_with("HTTP/1.1 200 "));
}

/// Longest wait for the end of a connection, more than a slow one has.
const DEADLINE: Duration = Duration::from_secs(10);
