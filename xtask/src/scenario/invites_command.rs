//! Goal: the owner of a server makes invites, sees what has become of them, and ends them, and no secret is left lying about.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Exit, Harness, Key, Outcome, Process, Server, set_mode, shared_key, wrapped};
use crate::scenario::invites::{invite, invites, join};
use crate::scenario::registration::scenarios;

scenarios![
    name_of_a_pending_invite_is_taken,
    list_tells_what_has_become_of_each_and_no_secret,
    files_are_private_and_the_image_too,
    what_cannot_be_invited_is_told,
    new_key_of_the_server_ends_its_invites,
    line_that_is_lost_ends_its_invite,
];

fn name_of_a_pending_invite_is_taken(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let line = invite(harness, &home, "127.0.0.1:1", &["--name", "alice"])?;
    ensure!(!line.is_empty());
    let key = harness.fingerprint("client", &alice)?;
    let allow = ["allow", &key, "--name", "alice"];
    harness
        .server(&home, &allow)
        .run()?
        .expect(Exit::Usage)?
        .error_names(&["alice"])?
        .hint_names(&["invites revoke"])?;
    let again = harness.server(&home, &["invite", "--address", "127.0.0.1:1", "--name", "alice"]).run()?;
    again.expect(Exit::Usage)?.error_names(&["alice"])?;
    harness.server(&home, &["invites", "revoke", "alice"]).run()?.expect(Exit::Done)?;
    harness.server(&home, &allow).run()?.expect(Exit::Done)?;
    let taken = harness.server(&home, &["invite", "--address", "127.0.0.1:1", "--name", "alice"]).run()?;
    taken.expect(Exit::Usage)?.error_names(&["another client is called \"alice\""])?;
    // One that has expired may come back, and its owner is told that nobody else may.
    let expired = ["allow", &key, "--name", "alice", "--expires", "2020-01-01T00:00:00Z"];
    harness.server(&home, &expired).run()?.expect(Exit::Done)?;
    let again = harness.server(&home, &["invite", "--address", "127.0.0.1:1", "--name", "alice"]).run()?;
    let said = again.expect(Exit::Done)?.stderr;
    ensure!(said.contains("alone can use the invite") && said.contains(&key), "{said}");
    Ok(())
}

fn list_tells_what_has_become_of_each_and_no_secret(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let server = Server::start(harness, &home, &[])?;
    let used = invite(harness, &home, server.address(), &["--name", "alice"])?;
    invite(harness, &home, server.address(), &["--service", "db"])?;
    join(harness, &alice, &used)?.expect(Exit::Done)?;
    let key = harness.fingerprint("client", &alice)?;
    let listed = harness.server(&home, &["invites"]).run()?.expect(Exit::Done)?.text();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split('\t').collect()).collect();
    ensure!(rows.len() == 2 && rows.iter().all(|row| row.len() == 4), "{listed}");
    ensure!(
        rows[0][0] == "alice" && rows[0][2].starts_with("used ") && rows[0][2].contains(&key),
        "{listed}"
    );
    ensure!(rows[1][0].starts_with("client-") && rows[1][2].starts_with("pending until "), "{listed}");
    ensure!(rows[1][1].len() == 10 && rows[1][3] == "--service db", "{listed}");
    let json = harness.server(&home, &["invites", "--json"]).run()?.expect(Exit::Done)?.text();
    ensure!(!json.contains("verifier") && !json.contains("bind"), "{json}");
    ensure!(home.read("invites.toml")?.contains("verifier"), "nothing is kept of the pending one");
    Ok(())
}

fn files_are_private_and_the_image_too(harness: &Harness) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let home = harness.home_with(Key::Server)?;
    let image = home.file("invite.png");
    let path = image.to_str().context("a path in UTF-8")?;
    invite(harness, &home, "127.0.0.1:1", &["--qr", path])?;
    ensure!(fs::read(&image)?.starts_with(b"\x89PNG\r\n"), "the image is no PNG");
    for file in [&image, &home.file("invites.toml")] {
        let mode = fs::metadata(file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{} has mode {mode:o}", file.display());
    }
    // An image that is there is kept, and no invite is made then.
    let again = harness.server(&home, &["invite", "--address", "127.0.0.1:1", "--qr", path]).run()?;
    again.expect(Exit::Usage)?.error_names(&["invite.png", "exists already"])?.hint_names(&["--qr"])?;
    ensure!(invites(harness, &home)?.len() == 1, "an invite was made");
    // A file that others can read is refused, and lets nobody in.
    set_mode(&home.file("invites.toml"), 0o644)?;
    harness.server(&home, &["invites"]).run()?.expect(Exit::Usage)?.error_names(&["invites.toml"])?;
    set_mode(&home.file("invites.toml"), 0o600)?;
    let good = home.read("invites.toml")?;
    home.write("invites.toml", good.replace("[[invite]]", "[[invite]]\ncolor = \"red\""))?;
    for command in [&["invites"][..], &["invite", "--address", "127.0.0.1:1"], &["check"], &[]] {
        harness.server(&home, command).run()?.expect(Exit::Usage)?.error_names(&["line 3", "color"])?;
    }
    ensure!(home.read("invites.toml")?.contains("color"), "a file that was not understood is overwritten");
    Ok(())
}

fn what_cannot_be_invited_is_told(harness: &Harness) -> Result<()> {
    let (home, fresh) = (harness.home_with(Key::Server)?, harness.home()?);
    let to = |address: &str, more: &[&str]| -> Result<Outcome> {
        harness.server(&home, &[&["invite", "--address", address], more].concat()).run()?.expect(Exit::Usage)
    };
    to("0.0.0.0:5000", &[])?.error_names(&["0.0.0.0:5000", "all addresses"])?;
    to("unix:/run/x", &[])?.error_names(&["unix socket"])?;
    to("127.0.0.1:1", &["--expires", "31d"])?.error_names(&["expire"])?.hint_names(&["30 days"])?;
    to("127.0.0.1:1", &["--expires", "2020-01-01T00:00:00Z"])?.error_names(&["expire"])?;
    to("127.0.0.1:1", &["--name", "a b"])?;
    ensure!(!home.file("invites.toml").exists(), "an invite was made");
    let keyless = harness.server(&fresh, &["invite", "--address", "127.0.0.1:1"]).run()?;
    keyless.expect(Exit::Usage)?.error_names(&["without an RSA key"])?;
    let config = home.write("server.toml", "listen = [\"0.0.0.0:5000\", \"[::]:5000\"]\n")?;
    let config = config.to_str().context("a path in UTF-8")?;
    let nowhere = harness.server(&home, &["invite", "--config", config]).run()?.expect(Exit::Usage)?;
    nowhere.error_names(&["nothing says"])?.hint_names(&["--address"])?;
    // What the configuration has is used, without the addresses that nobody can connect to.
    home.write("server.toml", "listen = [\"0.0.0.0:5000\", \"192.0.2.7:5000\"]\n")?;
    harness.server(&home, &["invite", "--config", config]).run()?.expect(Exit::Done)?;
    let psk = shared_key(harness, &home, "laptop")?;
    home.write("server.toml", format!("psk = [{psk:?}]\n"))?;
    let shared = harness.server(&home, &["invite", "--config", config, "--address", "127.0.0.1:1"]).run()?;
    shared.expect(Exit::Usage)?.error_names(&["without an RSA key"])?;
    Ok(())
}

fn new_key_of_the_server_ends_its_invites(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    invite(harness, &home, "127.0.0.1:1", &["--name", "alice"])?;
    harness.server(&home, &["keygen", "--bits", "2048", "--force"]).run()?.expect(Exit::Done)?;
    ensure!(invites(harness, &home)?[0]["state"] == "revoked", "an invite names a key that is gone");
    Ok(())
}

fn line_that_is_lost_ends_its_invite(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let mut command = harness.program("server");
    command.arg("--home").arg(&home).args(["invite", "--address", "127.0.0.1:1", "--name", "alice"]);
    let to_full_disk = ["sh", "-c", "exec \"$0\" \"$@\" > /dev/full"].map(str::to_owned);
    Process::start(wrapped(&to_full_disk, command))?.finish()?.expect(Exit::Network)?;
    ensure!(
        invites(harness, &home)?[0]["state"] == "revoked",
        "nobody has the line of an invite that is pending"
    );
    invite(harness, &home, "127.0.0.1:1", &["--name", "alice"])?;
    Ok(())
}
