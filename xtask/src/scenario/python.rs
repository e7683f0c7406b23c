//! Goal: programs written with PyCryptodome in the style of the tutorials and our programs understand each other.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Exit, Harness, Home, Lines, Outcome, Process, address, connecting, listening, word};
use crate::scenario::registration::scenarios;

scenarios![
    rsa_to_python,
    rsa_from_python,
    rsa_from_the_tutorials_own_program,
    rsa_changed_on_the_way_is_refused,
    rsa_with_sha256,
    rsa_public_keys_in_other_layouts_and_forms,
    rsa_with_1024_bits_is_received_and_not_sent,
    eax_with_other_lengths_and_a_key_of_digits,
    eax_to_python,
    eax_from_python,
    eax_of_sixteen_mebibytes,
    eax_changed_on_the_way_is_refused,
];

/// Messages that are empty, short, beyond ASCII, binary, and as long as 2048 bits can hold.
fn messages() -> [Vec<u8>; 5] {
    [
        Vec::new(),
        b"Hello, World!".to_vec(),
        "소켓 통신의 데이터 암호화 🦀".as_bytes().to_vec(),
        (0..=u8::MAX).step_by(2).collect(),
        vec![b'x'; 214],
    ]
}

fn rsa_to_python(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for message in messages() {
        for program in ["server", "client"] {
            let peer = start(harness, "rsa_receiver.py", &["--listen"], b"")?;
            connecting(harness, program, &home, &address(&peer)?, &["rsa-oaep", "--send", "-"], &message)?
                .expect(Exit::Done)?;
            peer.finish()?.expect(Exit::Done)?.expect_stdout(&message)?;
        }
        let (sender, at) = listening(harness, "server", &home, &["rsa-oaep", "--send", "-"], &message)?;
        let peer = start(harness, "rsa_receiver.py", &["--connect", &at], b"")?;
        peer.finish()?.expect(Exit::Done)?.expect_stdout(&message)?;
        sender.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}

fn rsa_from_python(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for message in messages() {
        for program in ["server", "client"] {
            let peer = start(harness, "rsa_sender.py", &["--listen"], &message)?;
            let outcome =
                connecting(harness, program, &home, &address(&peer)?, &["rsa-oaep", "--receive"], b"")?;
            outcome.expect(Exit::Done)?.expect_stdout(&message)?;
            peer.finish()?.expect(Exit::Done)?;
        }
        let (receiver, at) = listening(harness, "server", &home, &["rsa-oaep", "--receive"], b"")?;
        start(harness, "rsa_sender.py", &["--connect", &at], &message)?.finish()?.expect(Exit::Done)?;
        receiver.finish()?.expect(Exit::Done)?.expect_stdout(&message)?;
    }
    Ok(())
}

/// The tutorial's program sends its public key and a ciphertext under that same key. Our program reads the
/// private key from a file.
fn rsa_from_the_tutorials_own_program(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for (number, message) in messages().iter().enumerate() {
        let key = home.file(&format!("tutorial-{number}.pem"));
        let peer = start(harness, "tutorial_rsa.py", &[word(&key)?], message)?;
        let arguments = ["rsa-oaep", "--receive", "--private-key", word(&key)?];
        let outcome = connecting(harness, "client", &home, &address(&peer)?, &arguments, b"")?;
        outcome.expect(Exit::Done)?.expect_stdout(message)?;
        peer.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}

fn rsa_changed_on_the_way_is_refused(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let (receiver, at) = listening(harness, "server", &home, &["rsa-oaep", "--receive"], b"")?;
    start(harness, "rsa_sender.py", &["--connect", &at, "tampered"], b"hello")?
        .finish()?
        .expect(Exit::Done)?;
    receiver.finish()?.expect(Exit::Integrity)?.error_names(&[])?.expect_stdout(b"")?;
    Ok(())
}

/// With SHA-256, 2048 bits hold at most 190 bytes.
fn rsa_with_sha256(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let message = vec![b'x'; 190];
    let peer = start(harness, "rsa_receiver.py", &["--listen", "sha256"], b"")?;
    let send = ["rsa-oaep", "--oaep-hash", "sha256", "--send", "-"];
    connecting(harness, "client", &home, &address(&peer)?, &send, &message)?.expect(Exit::Done)?;
    peer.finish()?.expect(Exit::Done)?.expect_stdout(&message)?;
    let receive = ["rsa-oaep", "--oaep-hash", "sha256", "--receive"];
    let (receiver, at) = listening(harness, "server", &home, &receive, b"")?;
    start(harness, "rsa_sender.py", &["--connect", &at, "sha256"], &message)?.finish()?.expect(Exit::Done)?;
    receiver.finish()?.expect(Exit::Done)?.expect_stdout(&message)?;

    let (receiver, at) = listening(harness, "server", &home, &receive, b"")?;
    start(harness, "rsa_sender.py", &["--connect", &at], b"hello")?.finish()?.expect(Exit::Done)?;
    receiver.finish()?.expect(Exit::Integrity)?.hint_names(&["--oaep-hash"])?.expect_stdout(b"")?;
    Ok(())
}

fn rsa_public_keys_in_other_layouts_and_forms(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let send = ["rsa-oaep", "--send", "hello"];
    for form in ["pkcs1", "one-line", "columns-76"] {
        let peer = start(harness, "rsa_receiver.py", &["--listen", form], b"")?;
        connecting(harness, "client", &home, &address(&peer)?, &send, b"")?
            .expect(Exit::Done)
            .context(form)?;
        peer.finish()?.expect(Exit::Done)?.expect_stdout(b"hello")?;
    }
    for (form, name) in [("jwk", "JSON Web Key"), ("ssh", "SSH public key"), ("der", "DER")] {
        let peer = start(harness, "rsa_receiver.py", &["--listen", form], b"")?;
        let refused =
            connecting(harness, "client", &home, &address(&peer)?, &send, b"")?.expect(Exit::Identity)?;
        refused.error_names(&[name])?.hint_names(&["BEGIN PUBLIC KEY"])?;
        peer.finish()?;
    }
    Ok(())
}

fn rsa_with_1024_bits_is_received_and_not_sent(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let peer = start(harness, "rsa_receiver.py", &["--listen", "1024"], b"")?;
    let send = ["rsa-oaep", "--send", "hello"];
    let refused =
        connecting(harness, "client", &home, &address(&peer)?, &send, b"")?.expect(Exit::Identity)?;
    refused.error_names(&["1024", "2048"])?.hint_names(&["2048"])?;
    peer.finish()?;

    let mut maker = harness.peer("rsa_key.py")?;
    maker.args(["1024", "pkcs1"]);
    let key = home.write("small.pem", Process::start(maker)?.finish()?.expect(Exit::Done)?.stdout)?;
    let receive = ["rsa-oaep", "--receive", "--key", word(&key)?];
    let (receiver, at) = listening(harness, "server", &home, &receive, b"")?;
    start(harness, "rsa_sender.py", &["--connect", &at], b"hello")?.finish()?.expect(Exit::Done)?;
    let received = receiver.finish()?.expect(Exit::Done)?.expect_stdout(b"hello")?;
    ensure!(received.stderr.contains("1024 bits"), "no warning: {}", received.stderr);
    Ok(())
}

/// The Python program reads 32 digits as 32 bytes, and ours reads them as 16 bytes in hexadecimal unless it
/// is told otherwise.
fn eax_with_other_lengths_and_a_key_of_digits(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let key = home.write("digits.key", "000102030405060708090a0b0c0d0e0f")?;
    let key = word(&key)?;
    for (nonce, tag) in [("8", "4"), ("12", "16"), ("32", "2")] {
        let lengths = ["--nonce-length", nonce, "--tag-length", tag];
        let raw = ["--key-file", key, "--key-format", "raw"];
        let send = [&["aes-eax", "--send", "hello"][..], &raw, &lengths].concat();
        let theirs = [key, "lengths", nonce, tag];
        let peer = start(harness, "eax_receiver.py", &[&["--listen"], &theirs[..]].concat(), b"")?;
        connecting(harness, "client", &home, &address(&peer)?, &send, b"")?.expect(Exit::Done)?;
        peer.finish()?.expect(Exit::Done)?.expect_stdout(b"hello")?;

        let receive = [&["aes-eax", "--receive"][..], &raw, &lengths].concat();
        let (receiver, at) = listening(harness, "server", &home, &receive, b"")?;
        let theirs = [&["--connect", &at], &theirs[..]].concat();
        start(harness, "eax_sender.py", &theirs, b"hello")?.finish()?.expect(Exit::Done)?;
        receiver.finish()?.expect(Exit::Done)?.expect_stdout(b"hello")?;
    }
    let receive = ["aes-eax", "--receive", "--key-file", key];
    let (receiver, at) = listening(harness, "server", &home, &receive, b"")?;
    start(harness, "eax_sender.py", &["--connect", &at, key], b"hello")?.finish()?.expect(Exit::Done)?;
    let refused = receiver.finish()?.expect(Exit::Integrity)?.expect_stdout(b"")?;
    ensure!(refused.stderr.contains("--key-format raw"), "no warning: {}", refused.stderr);
    Ok(())
}

fn eax_to_python(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for key in keys(&home)? {
        for message in messages() {
            eax_there(harness, &home, &key, &message)?;
        }
    }
    Ok(())
}

fn eax_from_python(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for key in keys(&home)? {
        for message in messages() {
            eax_back(harness, &home, &key, &message)?;
        }
    }
    Ok(())
}

fn eax_of_sixteen_mebibytes(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let [key, ..] = keys(&home)?;
    let message = Lines::of_length(16 * 1024 * 1024).bytes()?;
    eax_there(harness, &home, &key, &message)?;
    eax_back(harness, &home, &key, &message)
}

/// The changes are one bit of the nonce, of the tag or of the text, and a missing end.
fn eax_changed_on_the_way_is_refused(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let [key, ..] = keys(&home)?;
    let harm = [
        ["flip", "0"],
        ["flip", "15"],
        ["flip", "16"],
        ["flip", "31"],
        ["flip", "32"],
        ["flip", "44"],
        ["keep", "0"],
        ["keep", "31"],
        ["keep", "32"],
        ["keep", "44"],
    ];
    for harm in harm {
        let arguments = ["aes-eax", "--receive", "--key-file", &key.ours];
        let (receiver, at) = listening(harness, "server", &home, &arguments, b"")?;
        let arguments = [&["--connect", &at, key.theirs.as_str()], &harm[..]].concat();
        start(harness, "eax_sender.py", &arguments, b"Hello, World!")?.finish()?.expect(Exit::Done)?;
        let outcome = receiver.finish()?.expect(Exit::Integrity).with_context(|| format!("{harm:?}"))?;
        outcome.error_names(&[])?.expect_stdout(b"")?;
    }
    Ok(())
}

fn eax_there(harness: &Harness, home: &Home, key: &EaxKey, message: &[u8]) -> Result<()> {
    let arguments = ["aes-eax", "--send", "-", "--key-file", &key.ours];
    let peer = start(harness, "eax_receiver.py", &["--listen", &key.theirs], b"")?;
    connecting(harness, "client", home, &address(&peer)?, &arguments, message)?.expect(Exit::Done)?;
    peer.finish()?.expect(Exit::Done)?.expect_stdout(message)?;

    let (sender, at) = listening(harness, "server", home, &arguments, message)?;
    let peer = start(harness, "eax_receiver.py", &["--connect", &at, &key.theirs], b"")?;
    peer.finish()?.expect(Exit::Done)?.expect_stdout(message)?;
    sender.finish()?.expect(Exit::Done)?;
    Ok(())
}

fn eax_back(harness: &Harness, home: &Home, key: &EaxKey, message: &[u8]) -> Result<()> {
    let arguments = ["aes-eax", "--receive", "--key-file", &key.ours];
    let peer = start(harness, "eax_sender.py", &["--listen", &key.theirs], message)?;
    let outcome: Outcome = connecting(harness, "client", home, &address(&peer)?, &arguments, b"")?;
    outcome.expect(Exit::Done)?.expect_stdout(message)?;
    peer.finish()?.expect(Exit::Done)?;

    let (receiver, at) = listening(harness, "server", home, &arguments, b"")?;
    start(harness, "eax_sender.py", &["--connect", &at, &key.theirs], message)?
        .finish()?
        .expect(Exit::Done)?;
    receiver.finish()?.expect(Exit::Done)?.expect_stdout(message)?;
    Ok(())
}

/// The file of a key for our programs, and the file of the same key for Python.
struct EaxKey {
    ours: String,
    theirs: String,
}

/// Returns keys of 128 bits, raw and as text, and of 192 and 256 bits.
fn keys(home: &Home) -> Result<[EaxKey; 4]> {
    let bytes: Vec<u8> = (1..=32).map(|number: u8| number.wrapping_mul(89)).collect();
    let text: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let file = |name: &str, bytes: &[u8]| {
        Ok::<_, anyhow::Error>(word(Path::new(&home.write(name, bytes)?))?.to_owned())
    };
    let raw = file("eax-16", &bytes[..16])?;
    let hex = file("eax-16-text", format!("{text}\n").as_bytes())?;
    let [long, longest] = [file("eax-24", &bytes[..24])?, file("eax-32", &bytes)?];
    Ok([
        EaxKey { ours: raw.clone(), theirs: raw.clone() },
        EaxKey { ours: hex, theirs: raw },
        EaxKey { ours: long.clone(), theirs: long },
        EaxKey { ours: longest.clone(), theirs: longest },
    ])
}

fn start(harness: &Harness, program: &str, arguments: &[&str], input: &[u8]) -> Result<Process> {
    let mut command = harness.peer(program)?;
    command.args(arguments);
    let mut peer = Process::start(command)?;
    peer.feed(Cursor::new(input.to_vec()))?;
    Ok(peer)
}
