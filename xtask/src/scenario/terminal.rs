//! Goal: questions are asked at the terminal, whatever standard input is, and the terminal is restored afterwards.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Exit, Harness, Home, Key, Outcome, Port, Process, Server};
use crate::scenario::invites::invite;
use crate::scenario::registration::scenarios;

scenarios![
    passphrase_is_asked_for_unseen,
    interrupted_question_leaves_the_terminal_as_it_was,
    stopped_question_is_asked_again,
    ignored_signals_end_no_question,
    signals_do_what_they_did_once_a_question_is_answered,
    questions_are_asked_on_the_terminal_where_input_is_data,
    program_asks_where_there_is_no_terminal,
    trust_is_asked_for_by_name,
    second_shared_key_of_a_name_is_asked_for,
    message_may_be_typed,
    invite_is_pasted_unseen_in_one_line_or_several,
    invite_is_shown_as_a_code_on_a_terminal_alone,
];

/// Tabs belong to the passphrase, it is never shown, and the same words open the key again.
fn passphrase_is_asked_for_unseen(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let keygen = ["client", "--home", text(&home), "keygen", "--bits", "2048", "--passphrase-prompt"];
    let typed = "one\ttwo words";
    let steps = json!([
        ["see", "New passphrase for "],
        ["echo", false],
        ["type", format!("{typed}\n")],
        ["see", "The same again: "],
        ["echo", false],
        ["type", format!("{typed}\n")],
        ["see", "SHA256:"],
        ["exit", 0],
    ]);
    let shown = at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?.text();
    ensure!(!shown.contains("two words"), "a passphrase was shown: {shown:?}");

    let fingerprint = ["client", "--home", text(&home), "fingerprint"];
    let steps = |passphrase: &str, code| {
        json!([
            ["see", "Passphrase for "],
            ["echo", false],
            ["type", format!("{passphrase}\n")],
            ["exit", code]
        ])
    };
    at_terminal(harness, &steps(typed, 0), &fingerprint)?.expect(Exit::Done)?;
    at_terminal(harness, &steps("onetwo words", 2), &fingerprint)?.expect(Exit::Done)?;
    // An empty passphrase is refused.
    let other = harness.home()?;
    let keygen = ["client", "--home", text(&other), "keygen", "--bits", "2048", "--passphrase-prompt"];
    let steps =
        json!([["see", "New passphrase for "], ["type", "\n"], ["see", "error: an empty"], ["exit", 2]]);
    at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;
    ensure!(!other.file("client.key").exists(), "a key was made");
    Ok(())
}

fn interrupted_question_leaves_the_terminal_as_it_was(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let keygen = ["client", "--home", text(&home), "keygen", "--bits", "2048", "--passphrase-prompt"];
    for (cut, end) in [
        (json!(["type", "\u{3}"]), -2),
        (json!(["type", "\u{1c}"]), -3),
        (json!(["signal", 15]), -15),
        (json!(["signal", 1]), -1),
    ] {
        let steps = json!([["see", "New passphrase for "], ["echo", false], cut, ["exit", end]]);
        at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;
    }
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let send = ["client", "--home", text(&home), "send", server.address(), "hello"];
    let steps = json!([["see", "Trust it? [y/N] "], ["type", "\u{3}"], ["exit", -2]]);
    at_terminal(harness, &steps, &send)?.expect(Exit::Done)?;
    ensure!(!home.file("known_servers").exists(), "a key was recorded that nobody trusted");
    Ok(())
}

/// While the program is stopped, the shell at the terminal has to show what is typed.
fn stopped_question_is_asked_again(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let keygen = ["client", "--home", text(&home), "keygen", "--bits", "2048", "--passphrase-prompt"];
    let steps = json!([
        ["see", "New passphrase for "],
        ["echo", false],
        ["signal", 20],
        ["stopped", 19],
        ["echo", true],
        ["signal", 18],
        ["see", "New passphrase for "],
        ["echo", false],
        ["type", "secret\n"],
        ["see", "The same again: "],
        ["type", "secret\n"],
        ["exit", 0],
    ]);
    at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;
    Ok(())
}

/// `nohup` ignores signals like this, and so does `&` in a shell without job control.
fn ignored_signals_end_no_question(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let client = harness.program("client");
    let client = client.get_program().to_string_lossy();
    let command = format!(
        "trap '' HUP INT QUIT; exec '{client}' --home '{}' keygen --bits 2048 --passphrase-prompt",
        text(&home)
    );
    let steps = json!([
        ["see", "New passphrase for "],
        ["echo", false],
        ["signal", 1],
        ["signal", 2],
        ["signal", 3],
        ["type", "secret\n"],
        ["see", "The same again: "],
        ["echo", false],
        ["signal", 1],
        ["type", "secret\n"],
        ["exit", 0],
    ]);
    let shown = at_terminal(harness, &steps, &["sh", "-c", &command])?.expect(Exit::Done)?.text();
    ensure!(shown.matches("New passphrase").count() == 1, "it was asked again: {shown:?}");
    Ok(())
}

/// A hangup ends a client, and makes a server reload its configuration.
fn signals_do_what_they_did_once_a_question_is_answered(harness: &Harness) -> Result<()> {
    let [client, server] = [harness.home()?, harness.home()?];
    for (program, home) in [("client", &client), ("server", &server)] {
        let keygen = [program, "--home", text(home), "keygen", "--bits", "2048", "--passphrase-prompt"];
        let steps =
            json!([["see", "New"], ["type", "x\n"], ["see", "again: "], ["type", "x\n"], ["exit", 0]]);
        at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;
    }
    let nobody = Port::hold()?;
    let address = nobody.address();
    for (signal, end) in [(1, -1), (15, 0)] {
        let forward = ["client", "--home", text(&client), "forward", &address, "-L", "0:@nobody"];
        let steps = json!([
            ["see", "Passphrase for "],
            ["type", "x\n"],
            ["see", "local "],
            ["signal", signal],
            ["exit", end]
        ]);
        at_terminal(harness, &steps, &forward)?.expect(Exit::Done)?;
    }
    let serve = ["server", "--home", text(&server), "--listen", "127.0.0.1:0"];
    let steps = json!([
        ["see", "Passphrase for "],
        ["type", "x\n"],
        ["see", "listening on"],
        ["signal", 1],
        ["see", "the configuration is reloaded"],
        ["signal", 15],
        ["exit", 0],
    ]);
    at_terminal(harness, &steps, &serve)?.expect(Exit::Done)?;
    Ok(())
}

/// The command is like `tar c . | client pipe HOST`: data comes from standard input, and answers from the terminal.
fn questions_are_asked_on_the_terminal_where_input_is_data(harness: &Harness) -> Result<()> {
    let alice = harness.home()?;
    let keygen = ["client", "--home", text(&alice), "keygen", "--bits", "2048", "--passphrase-prompt"];
    let steps = json!([
        ["see", "New passphrase"],
        ["type", "secret\n"],
        ["see", "again: "],
        ["type", "secret\n"],
        ["exit", 0],
    ]);
    at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;

    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    server.process.close_input();
    let client = harness.program("client");
    let client = client.get_program().to_string_lossy();
    let command = format!("printf data | '{client}' --home '{}' pipe {}", text(&alice), server.address());
    let steps = json!([
        ["see", "Passphrase for "],
        ["echo", false],
        ["type", "secret\n"],
        ["see", server.address()],
        ["see", server.key()?],
        ["see", "Trust it? [y/N] "],
        ["echo", true],
        ["type", "y\n"],
        ["exit", 0],
    ]);
    at_terminal(harness, &steps, &["sh", "-c", &command])?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"data")?;
    Ok(())
}

/// As under systemd or from a desktop: the passphrase and whether to trust the server, while standard input is data.
fn program_asks_where_there_is_no_terminal(harness: &Harness) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--anyone"])?;
    let home = harness.home()?;
    let (program, asked) = (home.file("ask"), home.file("asked"));
    let answers = |secret: &str| -> Result<()> {
        let script = format!(
            "#!/bin/sh\necho \"$1\" >> '{}'\ncase $1 in *Trust*) echo yes;; *) echo '{secret}';; esac\n",
            asked.display()
        );
        std::fs::write(&program, script)?;
        Ok(std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?)
    };
    let run = |arguments: &[&str]| {
        let program = program.display().to_string();
        harness.client(&home, arguments).detached().environment("SOCKSEAL_ASKPASS", &program)
    };
    answers("two words")?;
    run(&["keygen", "--bits", "2048", "--passphrase-prompt"]).run()?.expect(Exit::Done)?;
    run(&["send", server.address()]).input("hand made\n").run()?.expect(Exit::Done)?;
    let asked_for = std::fs::read_to_string(&asked)?;
    let begins = ["New passphrase for ", "The same again: ", "Passphrase for ", "The key of the server at "];
    let all_begin = asked_for.lines().zip(begins).all(|(line, begin)| line.starts_with(begin));
    ensure!(asked_for.lines().count() == begins.len() && all_begin, "asked was: {asked_for}");
    ensure!(asked_for.contains(server.key()?), "the server's key was not shown: {asked_for}");

    answers("another")?;
    run(&["fingerprint"]).run()?.expect(Exit::Usage)?;
    let none = harness.client(&home, &["fingerprint"]).detached().run()?.expect(Exit::Usage)?;
    none.hint_names(&["SOCKSEAL_ASKPASS"])?;
    let gone = harness.client(&home, &["fingerprint"]).detached().environment("SOCKSEAL_ASKPASS", "/nowhere");
    gone.run()?.expect(Exit::Network)?.error_names(&["SOCKSEAL_ASKPASS", "/nowhere"])?;
    Ok(())
}

fn trust_is_asked_for_by_name(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let send = ["client", "--home", text(&home), "send", server.address(), "-hi"];
    for (answer, code) in [("", 3), ("no", 3), ("\u{4}", 3), ("Yes", 0)] {
        let end = if answer == "\u{4}" { "" } else { "\n" };
        let question =
            format!("The key of the server at {} is {}. Trust it? [y/N] ", server.address(), server.key()?);
        let steps = json!([["see", question], ["type", format!("{answer}{end}")], ["exit", code]]);
        at_terminal(harness, &steps, &send)?.expect(Exit::Done)?;
    }
    server.printed("[anonymous] -hi")
}

fn message_may_be_typed(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let send = ["client", "--home", text(&home), "send", server.address(), "--server-key", server.key()?];
    let steps = json!([["see", "Ctrl-D"], ["type", "hand made\n\u{4}"], ["exit", 0]]);
    at_terminal(harness, &steps, &send)?.expect(Exit::Done)?;
    server.printed("[anonymous] hand made")
}

/// Without a terminal the command needs --force. The file is accessible only to its owner.
fn second_shared_key_of_a_name_is_asked_for(harness: &Harness) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let home = harness.home()?;
    let file = home.file("laptop.psk");
    let keygen = ["server", "--home", text(&home), "keygen", "--psk", "laptop"];
    let out = [&keygen[1..], &["--out", file.to_str().unwrap_or_default()]].concat();
    harness.server(&home, &out[2..]).run()?.expect(Exit::Done)?.expect_stdout(b"")?;
    let mode = std::fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the file of a shared key has mode {mode:o}");
    let first = std::fs::read(&file)?;
    harness.server(&home, &out[2..]).detached().run()?.expect(Exit::Usage)?.hint_names(&["--force"])?;
    ensure!(std::fs::read(&file)? == first, "a shared key was replaced");
    let again = harness.server(&home, &keygen[3..]).detached().run()?.expect(Exit::Usage)?;
    again.error_names(&["laptop"])?.hint_names(&["--force"])?.expect_stdout(b"")?;
    let steps = json!([["see", "laptop"], ["see", "[y/N] "], ["type", "n\n"], ["exit", 2]]);
    at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;
    let steps = json!([["see", "[y/N] "], ["type", "y\n"], ["exit", 0]]);
    at_terminal(harness, &steps, &keygen)?.expect(Exit::Done)?;
    let forced = [&out[2..], &["--force"]].concat();
    harness.server(&home, &forced).detached().run()?.expect(Exit::Done)?;
    ensure!(std::fs::read(&file)? != first, "it is the same key still");
    Ok(())
}

fn invite_is_pasted_unseen_in_one_line_or_several(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let alice = harness.home_with(Key::Alice)?;
    let line = invite(harness, &home, server.address(), &["--name", "alice"])?;
    let join = ["client", "--home", text(&alice), "join"];
    let (start, rest) = line.split_at(80);
    let (middle, end) = rest.split_at(60);
    let ask = json!(["see", "Paste the invite, which is not shown: "]);
    // A line that was cut is not used, and what was pasted is told from what is missing.
    let cut = json!([
        ask,
        ["echo", false],
        ["type", format!("{start}\n")],
        ["see", "not all of it"],
        ["type", "\n"],
        ["exit", 2]
    ]);
    let shown = at_terminal(harness, &cut, &join)?.expect(Exit::Done)?.text();
    ensure!(shown.contains("damaged") && !shown.contains(start), "{shown:?}");
    for typed in [
        json!([
            ["type", format!("{start}\n")],
            ["see", "not all of it"],
            ["type", format!("{middle}\n{end}\n")]
        ]),
        json!([["type", format!("> {start}\n> {middle}\n> {end}\n")]]),
        json!([["type", format!("\n{start}\n\n{middle}\n\n{end}\n")]]),
        json!([["type", format!("{line}\n")]]),
    ] {
        let typed = typed.as_array().map(Vec::as_slice).unwrap_or_default();
        let first = [ask.clone(), json!(["echo", false])];
        let steps: Vec<Value> = first.iter().chain(typed).chain(&[json!(["exit", 0])]).cloned().collect();
        let shown = at_terminal(harness, &Value::Array(steps), &join)?.expect(Exit::Done)?.text();
        ensure!(shown.contains(server.key()?) && shown.contains("alice"), "{shown:?}");
        ensure!(!shown.contains(start) && !shown.contains(end), "the invite was shown: {shown:?}");
    }
    Ok(())
}

fn invite_is_shown_as_a_code_on_a_terminal_alone(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = harness.program("server");
    let server = server.get_program().to_string_lossy();
    let invite = format!("'{server}' --home '{}' invite --address gate.example.org:5000", text(&home));
    let shown = |setting: &str| -> Result<String> {
        let command = format!("{setting} exec {invite}");
        let shown =
            at_terminal(harness, &json!([["see", "client join"], ["exit", 0]]), &["sh", "-c", &command])?;
        Ok(shown.expect(Exit::Done)?.text())
    };
    let code = shown("TERM=xterm")?;
    ensure!(code.contains("sockseal-invite-1:"), "{code:?}");
    // Black and white of the part of the palette that no theme changes.
    let rows = code.lines().filter(|line| line.contains("\x1b[38;5;16;48;5;231m▀")).count();
    ensure!(rows > 20 && code.contains("38;5;231;48;5;231m▀"), "{code:?}");
    let [narrow, dumb] = ["stty cols 40; TERM=xterm", "TERM=dumb"].map(shown);
    ensure!(!narrow?.contains('▀') && !dumb?.contains('▀'), "a code that nobody can read");
    let printed =
        harness.server(&home, &["invite", "--address", "gate.example.org:5000"]).run()?.expect(Exit::Done)?;
    ensure!(printed.text().lines().count() == 1 && !printed.stderr.contains('▀'), "{}", printed.text());
    Ok(())
}

/// Runs one of the two programs, or another one, in a terminal.
pub(super) fn at_terminal(harness: &Harness, steps: &Value, command: &[&str]) -> Result<Outcome> {
    let mut person = harness.peer("terminal.py")?;
    person.arg(steps.to_string());
    match command {
        [name @ ("client" | "server"), arguments @ ..] => {
            person.arg(harness.program(name).get_program()).args(arguments)
        }
        words => person.args(words),
    };
    Process::start(harness.without_settings(person))?.finish()
}

fn text(home: &Home) -> &str {
    home.path().to_str().unwrap_or_default()
}
