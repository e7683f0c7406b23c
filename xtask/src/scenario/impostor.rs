//! Goal: a client that reaches an impostor in its server's place ends in time, always with an error.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Exit, Harness, Impostor, Key, Outcome, Process, Run, Then, noise};
use crate::scenario::registration::scenarios;

scenarios![
    silent_server_is_a_time_out,
    other_protocols_are_no_server,
    server_that_hangs_up_is_an_error,
    malformed_answers_are_errors,
    random_answer_is_an_error,
    weak_server_key_is_refused,
    closed_port_is_a_network_error,
];

/// This is the only scenario that waits for the client's own time-out.
fn silent_server_is_a_time_out(harness: &Harness) -> Result<()> {
    let impostor = Impostor::start(Vec::new(), Then::StaySilent)?;
    let outcome = send(harness, &impostor.address())?.expect(Exit::TimedOut)?;
    outcome.error_names(&[&impostor.address()])?;
    Ok(())
}

fn other_protocols_are_no_server(harness: &Harness) -> Result<()> {
    for text in [
        &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ] {
        for then in [Then::Close, Then::StaySilent] {
            let impostor = Impostor::start(text.to_vec(), then)?;
            not_a_server(send(harness, &impostor.address())?)?;
        }
    }
    Ok(())
}

fn server_that_hangs_up_is_an_error(harness: &Harness) -> Result<()> {
    let impostor = Impostor::start(Vec::new(), Then::Close)?;
    not_a_server(send(harness, &impostor.address())?)
}

fn malformed_answers_are_errors(harness: &Harness) -> Result<()> {
    let long_offer = [&b"SKS\x01\x02\x00\x20\x00"[..], &[0; 0x2000]].concat();
    let repeated = b"SKS\x01\x02\x00\x00\x00".repeat(10_000);
    for answer in [
        &b"SKS\x01\x02\x00\xff\xff"[..],
        b"SKS\x01\x02\x00\x00\x00",
        b"SKS\x01\x01\x00\x00\x00",
        b"SKS\x01\x04\x00\x00\x00",
        b"SKS\x01\x09\x00\x00\x00",
        b"SKS\x07\x02\x00\x00\x00",
        b"SKS\x01\x05\x00\x00\x00",
        b"SKS\x01\x05\x00\x00\x04\xff\xff\xff\xff",
        b"SKS\x01\x02\x00\x00\x08\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"SKS\x01",
        &long_offer,
        &repeated,
    ] {
        let impostor = Impostor::start(answer.to_vec(), Then::Close)?;
        let shown = format!("{:02x?}", &answer[..answer.len().min(16)]);
        not_a_server(send(harness, &impostor.address())?).context(shown)?;
    }
    Ok(())
}

fn random_answer_is_an_error(harness: &Harness) -> Result<()> {
    for prefix in [&b""[..], b"SKS\x01\x02\x00\x08\x00"] {
        let impostor = Impostor::start([prefix, &noise(1024 * 1024)?].concat(), Then::Close)?;
        not_a_server(send(harness, &impostor.address())?)?;
    }
    Ok(())
}

/// A key of 1024 bits is refused for its size, before any secret is encrypted to it.
fn weak_server_key_is_refused(harness: &Harness) -> Result<()> {
    let mut command = harness.peer("rsa_key.py")?;
    command.args(["1024", "public-der"]);
    let key = Process::start(command)?.finish()?.expect(Exit::Done)?.stdout;
    let body = [&u64::try_from(key.len())?.to_be_bytes(), key.as_slice()].concat();
    let length = u16::try_from(body.len())?.to_be_bytes();
    let offer = [&b"SKS\x01\x02\x00"[..], &length, &body].concat();
    let impostor = Impostor::start(offer, Then::StaySilent)?;
    let arguments = ["send", &impostor.address(), "hello", "--trust", "accept-new"];
    let outcome = harness.client(&harness.home()?, &arguments).run()?;
    outcome.expect_any(&[Exit::Identity, Exit::Integrity])?.error_names(&["2048"])?;
    Ok(())
}

fn closed_port_is_a_network_error(harness: &Harness) -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let home = harness.home_with(Key::Alice)?;
    for command in ["send", "pipe", "ping"] {
        let run: Run = harness.client(&home, &[command, &free, "--trust", "accept-new"]);
        run.input("hello").run()?.expect(Exit::Network)?.error_names(&[&free])?;
    }
    Ok(())
}

fn send(harness: &Harness, address: &str) -> Result<Outcome> {
    harness.client(&harness.home()?, &["send", address, "hello", "--trust", "accept-new"]).run()
}

fn not_a_server(outcome: Outcome) -> Result<()> {
    let outcome = outcome.expect_failure()?.error_names(&[])?;
    ensure!(!outcome.stderr.contains("panicked"), "a panic:\n{}", outcome.stderr);
    ensure!(!outcome.stderr.contains('\u{1b}'), "a control character from the peer:\n{:?}", outcome.stderr);
    Ok(())
}
