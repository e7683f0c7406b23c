//! Goal: the classic exchanges of our own two programs with each other, their files and their limits.

use anyhow::{Context as _, Result, ensure};

use crate::scenario::psk::word;
use crate::scenario::scenarios;
use crate::stage::{Exit, Home, Outcome, PATIENCE, Process, Stage, Visitor};

scenarios![
    rsa_from_each_program_to_the_other,
    rsa_key_is_kept_in_the_home,
    rsa_message_too_long_names_the_limit,
    rsa_garbage_is_no_message,
    eax_from_each_program_to_the_other,
    eax_key_of_a_wrong_size_is_named,
    eax_wrong_key_prints_nothing,
    every_start_warns,
    sides_that_wait_for_each_other_say_so,
];

/// Starts `PROGRAM classic ARGUMENTS --listen` and returns it with its address.
pub(super) fn listening(
    stage: &Stage,
    program: &str,
    home: &Home,
    arguments: &[&str],
    input: &[u8],
) -> Result<(Process, String)> {
    let mut command = stage.program(program);
    command.arg("--home").arg(home).arg("classic").args(arguments).args(["--listen", "127.0.0.1:0"]);
    let mut process = Process::start(command)?;
    process.feed(std::io::Cursor::new(input.to_vec()))?;
    let address = address(&process)?;
    Ok((process, address))
}

/// The address in a program's `listening on` line.
pub(super) fn address(process: &Process) -> Result<String> {
    let line = process.stderr.wait_line(PATIENCE, |line| line.contains("listening on "))?;
    let address = line.split_once("listening on ").context("no address")?.1;
    Ok(address.trim().to_owned())
}

/// Runs `PROGRAM classic ARGUMENTS --connect ADDRESS` to its end.
pub(super) fn connecting(
    stage: &Stage,
    program: &str,
    home: &Home,
    address: &str,
    arguments: &[&str],
    input: &[u8],
) -> Result<Outcome> {
    let arguments = [&["classic"], arguments, &["--connect", address]].concat();
    let run = match program {
        "server" => stage.server(home, &arguments),
        _ => stage.client(home, &arguments),
    };
    run.input(input).run()
}

const PAIRS: [(&str, &str); 2] = [("server", "client"), ("client", "server")];

fn rsa_from_each_program_to_the_other(stage: &Stage) -> Result<()> {
    let homes = [stage.home()?, stage.home()?];
    for (listener, connector) in PAIRS {
        let (receiver, at) = listening(stage, listener, &homes[0], &["rsa-oaep", "--receive"], b"")?;
        connecting(stage, connector, &homes[1], &at, &["rsa-oaep", "--send", "Hello, World!"], b"")?
            .expect(Exit::Done)?;
        receiver.finish()?.expect(Exit::Done)?.expect_stdout(b"Hello, World!")?;

        let (sender, at) =
            listening(stage, listener, &homes[0], &["rsa-oaep", "--send", "-"], b"from\0input\n")?;
        let outcome = connecting(stage, connector, &homes[1], &at, &["rsa-oaep", "--receive"], b"")?;
        outcome.expect(Exit::Done)?.expect_stdout(b"from\0input\n")?;
        sender.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}

fn rsa_key_is_kept_in_the_home(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (receiver, at) = listening(stage, "server", &home, &["rsa-oaep", "--receive"], b"")?;
        let visitor = Visitor::connect(&at)?;
        visitor.received().wait_line(PATIENCE, |line| line.starts_with("-----BEGIN PUBLIC KEY-----"))?;
        visitor.close_write();
        keys.push(visitor.closed_within(PATIENCE)?);
        receiver.finish()?.expect_failure()?.expect_stdout(b"")?;
    }
    ensure!(keys[0] == keys[1], "a second start has another key");
    ensure!(home.read("classic.key")?.contains("PRIVATE KEY"), "classic.key is no private key");
    Ok(())
}

fn rsa_message_too_long_names_the_limit(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    let (receiver, at) = listening(stage, "server", &home, &["rsa-oaep", "--receive"], b"")?;
    let text = "x".repeat(215);
    let outcome = connecting(stage, "client", &home, &at, &["rsa-oaep", "--send", &text], b"")?;
    outcome.expect(Exit::Usage)?.error_names(&["214"])?;
    receiver.finish()?.expect_failure()?.expect_stdout(b"")?;
    Ok(())
}

fn rsa_garbage_is_no_message(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    for garbage in [&b""[..], b"short", &[0x5a; 256], &[0xff; 256], &[0; 100_000]] {
        let (receiver, at) = listening(stage, "server", &home, &["rsa-oaep", "--receive"], b"")?;
        let mut visitor = Visitor::connect(&at)?;
        visitor.send(garbage);
        visitor.close_write();
        receiver.finish()?.expect_failure()?.error_names(&[])?.expect_stdout(b"")?;
    }
    Ok(())
}

fn eax_from_each_program_to_the_other(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    for (name, key) in [("raw", vec![7; 16]), ("hex", b"000102030405060708090a0b0c0d0e0f\n".to_vec())] {
        let file = home.write(name, key)?;
        let key = ["--key-file", word(&file)?];
        for (listener, connector) in PAIRS {
            let receive = [&["aes-eax", "--receive"], &key[..]].concat();
            let send = [&["aes-eax", "--send", "Hello, World!"], &key[..]].concat();
            let (receiver, at) = listening(stage, listener, &home, &receive, b"")?;
            connecting(stage, connector, &home, &at, &send, b"")?.expect(Exit::Done)?;
            receiver.finish()?.expect(Exit::Done)?.expect_stdout(b"Hello, World!")?;
            let (sender, at) = listening(stage, listener, &home, &send, b"")?;
            let outcome = connecting(stage, connector, &home, &at, &receive, b"")?;
            outcome.expect(Exit::Done)?.expect_stdout(b"Hello, World!")?;
            sender.finish()?.expect(Exit::Done)?;
        }
    }
    Ok(())
}

fn eax_key_of_a_wrong_size_is_named(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    for key in [&b""[..], &[1; 15], &[1; 17], &[1; 33], b"00010203", b"zz0102030405060708090a0b0c0d0e0f"] {
        // 32 printable characters that are no hexadecimal are a raw key of 32 bytes.
        if key.len() == 32 {
            continue;
        }
        let file = home.write("eax.key", key)?;
        let arguments = ["aes-eax", "--send", "hello", "--key-file", word(&file)?];
        let outcome = connecting(stage, "client", &home, "127.0.0.1:9", &arguments, b"")?;
        outcome.expect(Exit::Usage)?.error_names(&[word(&file)?])?;
    }
    let missing = home.file("missing");
    let arguments = ["aes-eax", "--send", "hello", "--key-file", word(&missing)?];
    let outcome = connecting(stage, "client", &home, "127.0.0.1:9", &arguments, b"")?;
    outcome.expect(Exit::Usage)?.error_names(&[word(&missing)?])?;
    Ok(())
}

fn eax_wrong_key_prints_nothing(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    let files = [home.write("one", [1; 16])?, home.write("two", [2; 16])?];
    let receive = ["aes-eax", "--receive", "--key-file", word(&files[0])?];
    let (receiver, at) = listening(stage, "server", &home, &receive, b"")?;
    let send = ["aes-eax", "--send", "hello", "--key-file", word(&files[1])?];
    connecting(stage, "client", &home, &at, &send, b"")?.expect(Exit::Done)?;
    receiver.finish()?.expect(Exit::Integrity)?.error_names(&[])?.expect_stdout(b"")?;
    Ok(())
}

fn every_start_warns(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    let file = home.write("eax.key", [1; 16])?;
    let eax = ["aes-eax", "--receive", "--key-file", word(&file)?];
    for program in ["server", "client"] {
        for arguments in [&["rsa-oaep", "--receive"][..], &eax] {
            let (process, _) = listening(stage, program, &home, arguments, b"")?;
            process.stderr.wait_line(PATIENCE, |line| {
                line.contains("authenticated")
                    && (line.contains("forward-secret") || line.contains("forward secre"))
            })?;
        }
    }
    Ok(())
}

/// Two receivers, and two senders of which each waits for the other's key.
fn sides_that_wait_for_each_other_say_so(stage: &Stage) -> Result<()> {
    let home = stage.home()?;
    let key = home.write("eax.key", [1; 16])?;
    let eax = ["aes-eax", "--receive", "--key-file", word(&key)?];
    let send = ["rsa-oaep", "--send", "hello"];
    for arguments in [&eax[..], &send] {
        let (listener, at) = listening(stage, "server", &home, arguments, b"")?;
        let arguments = [arguments, &["--timeout", "300ms"]].concat();
        let outcome = connecting(stage, "client", &home, &at, &arguments, b"")?;
        outcome.expect(Exit::TimedOut)?.error_names(&["300ms"])?.expect_stdout(b"")?;
        listener.finish()?.expect(Exit::Integrity)?.expect_stdout(b"")?;
    }
    let (listener, at) = listening(stage, "server", &home, &["rsa-oaep", "--receive"], b"")?;
    let outcome = connecting(stage, "client", &home, &at, &["rsa-oaep", "--receive"], b"")?;
    outcome.expect(Exit::Integrity)?.error_names(&["receive"])?.expect_stdout(b"")?;
    listener.finish()?.expect_failure()?.expect_stdout(b"")?;
    let nobody = ["classic", "rsa-oaep", "--receive", "--listen", "127.0.0.1:0", "--timeout", "50ms"];
    stage.server(&home, &nobody).run()?.expect(Exit::TimedOut)?.error_names(&["50ms"])?;
    Ok(())
}
