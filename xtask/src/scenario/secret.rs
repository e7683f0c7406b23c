//! Goal: no log at any level, and no command line, holds a key or a message.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Exit, Harness, Key, Server, shared_key, word};
use crate::scenario::registration::scenarios;

scenarios![logs_hold_no_message_and_no_key, private_files_are_private];

fn logs_hold_no_message_and_no_key(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let file = shared_key(harness, &home, "laptop")?;
    let psk = word(&file)?;
    // The first run uses a shared key, and the second one RSA and a key of the client.
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    for arguments in [&["-v", "--psk", psk][..], &["-v"]] {
        let arguments = [&["--home", word(home.path())?], arguments, &["--listen", "127.0.0.1:0"]].concat();
        let mut command = harness.program("server");
        command.args(&arguments).env("RUST_LOG", "trace");
        let server = Server::from_process(crate::harness::Process::start(command)?)?;
        let trust = match server.key() {
            Ok(key) => ["--server-key", key],
            Err(_) => ["--psk", psk],
        };
        let mut logs = String::new();
        // A second run covers tickets, too.
        for _ in 0..2 {
            let send = [&["-v", "send", server.address(), MESSAGE][..], &trust].concat();
            let run = harness.client(&alice, &send).environment("RUST_LOG", "trace").run()?;
            logs.push_str(&run.expect(Exit::Done)?.stderr);
        }
        server.process.stdout.wait_line(DEADLINE, |line| line.contains(MESSAGE))?;
        logs.push_str(&server.stop()?.expect(Exit::Done)?.stderr);
        ensure!(!logs.contains(MESSAGE), "the message is in the log");
        for secret in secrets(&std::fs::read_to_string(&file)?)? {
            ensure!(!logs.contains(&secret), "the shared key is in the log");
        }
        for file in ["server.key", "ticket-keys"] {
            let Ok(pem) = home.read(file) else { continue };
            let leaked = pem.lines().filter(|line| line.len() >= 40).any(|line| logs.contains(line));
            ensure!(!leaked, "a line of {file} is in the log");
        }
    }
    Ok(())
}

/// Keys, tickets and their folders are accessible only to their owner.
fn private_files_are_private(harness: &Harness) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let home = harness.home()?;
    let server = Server::start(harness, &home, &["--ticket-keys", word(&home.file("ticket-keys"))?])?;
    let client = harness.home()?;
    harness.client(&client, &["keygen", "--bits", "2048"]).run()?.expect(Exit::Done)?;
    let arguments = ["send", server.address(), "hello", "--trust", "accept-new"];
    harness.client(&client, &arguments).run()?.expect(Exit::Done)?;
    let mut private = vec![home.file("server.key"), home.file("ticket-keys"), client.file("client.key")];
    for ticket in std::fs::read_dir(client.file("tickets")).context("tickets")? {
        private.push(ticket?.path());
    }
    ensure!(private.len() > 3, "no ticket was kept");
    for path in private {
        let mode = std::fs::metadata(&path).with_context(|| path.display().to_string())?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{} has mode {:o}", path.display(), mode & 0o777);
    }
    Ok(())
}

/// Returns the long words of a shared key's file, among them its secret in whatever form it is written.
fn secrets(text: &str) -> Result<Vec<String>> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || "+/=-_".contains(character);
    let words = text.split(|character| !is_word(character)).filter(|word| word.len() >= 40);
    // The id of the server is public, since every hello contains it.
    let words: Vec<String> = words.map(str::to_owned).collect();
    ensure!(!words.is_empty(), "a shared key's file without a secret in it");
    Ok(words)
}

const MESSAGE: &str = "a message that belongs into no log";
