//! Goal: all bytes that enter one end of a pipe leave the other end, in both directions at once, followed by
//! the end of the input.

use std::io::{Cursor, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};

use crate::harness::{
    DEADLINE, Exit, Fixture, Harness, Key, Lines, PHRASE, Process, Server, Tap, Way, digest, digest_of,
};
use crate::scenario::registration::scenarios;

scenarios![
    both_ways_at_once_byte_for_byte,
    every_byte_value_and_odd_sizes_pass,
    client_that_has_said_all_still_listens,
    server_that_has_said_all_still_listens,
    nothing_at_all_is_a_good_pipe,
    conversation_is_not_held_back,
    next_client_finds_nobody,
    banner_names_the_pipe_command,
    input_and_output_may_be_one_socket,
];

fn both_ways_at_once_byte_for_byte(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    let tap = Tap::before(server.address())?;
    let [up, down] = [Lines::of_length(64 * 1024 * 1024), Lines::of_length(24 * 1024 * 1024 + 7)];
    server.process.feed(down.clone())?;
    let arguments = ["pipe", &tap.address(), "--server-key", server.key()?];
    // It has to be there for as long as the client is.
    let home = harness.home()?;
    let mut client = harness.client(&home, &arguments).start()?;
    client.feed(up.clone())?;
    let received_down = client.finish()?.expect(Exit::Done)?.stdout;
    let received_up = server.finish()?.expect(Exit::Done)?.stdout;
    for (way, sent, received) in [(Way::Up, up, received_up), (Way::Down, down, received_down)] {
        let (length, hash) = digest_of(sent)?;
        ensure!(u64::try_from(received.len())? == length, "{way:?}: {} of {length} bytes", received.len());
        ensure!(digest(&received) == hash, "{way:?}: other bytes came out");
        let crossed = tap.bytes(way);
        ensure!(crossed.len() > received.len(), "{way:?}: the bytes did not cross the tap");
        ensure!(memchr::memmem::find(&crossed, PHRASE).is_none(), "{way:?}: plaintext on the wire");
    }
    Ok(())
}

/// The payloads have sizes around a record's 16,384 bytes, and contain every byte value.
fn every_byte_value_and_odd_sizes_pass(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for size in [1, 255, 16_383, 16_384, 16_385, 100_001] {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        let mut server = Server::start(harness, &home, &["pipe", "--anyone"])?;
        server.process.feed(Cursor::new(payload.clone()))?;
        let arguments = ["pipe", server.address(), "--server-key", server.key()?];
        let outcome = harness.client(&harness.home()?, &arguments).input(payload.clone()).run()?;
        outcome.expect(Exit::Done)?.expect_stdout(&payload)?;
        server.finish()?.expect(Exit::Done)?.expect_stdout(&payload)?;
    }
    Ok(())
}

fn client_that_has_said_all_still_listens(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    // It has to be there for as long as the client is.
    let home = harness.home()?;
    let mut client = harness.client(&home, &arguments).start()?;
    client.write(b"question")?;
    client.close_input();
    server.process.stdout.wait_len(DEADLINE, b"question".len())?;
    server.process.write(b"answer")?;
    server.process.close_input();
    client.finish()?.expect(Exit::Done)?.expect_stdout(b"answer")?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"question")?;
    Ok(())
}

fn server_that_has_said_all_still_listens(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    server.process.write(b"question")?;
    server.process.close_input();
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    // It has to be there for as long as the client is.
    let home = harness.home()?;
    let mut client = harness.client(&home, &arguments).start()?;
    client.stdout.wait_len(DEADLINE, b"question".len())?;
    client.write(b"answer")?;
    client.close_input();
    client.finish()?.expect(Exit::Done)?.expect_stdout(b"question")?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"answer")?;
    Ok(())
}

fn nothing_at_all_is_a_good_pipe(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    server.process.close_input();
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?.expect_stdout(b"")?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"")?;
    Ok(())
}

/// A single byte is sent at once, and not only when a buffer is full.
fn conversation_is_not_held_back(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    // It has to be there for as long as the client is.
    let home = harness.home()?;
    let mut client = harness.client(&home, &arguments).start()?;
    for turn in 1..=20 {
        client.write(b"?")?;
        server.process.stdout.wait_len(DEADLINE, turn)?;
        server.process.write(b"!")?;
        client.stdout.wait_len(DEADLINE, turn)?;
    }
    client.close_input();
    server.process.close_input();
    client.finish()?.expect(Exit::Done)?.expect_stdout(&[b'!'; 20])?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(&[b'?'; 20])?;
    Ok(())
}

/// A pipe serves one client, and the server ends after it.
fn next_client_finds_nobody(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    server.process.close_input();
    let address = server.address().to_owned();
    let key = server.key()?.to_owned();
    let arguments = ["pipe", &address, "--server-key", &key];
    harness.client(&harness.home()?, &arguments).input("one").run()?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"one")?;
    let outcome = harness.client(&harness.home()?, &arguments).input("two").run()?;
    outcome.expect(Exit::Network)?.error_names(&[&address])?;
    Ok(())
}

fn banner_names_the_pipe_command(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    let command = format!("client pipe {}", server.address());
    server.process.stderr.wait_line(DEADLINE, |line| line.contains(&command))?;
    Ok(())
}

/// inetd, systemd's Accept=yes and socat give a program one socket for both. A mere close would not end the
/// direction, since the input is still open.
fn input_and_output_may_be_one_socket(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    let home = harness.home()?;
    let (near, far) = UnixStream::pair()?;
    let client = Process::start_over(harness.client(&home, &arguments).into_command(), far)?;
    server.process.write(b"question")?;
    server.process.close_input();
    answered_behind_the_end(near)?;
    client.finish()?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"answer")?;

    let (near, far) = UnixStream::pair()?;
    let mut command = harness.program("server");
    let server_home = harness.home_with(Key::Server)?;
    command.arg("--home").arg(&server_home);
    command.args(["pipe", "--anyone", "--listen", "127.0.0.1:0"]);
    let server = Server::from_process(Process::start_over(command, far)?)?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    let mut client = harness.client(&home, &arguments).start()?;
    client.write(b"question")?;
    client.close_input();
    answered_behind_the_end(near)?;
    server.finish()?.expect(Exit::Done)?;
    client.finish()?.expect(Exit::Done)?.expect_stdout(b"answer")?;

    // The client does the same with `-W`, for a target that sends everything before it reads.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let target = listener.local_addr()?.to_string();
    let fixture = Fixture::open(harness, &["--tcp", &target])?;
    let address = fixture.address();
    let arguments = ["forward", &address, "--server-key", fixture.key(), "-W", &target];
    let (near, far) = UnixStream::pair()?;
    let client = Process::start_over(harness.client(fixture.alice(), &arguments).into_command(), far)?;
    let (mut plain, _) = listener.accept()?;
    plain.write_all(b"question")?;
    plain.shutdown(Shutdown::Write)?;
    answered_behind_the_end(near)?;
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer)?;
    ensure!(answer == b"answer", "the target got {answer:?}");
    client.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// Answers a question only after its direction has ended.
fn answered_behind_the_end(mut socket: UnixStream) -> Result<()> {
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut question = Vec::new();
    socket.read_to_end(&mut question)?;
    ensure!(question == b"question", "{question:?} came");
    socket.write_all(b"answer")?;
    socket.shutdown(Shutdown::Write)?;
    Ok(())
}
