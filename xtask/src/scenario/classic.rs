//! Goal: the two programs complete the classic exchanges with each other, and enforce the rules for files and limits.

use anyhow::{Result, ensure};

use crate::harness::{DEADLINE, Exit, Harness, Visitor, connecting, listening, word};
use crate::scenario::registration::scenarios;

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

const PAIRS: [(&str, &str); 2] = [("server", "client"), ("client", "server")];

fn rsa_from_each_program_to_the_other(harness: &Harness) -> Result<()> {
    let homes = [harness.home()?, harness.home()?];
    for (listener, connector) in PAIRS {
        let (receiver, at) = listening(harness, listener, &homes[0], &["rsa-oaep", "--receive"], b"")?;
        connecting(harness, connector, &homes[1], &at, &["rsa-oaep", "--send", "Hello, World!"], b"")?
            .expect(Exit::Done)?;
        receiver.finish()?.expect(Exit::Done)?.expect_stdout(b"Hello, World!")?;

        let (sender, at) =
            listening(harness, listener, &homes[0], &["rsa-oaep", "--send", "-"], b"from\0input\n")?;
        let outcome = connecting(harness, connector, &homes[1], &at, &["rsa-oaep", "--receive"], b"")?;
        outcome.expect(Exit::Done)?.expect_stdout(b"from\0input\n")?;
        sender.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}

fn rsa_key_is_kept_in_the_home(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (receiver, at) = listening(harness, "server", &home, &["rsa-oaep", "--receive"], b"")?;
        let visitor = Visitor::connect(&at)?;
        visitor.received().wait_line(DEADLINE, |line| line.starts_with("-----BEGIN PUBLIC KEY-----"))?;
        visitor.close_write();
        keys.push(visitor.closed_within(DEADLINE)?);
        receiver.finish()?.expect_failure()?.expect_stdout(b"")?;
    }
    ensure!(keys[0] == keys[1], "a second start has another key");
    ensure!(home.read("classic.key")?.contains("PRIVATE KEY"), "classic.key is no private key");
    Ok(())
}

fn rsa_message_too_long_names_the_limit(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let (receiver, at) = listening(harness, "server", &home, &["rsa-oaep", "--receive"], b"")?;
    let text = "x".repeat(215);
    let outcome = connecting(harness, "client", &home, &at, &["rsa-oaep", "--send", &text], b"")?;
    outcome.expect(Exit::Usage)?.error_names(&["214"])?;
    receiver.finish()?.expect_failure()?.expect_stdout(b"")?;
    Ok(())
}

fn rsa_garbage_is_no_message(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for garbage in [&b""[..], b"short", &[0x5a; 256], &[0xff; 256], &[0; 100_000]] {
        let (receiver, at) = listening(harness, "server", &home, &["rsa-oaep", "--receive"], b"")?;
        let mut visitor = Visitor::connect(&at)?;
        visitor.send(garbage);
        visitor.close_write();
        receiver.finish()?.expect_failure()?.error_names(&[])?.expect_stdout(b"")?;
    }
    Ok(())
}

fn eax_from_each_program_to_the_other(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for (name, key) in [("raw", vec![7; 16]), ("hex", b"000102030405060708090a0b0c0d0e0f\n".to_vec())] {
        let file = home.write(name, key)?;
        let key = ["--key-file", word(&file)?];
        for (listener, connector) in PAIRS {
            let receive = [&["aes-eax", "--receive"], &key[..]].concat();
            let send = [&["aes-eax", "--send", "Hello, World!"], &key[..]].concat();
            let (receiver, at) = listening(harness, listener, &home, &receive, b"")?;
            connecting(harness, connector, &home, &at, &send, b"")?.expect(Exit::Done)?;
            receiver.finish()?.expect(Exit::Done)?.expect_stdout(b"Hello, World!")?;
            let (sender, at) = listening(harness, listener, &home, &send, b"")?;
            let outcome = connecting(harness, connector, &home, &at, &receive, b"")?;
            outcome.expect(Exit::Done)?.expect_stdout(b"Hello, World!")?;
            sender.finish()?.expect(Exit::Done)?;
        }
    }
    Ok(())
}

fn eax_key_of_a_wrong_size_is_named(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for key in [&b""[..], &[1; 15], &[1; 17], &[1; 33], b"00010203", b"zz0102030405060708090a0b0c0d0e0f"] {
        // A key of 32 printable characters that are not hexadecimal is a valid raw key of 32 bytes.
        if key.len() == 32 {
            continue;
        }
        let file = home.write("eax.key", key)?;
        let arguments = ["aes-eax", "--send", "hello", "--key-file", word(&file)?];
        let outcome = connecting(harness, "client", &home, "127.0.0.1:9", &arguments, b"")?;
        outcome.expect(Exit::Usage)?.error_names(&[word(&file)?])?;
    }
    let missing = home.file("missing");
    let arguments = ["aes-eax", "--send", "hello", "--key-file", word(&missing)?];
    let outcome = connecting(harness, "client", &home, "127.0.0.1:9", &arguments, b"")?;
    outcome.expect(Exit::Usage)?.error_names(&[word(&missing)?])?;
    Ok(())
}

fn eax_wrong_key_prints_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let files = [home.write("one", [1; 16])?, home.write("two", [2; 16])?];
    let receive = ["aes-eax", "--receive", "--key-file", word(&files[0])?];
    let (receiver, at) = listening(harness, "server", &home, &receive, b"")?;
    let send = ["aes-eax", "--send", "hello", "--key-file", word(&files[1])?];
    connecting(harness, "client", &home, &at, &send, b"")?.expect(Exit::Done)?;
    receiver.finish()?.expect(Exit::Integrity)?.error_names(&[])?.expect_stdout(b"")?;
    Ok(())
}

fn every_start_warns(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = home.write("eax.key", [1; 16])?;
    let eax = ["aes-eax", "--receive", "--key-file", word(&file)?];
    for program in ["server", "client"] {
        for arguments in [&["rsa-oaep", "--receive"][..], &eax] {
            let (process, _) = listening(harness, program, &home, arguments, b"")?;
            process.stderr.wait_line(DEADLINE, |line| {
                line.contains("authenticated")
                    && (line.contains("forward-secret") || line.contains("forward secre"))
            })?;
        }
    }
    Ok(())
}

/// The scenario connects two receivers, and two senders that each wait for the other's key.
fn sides_that_wait_for_each_other_say_so(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let key = home.write("eax.key", [1; 16])?;
    let eax = ["aes-eax", "--receive", "--key-file", word(&key)?];
    let send = ["rsa-oaep", "--send", "hello"];
    for arguments in [&eax[..], &send] {
        let (listener, at) = listening(harness, "server", &home, arguments, b"")?;
        let arguments = [arguments, &["--timeout", "300ms"]].concat();
        let outcome = connecting(harness, "client", &home, &at, &arguments, b"")?;
        outcome.expect(Exit::TimedOut)?.error_names(&["300ms"])?.expect_stdout(b"")?;
        listener.finish()?.expect(Exit::Integrity)?.expect_stdout(b"")?;
    }
    let (listener, at) = listening(harness, "server", &home, &["rsa-oaep", "--receive"], b"")?;
    let outcome = connecting(harness, "client", &home, &at, &["rsa-oaep", "--receive"], b"")?;
    outcome.expect(Exit::Integrity)?.error_names(&["receive"])?.expect_stdout(b"")?;
    listener.finish()?.expect_failure()?.expect_stdout(b"")?;
    let nobody = ["classic", "rsa-oaep", "--receive", "--listen", "127.0.0.1:0", "--timeout", "50ms"];
    harness.server(&home, &nobody).run()?.expect(Exit::TimedOut)?.error_names(&["50ms"])?;
    Ok(())
}
