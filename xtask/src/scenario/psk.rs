//! Goal: two sides that share a key need no RSA, and a revoked or foreign key is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{DEADLINE, Exit, Harness, Server, ping, set_mode, shared_key, until, word};
use crate::scenario::registration::scenarios;

scenarios![
    shared_key_is_all_that_two_sides_need,
    several_keys_are_told_apart,
    unknown_key_opens_nothing,
    key_with_a_known_name_and_another_secret_opens_nothing,
    revoked_key_opens_nothing,
    revoked_key_opens_nothing_while_its_revocation_cannot_be_read,
    pipe_works_with_a_shared_key,
    shared_key_that_others_can_read_is_refused,
    shared_key_file_that_is_none_is_named,
];

fn shared_key_is_all_that_two_sides_need(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let psk = word(&file)?;
    let server = Server::start(harness, &home, &["--psk", psk])?;
    let client = harness.home()?;
    harness.client(&client, &["send", server.address(), "shared", "--psk", psk]).run()?.expect(Exit::Done)?;
    server.printed("[laptop] shared")?;
    let report = ping(harness, &harness.home()?, server.address(), &["--psk", psk])?;
    ensure!(report["mode"] == "psk" && report["server_key"].is_null(), "{report}");
    Ok(())
}

fn several_keys_are_told_apart(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let files = [shared_key(harness, &home, "laptop")?, shared_key(harness, &home, "phone")?];
    let [laptop, phone] = [word(&files[0])?, word(&files[1])?];
    ensure!(std::fs::read(laptop)? != std::fs::read(phone)?, "two names, one key");
    let server = Server::start(harness, &home, &["--psk", laptop, "--psk", phone])?;
    for (psk, name) in [(laptop, "laptop"), (phone, "phone")] {
        let arguments = ["send", server.address(), "hello", "--psk", psk];
        harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
        server.printed(&format!("[{name}] hello"))?;
    }
    Ok(())
}

/// One key was made for another server, and the other one was not given to this server.
fn unknown_key_opens_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let elsewhere = harness.home()?;
    let laptop = shared_key(harness, &home, "laptop")?;
    let server = Server::start(harness, &home, &["--psk", word(&laptop)?])?;
    for stranger in [shared_key(harness, &home, "phone")?, shared_key(harness, &elsewhere, "tablet")?] {
        let arguments = ["send", server.address(), "let me in", "--psk", word(&stranger)?];
        let outcome = harness.client(&harness.home()?, &arguments).run()?;
        outcome.expect_any(&[Exit::Identity, Exit::Refused])?.error_names(&[])?;
    }
    serves_only(harness, &server, &laptop)
}

fn key_with_a_known_name_and_another_secret_opens_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let guess = shared_key(harness, &home, "laptop")?;
    let guessed = home.write("guess.psk", std::fs::read(&guess)?)?;
    let laptop = shared_key(harness, &home, "laptop")?;
    let server = Server::start(harness, &home, &["--psk", word(&laptop)?])?;
    let arguments = ["send", server.address(), "let me in", "--psk", word(&guessed)?];
    let outcome = harness.client(&harness.home()?, &arguments).run()?;
    outcome.expect_any(&[Exit::Identity, Exit::Refused])?.error_names(&[])?;
    serves_only(harness, &server, &laptop)
}

fn revoked_key_opens_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let files = [shared_key(harness, &home, "laptop")?, shared_key(harness, &home, "phone")?];
    let [laptop, phone] = [word(&files[0])?, word(&files[1])?];
    let arguments = ["--psk", laptop, "--psk", phone];
    let server = Server::start(harness, &home, &arguments)?;
    let client = harness.home()?;
    let send = |server: &Server, psk: &str, text: &str| {
        harness.client(&client, &["send", server.address(), text, "--psk", psk]).run()
    };
    send(&server, phone, "while I can")?.expect(Exit::Done)?;
    harness.server(&home, &["revoke", "phone"]).run()?.expect(Exit::Done)?;
    // The second attempt could resume the channel of the first one, so its ticket has to be void, too.
    let refused = send(&server, phone, "once more")?.expect_any(&[Exit::Identity, Exit::Refused])?;
    refused.error_names(&["phone"])?.hint_names(&["server keygen --psk"])?;
    send(&server, laptop, "I still can")?.expect(Exit::Done)?;
    server.process.signal(Signal::TERM)?;
    server.finish()?.expect(Exit::Done)?;

    // The revocation applies after a restart, whatever the command line says.
    let server = Server::start(harness, &home, &arguments)?;
    send(&server, phone, "and now")?.expect_any(&[Exit::Identity, Exit::Refused])?;
    Ok(())
}

/// The list is missing, is a dangling link, or is writable for everyone. Its content is unknown then, and
/// must not count as empty.
fn revoked_key_opens_nothing_while_its_revocation_cannot_be_read(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let files = [shared_key(harness, &home, "laptop")?, shared_key(harness, &home, "phone")?];
    let [laptop, phone] = [word(&files[0])?, word(&files[1])?];
    let arguments = ["--psk", laptop, "--psk", phone];
    let client = harness.home()?;
    let send = |server: &Server, psk: &str| {
        harness.client(&client, &["send", server.address(), "hello", "--psk", psk]).run()
    };
    let server = Server::start(harness, &home, &arguments)?;
    harness.server(&home, &["revoke", "phone"]).run()?.expect(Exit::Done)?;
    let (list, aside) = (home.file("clients.toml"), home.file("aside"));
    for damage in ["is gone", "leads nowhere", "mode 0666"] {
        match damage {
            "is gone" => fs::rename(&list, &aside)?,
            "leads nowhere" => {
                fs::rename(&list, &aside)?;
                symlink("/no/such/place", &list)?;
            }
            _ => set_mode(&list, 0o666)?,
        }
        until(DEADLINE, damage, || send(&server, laptop)?.expect(Exit::Refused).map(drop))?;
        send(&server, phone)?.expect_any(&[Exit::Identity, Exit::Refused]).context(damage)?;
        server.logged(&["clients.toml", damage, "nobody is let in until this is mended"])?;
        // A new server does not start with such a list.
        let fresh = harness.server(&home, &[&["--listen", "127.0.0.1:0"], &arguments[..]].concat()).run()?;
        fresh.expect(Exit::Usage)?.error_names(&["clients.toml", damage])?.hint_names(&[])?;
        if aside.exists() {
            fs::rename(&aside, &list)?;
        }
        set_mode(&list, 0o600)?;
        until(DEADLINE, "what was mended", || send(&server, laptop)?.expect(Exit::Done).map(drop))?;
        send(&server, phone)?.expect_any(&[Exit::Identity, Exit::Refused]).context(damage)?;
    }
    Ok(())
}

fn pipe_works_with_a_shared_key(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let psk = word(&file)?;
    let mut server = Server::start(harness, &home, &["pipe", "--psk", psk])?;
    server.process.write(b"down")?;
    server.process.close_input();
    let arguments = ["pipe", server.address(), "--psk", psk];
    let outcome = harness.client(&harness.home()?, &arguments).input("up").run()?;
    outcome.expect(Exit::Done)?.expect_stdout(b"down")?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"up")?;
    Ok(())
}

fn shared_key_that_others_can_read_is_refused(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    set_mode(&file, 0o644)?;
    let psk = word(&file)?;
    harness
        .server(&home, &["run", "--listen", "127.0.0.1:0", "--psk", psk])
        .run()?
        .expect(Exit::Usage)?
        .error_names(&[psk])?;
    harness
        .client(&home, &["send", "127.0.0.1:9", "x", "--psk", psk])
        .run()?
        .expect(Exit::Usage)?
        .error_names(&[psk])?;
    Ok(())
}

fn shared_key_file_that_is_none_is_named(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let missing = home.file("missing.psk");
    let garbage = home.write("garbage.psk", "not a key at all\n")?;
    let whole = std::fs::read(shared_key(harness, &home, "laptop")?)?;
    let short = home.write("short.psk", &whole[..whole.len() / 2])?;
    for file in [&missing, &garbage, &short] {
        let psk = word(file)?;
        let arguments = ["send", "127.0.0.1:9", "x", "--psk", psk];
        harness.client(&home, &arguments).run()?.expect(Exit::Usage)?.error_names(&[psk])?;
    }
    Ok(())
}

fn serves_only(harness: &Harness, server: &Server, psk: &Path) -> Result<()> {
    let arguments = ["send", server.address(), "mine", "--psk", word(psk)?];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
    server.printed("[laptop] mine")?;
    ensure!(!server.process.stdout.text().contains("let me in"), "a stranger's message was printed");
    Ok(())
}
