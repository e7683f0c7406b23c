//! Goal: an invalid file, address or option is named, with advice, before anything else happens.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::harness::{Exit, Harness, Home, Key, Outcome, Process, set_mode};
use crate::scenario::registration::scenarios;

scenarios![
    key_that_others_can_read_is_refused,
    corrupt_key_is_named,
    key_of_few_bits_is_refused,
    keys_in_other_forms_are_read,
    client_key_is_as_strict,
    files_that_another_user_could_replace_are_refused,
    home_that_is_no_folder_is_named,
    unknown_setting_is_named_with_its_line,
    port_in_use_is_named,
    unresolvable_host_is_named,
    bad_addresses_are_named,
    unknown_options_and_commands_are_usage_errors,
    help_documents_the_exit_codes,
];

fn key_that_others_can_read_is_refused(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for mode in [0o644, 0o640, 0o604] {
        set_mode(&home.file("server.key"), mode)?;
        let outcome = starts_not(harness, &home)?;
        outcome.error_names(&[text(&home.file("server.key"))?])?.hint_names(&["chmod 600"])?;
    }
    Ok(())
}

fn corrupt_key_is_named(harness: &Harness) -> Result<()> {
    let good = harness.home_with(Key::Server)?.read("server.key")?;
    let half = &good[..good.len() / 2];
    let changed = good.replacen(good.lines().nth(5).context("a short key")?, "AAAA", 1);
    let certificate = good.replace("PRIVATE KEY", "CERTIFICATE");
    for key in [
        "",
        "\n",
        "not a key",
        half,
        &changed,
        &certificate,
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
    ] {
        let home = harness.home()?;
        let path = home.write("server.key", key)?;
        starts_not(harness, &home)?.error_names(&[text(&path)?])?;
    }
    let home = harness.home()?;
    let path = home.write("server.key", [0xff; 5000])?;
    starts_not(harness, &home)?.error_names(&[text(&path)?])?;
    let home = harness.home()?;
    fs::create_dir(home.file("server.key"))?;
    starts_not(harness, &home)?.error_names(&[text(&home.file("server.key"))?])?;
    Ok(())
}

fn key_of_few_bits_is_refused(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for bits in ["1024", "2047", "8193", "0", "many"] {
        harness.server(&home, &["keygen", "--bits", bits]).run()?.expect(Exit::Usage)?;
    }
    let path = home.write("server.key", foreign_key(harness, "1024", "pkcs8")?)?;
    starts_not(harness, &home)?.error_names(&[text(&path)?, "2048"])?;
    Ok(())
}

/// The keys are in PKCS#8 and PKCS#1, as other programs write them.
fn keys_in_other_forms_are_read(harness: &Harness) -> Result<()> {
    for form in ["pkcs8", "pkcs1"] {
        let home = harness.home()?;
        home.write("server.key", foreign_key(harness, "2048", form)?)?;
        harness.fingerprint("server", &home).context(form)?;
    }
    Ok(())
}

fn client_key_is_as_strict(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Alice)?;
    let path = home.file("client.key");
    set_mode(&path, 0o644)?;
    let send = ["send", "127.0.0.1:9", "hello", "--trust", "accept-new"];
    harness.client(&home, &send).run()?.expect(Exit::Usage)?.error_names(&[text(&path)?])?;
    home.write("client.key", "garbage")?;
    harness.client(&home, &send).run()?.expect(Exit::Usage)?.error_names(&[text(&path)?])?;
    Ok(())
}

/// A file is in the place of the folder, where even root cannot create files.
fn home_that_is_no_folder_is_named(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = home.write("in-the-way", "")?;
    for path in [file.clone(), file.join("below")] {
        for (program, arguments) in
            [("server", &["--listen", "127.0.0.1:0"][..]), ("server", &["keygen"]), ("client", &["keygen"])]
        {
            let mut command = harness.program(program);
            command.arg("--home").arg(&path).args(arguments);
            let outcome = Process::start(command)?.finish()?.expect(Exit::Usage)?;
            outcome.error_names(&[text(&file)?])?;
        }
    }
    Ok(())
}

fn unknown_setting_is_named_with_its_line(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let path = home.write("clients.toml", "# allowed clients\n\ncolour = \"blue\"\n")?;
    starts_not(harness, &home)?.error_names(&[text(&path)?, "colour", "line 3"])?;
    let path = home.write("clients.toml", "= = =\n")?;
    starts_not(harness, &home)?.error_names(&[text(&path)?])?;
    Ok(())
}

fn port_in_use_is_named(harness: &Harness) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let home = harness.home_with(Key::Server)?;
    for arguments in [&["run", "--listen", &address][..], &["pipe", "--listen", &address]] {
        harness
            .server(&home, arguments)
            .run()?
            .expect(Exit::Network)?
            .error_names(&[&address])?
            .hint_names(&[])?;
    }
    let arguments = ["classic", "rsa-oaep", "--listen", &address, "--receive"];
    harness.server(&home, &arguments).run()?.expect(Exit::Network)?.error_names(&[&address])?;
    Ok(())
}

fn unresolvable_host_is_named(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let send = ["send", "nosuch.invalid:1", "hello", "--trust", "accept-new"];
    harness.client(&home, &send).run()?.expect(Exit::Network)?.error_names(&["nosuch.invalid"])?;
    let listen = ["run", "--listen", "nosuch.invalid:1"];
    harness.server(&home, &listen).run()?.expect(Exit::Network)?.error_names(&["nosuch.invalid"])?;
    Ok(())
}

fn bad_addresses_are_named(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for address in [
        "",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:port",
        "[::1",
        "unix:",
        ":5000",
    ] {
        harness.client(&home, &["send", address, "hello"]).run()?.expect(Exit::Usage).context(address)?;
        harness.server(&home, &["run", "--listen", address]).run()?.expect(Exit::Usage).context(address)?;
    }
    let missing = format!("unix:{}", home.file("no.sock").display());
    let send = ["send", &missing, "hello", "--trust", "accept-new"];
    harness.client(&home, &send).run()?.expect(Exit::Network)?.error_names(&["no.sock"])?;
    Ok(())
}

fn unknown_options_and_commands_are_usage_errors(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for arguments in [
        &["--frobnicate"][..],
        &["run", "--frobnicate"],
        &["frobnicate"],
        &["keygen", "--bits"],
        &["allow"],
        &["allow", "SHA256:x"],
        &["classic"],
        &["classic", "rot13", "--listen", "127.0.0.1:0", "--receive"],
        &["classic", "rsa-oaep", "--receive"],
        &["classic", "rsa-oaep", "--listen", "127.0.0.1:0", "--connect", "127.0.0.1:1", "--receive"],
        &["classic", "aes-eax", "--listen", "127.0.0.1:0", "--receive"],
    ] {
        harness
            .server(&home, arguments)
            .run()?
            .expect(Exit::Usage)
            .with_context(|| format!("{arguments:?}"))?;
    }
    for arguments in [
        &[][..],
        &["send"],
        &["frobnicate"],
        &["send", "127.0.0.1:9", "x", "--frobnicate"],
        &["send", "127.0.0.1:9", "x", "--trust", "blindly"],
        &["ping", "127.0.0.1:9", "-c", "-1"],
        &["trust", "127.0.0.1:9"],
    ] {
        harness
            .client(&home, arguments)
            .run()?
            .expect(Exit::Usage)
            .with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

/// Either the folder is writable for others, or the key belongs to another user.
fn files_that_another_user_could_replace_are_refused(harness: &Harness) -> Result<()> {
    let [server, client] = [harness.home_with(Key::Server)?, harness.home_with(Key::Alice)?];
    let refuse = |file: &str, what: &str| -> Result<()> {
        starts_not(harness, &server)?.error_names(&[file, what])?.hint_names(&[])?;
        let outcome = harness.client(&client, &["ping", "127.0.0.1:9", "--trust", "accept-new"]).run()?;
        outcome.expect(Exit::Usage)?.error_names(&[what])?.hint_names(&[])?;
        Ok(())
    };
    for mode in [0o777, 0o770, 0o1777] {
        for home in [&server, &client] {
            set_mode(home.path(), mode)?;
        }
        refuse("", "in a folder that other users can").with_context(|| format!("mode {mode:o}"))?;
    }
    for home in [&server, &client] {
        set_mode(home.path(), 0o700)?;
    }
    let keys = [server.file("server.key"), client.file("client.key")];
    // Only an administrator can give files to another user.
    if keys.iter().all(|key| chown(key, Some(4711), None).is_ok()) {
        refuse("server.key", "another user")?;
    }
    Ok(())
}

fn help_documents_the_exit_codes(harness: &Harness) -> Result<()> {
    for program in ["server", "client"] {
        let mut command = harness.program(program);
        command.arg("--help");
        let help = Process::start(command)?.finish()?.expect(Exit::Done)?.text().to_lowercase();
        anyhow::ensure!(help.contains("exit"), "{program} --help says nothing about exit codes:\n{help}");
    }
    // The help of `allow` has to state the limits of the right, since the right is granted with this command.
    let help = harness.server(&harness.home()?, &["allow", "--help"]).run()?.expect(Exit::Done)?.text();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    anyhow::ensure!(
        help.contains("With `,proxy` behind it") && help.contains("can send bytes that look like one"),
        "server allow --help does not warn of targets that trust headers:\n{help}"
    );
    Ok(())
}

/// Checks that the server does not start: it reports a usage error and prints no address.
fn starts_not(harness: &Harness, home: &Home) -> Result<Outcome> {
    let outcome = harness.server(home, &["run", "--listen", "127.0.0.1:0"]).run()?.expect(Exit::Usage)?;
    anyhow::ensure!(
        !outcome.stderr.contains("listening on"),
        "it listened all the same:\n{}",
        outcome.stderr
    );
    Ok(outcome)
}

fn foreign_key(harness: &Harness, bits: &str, form: &str) -> Result<Vec<u8>> {
    let mut command = harness.peer("rsa_key.py")?;
    command.args([bits, form]);
    Ok(Process::start(command)?.finish()?.expect(Exit::Done)?.stdout)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
