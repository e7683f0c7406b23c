//! Whom the client names where a connection that it carries ends early: the target, or what is at its own side, and the
//! server only where the channel itself has failed.

use rustix::net::sockopt::set_socket_linger;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use wire_protocol::message::{RefusedCode, Target};

use super::scene::{Answer, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_client_that_has_left_is_no_failure_of_the_channel() {
    let scene = Scene::new().await;
    let client = scene.client(&["forward", &scene.address, "-D", "0"]);
    let mut opens = scene.take_opens();
    let visitor = ask_proxy(&client.said("dynamic ").await).await;
    let (stream, _) = opens.next().await;
    // It is reset: a reply to it cannot be written.
    set_socket_linger(&visitor, Some(std::time::Duration::ZERO)).unwrap();
    drop(visitor);
    let _stream = Answer::Data.give(stream).await;
    client.logged(&["the connection to db:80 ended early", "could not be written"]).await;
    expect_no_blame(&client.stop().await.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_refused_is_named() {
    let scene = Scene::new().await;
    let client = scene.client(&["forward", &scene.address, "-L", "0:db:1", "-L", "0:db:53/udp", "-D", "0"]);
    let mut opens = scene.take_opens();
    let refuse = async |stream| {
        let idle = Answer::Refuse(RefusedCode::TargetRefused).give(stream).await;
        idle.unwrap()
    };

    let _proxied = ask_proxy(&client.said("dynamic ").await).await;
    let (stream, _) = opens.next().await;
    opens.wait_on(refuse(stream).await);
    client.logged(&["no connection to db:80 through", "the target refused"]).await;

    let mut visitor = TcpStream::connect(client.said("local ").await).await.unwrap();
    visitor.write_all(b"hello").await.unwrap();
    let (stream, _) = opens.next().await;
    opens.wait_on(refuse(stream).await);
    client.logged(&["no connection to db:1 through", "the target refused"]).await;

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let line = client.logged(&["-> db:53/udp"]).await;
    let address = line.split_whitespace().nth(1).unwrap().strip_suffix("/udp").unwrap();
    socket.send_to(b"question", address).await.unwrap();
    let (stream, target) = opens.next().await;
    assert_eq!(target, Target::Udp { host: "db".into(), port: 53 });
    opens.wait_on(refuse(stream).await);
    client.logged(&["no connection to db:53/udp through", "the target refused"]).await;

    expect_no_blame(&client.stop().await.stderr);
}

fn expect_no_blame(log: &str) {
    for blame in ["the channel with", "the pipe to"] {
        assert!(!log.contains(blame), "{log}");
    }
}

/// Asks for `db:80` in SOCKS5.
async fn ask_proxy(address: &str) -> TcpStream {
    let mut visitor = TcpStream::connect(address).await.unwrap();
    visitor.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x02db\x00\x50").await.unwrap();
    visitor
}
