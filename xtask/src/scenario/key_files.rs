//! Goal: keys from other programs are read, or refused with a hint that names a command to convert them, and
//! that command works.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Exit, Harness, Home, Process, Tool, word};
use crate::scenario::registration::scenarios;

scenarios![keys_of_other_programs_are_read_as_they_are, commands_make_keys_that_are_read];

const KEY: &str = include_str!("../../../crates/crypto-core/tests/fixtures/test-only-rsa-pkcs8.pem");
const PASSPHRASE: &str = "test only";

/// Shell commands that convert the key in the file `$K`, and write it to the file `$1` in a form that is read.
const READ: [&str; 6] = [
    "openssl pkcs8 -topk8 -v2 des3 -passout 'pass:test only' -in $K -out $1",
    "openssl pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA1 -passout 'pass:test only' -in $K -out $1",
    "cp $K $1; chmod 600 $1; ssh-keygen -q -p -m PKCS8 -P '' -N 'test only' -f $1",
    "(umask 077; (echo; openssl pkey -in $K -text; echo END) > $1)",
    "(umask 077; python -c 'from Crypto.PublicKey import RSA; import os; key = RSA.import_key(open(os.environ[\"K\"]).read());\
     print(key.export_key(passphrase=\"test only\", pkcs=8, protection=\"scryptAndAES256-CBC\").decode())' > $1)",
    "(umask 077; openssl pkey -in $K | tr -d '\\n' > $1)",
];

/// Shell commands that write a form that is refused, each with a word of the hint.
const NAMED: [(&str, &str); 11] = [
    ("openssl rsa -traditional -aes128 -passout 'pass:test only' -in $K -out $1", "openssl"),
    ("cp $K $1; chmod 600 $1; ssh-keygen -q -p -m PEM -P '' -N 'test only' -f $1", "openssl"),
    ("cp $K $1; chmod 600 $1; ssh-keygen -q -p -P '' -N 'test only' -f $1", "ssh-keygen"),
    (
        "(umask 077; python -c 'from Crypto.PublicKey import RSA; import os; \
         key = RSA.import_key(open(os.environ[\"K\"]).read()); print(key.export_key(passphrase=\"test only\").decode())' > $1)",
        "openssl",
    ),
    (
        "(umask 077; python -c 'from Crypto.PublicKey import RSA; import os; \
         key = RSA.import_key(open(os.environ[\"K\"]).read()); \
         print(key.export_key(passphrase=\"test only\", pkcs=8, protection=\"PBKDF2WithHMAC-SHA3-256AndAES256-CBC\").decode())' > $1)",
        "Crypto.PublicKey",
    ),
    ("openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout 'pass:test only' -in $K -out $1", "openssl"),
    (
        "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA512-256 -passout 'pass:test only' -in $K -out $1",
        "openssl",
    ),
    ("openssl pkey -outform DER -in $K -out $1", "-inform DER"),
    ("(umask 077; openssl pkey -outform DER -in $K | base64 > $1)", "PRIVATE KEY-----"),
    ("(umask 077; iconv -f UTF-8 -t UTF-16 $K > $1)", "iconv"),
    (
        "cp $K $1.ssh; chmod 600 $1.ssh; ssh-keygen -q -p -P '' -N '' -f $1.ssh; \
         printf 'test only' > $1.word; puttygen $1.ssh --new-passphrase $1.word -O private -o $1",
        "puttygen",
    ),
];

fn keys_of_other_programs_are_read_as_they_are(harness: &Harness) -> Result<()> {
    let (home, fingerprint) = start(harness)?;
    for recipe in READ {
        make(harness, &home, recipe)?;
        expect_read(harness, &home, &fingerprint).context(recipe)?;
    }
    Ok(())
}

fn commands_make_keys_that_are_read(harness: &Harness) -> Result<()> {
    Tool::PUTTYGEN.find()?;
    let (home, fingerprint) = start(harness)?;
    let key = home.file("client.key");
    let new = home.file("client.key.new");
    for (recipe, said) in NAMED {
        make(harness, &home, recipe)?;
        let refused = harness.client(&home, &["fingerprint"]).run()?.expect(Exit::Usage)?;
        let refused = refused.error_names(&[word(&key)?])?.hint_names(&[said]).context(recipe)?;
        ensure!(!refused.stderr.contains("--force"), "{recipe}: {}", refused.stderr);
        let hint = refused.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).context("no hint")?;
        let end = hint.find(" makes ").or(hint.find(" turns it ")).context("no command")?;
        typing(harness, &home, &["sh", "-c", &hint[..end]]).context(recipe)?;
        if new.exists() {
            std::fs::rename(&new, &key)?;
        }
        expect_read(harness, &home, &fingerprint).context(recipe)?;
    }
    Ok(())
}

/// Prepares a home with the key, and returns the key's fingerprint.
fn start(harness: &Harness) -> Result<(Home, String)> {
    for tool in [Tool::OPENSSL, Tool::SSH_KEYGEN] {
        tool.find()?;
    }
    let home = harness.home()?;
    home.write("client.key", KEY)?;
    let fingerprint = harness.fingerprint("client", &home)?;
    home.write("plain", KEY)?;
    Ok((home, fingerprint))
}

fn make(harness: &Harness, home: &Home, recipe: &str) -> Result<()> {
    let key = home.file("client.key");
    std::fs::remove_file(&key)?;
    typing(harness, home, &["sh", "-c", recipe, "sh", word(&key)?])?;
    Ok(())
}

fn expect_read(harness: &Harness, home: &Home, fingerprint: &str) -> Result<()> {
    let program = harness.program("client").get_program().to_owned();
    let program = word(Path::new(&program))?.to_owned();
    let shown = typing(harness, home, &[&program, "--home", word(home.path())?, "fingerprint"])?;
    ensure!(shown.contains(fingerprint), "{fingerprint} is not in {shown}");
    Ok(())
}

/// Runs a command at a terminal where the passphrase is typed, and returns its output.
fn typing(harness: &Harness, home: &Home, command: &[&str]) -> Result<String> {
    let python = harness.python()?;
    let folder = python.parent().context("no folder")?;
    let mut person = harness.peer("passphrase.py")?;
    person.arg(PASSPHRASE).args(command).env("K", home.file("plain"));
    person.env("PATH", format!("{}:{}", word(folder)?, std::env::var("PATH")?));
    let outcome = Process::start(person)?.finish_within(DEADLINE)?;
    Ok(outcome.expect(Exit::Done)?.text())
}
