//! Goal: what `client put` and `get` print is what their documents say, and a file arrives with all that it is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Exit, Fixture, Harness, Outcome, disk_calls, is_synced, noise};
use crate::scenario::files_share::{LIMITED, Shared, lines, text};
use crate::scenario::registration::scenarios;
use crate::scenario::terminal::at_terminal;

scenarios![
    events_are_those_of_the_documentation,
    quiet_says_errors_alone,
    limit_holds,
    progress_is_a_bar_on_a_terminal_and_a_line_elsewhere,
    source_that_is_missing_ends_a_put_of_it,
    refused_requests_are_in_the_log,
    what_the_system_says_is_told_where_it_says_it,
    share_that_is_gone_does_not_fill_the_log,
    holes_of_gibibytes_stay_holes_in_both_directions,
    file_is_on_the_disk_before_it_has_its_name,
];

/// What the documentation says of an event.
struct Documented {
    kind: String,
    /// The keys that it has in any case, and those that it may have.
    keys: BTreeSet<String>,
    /// Keys, and the words that stand behind them.
    words: BTreeSet<String>,
}

fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table of events in the README of the client.
fn documented() -> Result<Vec<Documented>> {
    let readme = include_str!("../../../crates/client/README.md");
    let rows = readme.lines().skip_while(|line| !line.starts_with("| `event` |"));
    let rows: Vec<&str> = rows.skip(2).take_while(|line| line.starts_with('|')).collect();
    ensure!(rows.len() == 8, "{} rows", rows.len());
    let row = |row: &&str| {
        let cells: Vec<&str> = row.split('|').collect();
        let (kind, what) = (quoted(cells.get(1).context("a cell")?), cells.get(3).context("a cell")?);
        let outside: String = what.split('(').flat_map(|part| part.split(')').next_back()).collect();
        Ok(Documented {
            kind: kind.into_iter().next().context("a name")?,
            keys: quoted(&outside).into_iter().filter(|key| !key.starts_with('-')).collect(),
            words: quoted(what),
        })
    };
    rows.iter().map(row).collect()
}

fn events_are_those_of_the_documentation(harness: &Harness) -> Result<()> {
    const OPTIONAL: [&str; 4] = ["path_hex", "sha256", "stored_as", "system_error"];
    let shared = Shared::open(harness)?;
    let (file, back) = (shared.here("file"), shared.here("back"));
    fs::write(&file, noise(3_000_000)?)?;
    let mut events: Vec<Value> = Vec::new();
    let mut run = |command: &str, words: &[&str], exit| -> Result<()> {
        let outcome = shared.run(command, &[words, &["--json"]].concat())?.expect(exit)?;
        events.extend(transferred(&outcome)?);
        Ok(())
    };
    let put = [text(&file)?, "data:"];
    run("put", &[&put[..], &["--dry-run"]].concat(), Exit::Done)?;
    run("put", &[&put[..], &["--checksum"]].concat(), Exit::Done)?;
    run("put", &[&put[..], &["--checksum"]].concat(), Exit::Done)?;
    run("get", &["data:file", text(&back)?], Exit::Done)?;
    fs::write(&file, "another")?;
    run("put", &put, Exit::Refused)?;
    run("put", &[&put[..], &["--rename"]].concat(), Exit::Done)?;
    run("get", &["data:missing", text(&back)?], Exit::Refused)?;
    let limited = shared.limited("get", &["data:file", text(&shared.here("limited"))?, "--json"])?;
    events.extend(transferred(&limited)?);
    let documented = documented()?;
    for event in &events {
        let object = event.as_object().context("an object")?;
        let is_it = |documented: &&Documented| event["event"] == documented.kind.as_str();
        let documented = documented.iter().find(is_it).with_context(|| format!("not documented: {event}"))?;
        for key in object.keys().filter(|key| !["event", "schema", "path_hex"].contains(&key.as_str())) {
            ensure!(documented.keys.contains(key), "{key} is not documented: {event}");
        }
        for key in documented.keys.iter().filter(|key| !OPTIONAL.contains(&key.as_str())) {
            ensure!(object.contains_key(key), "{key} is missing: {event}");
        }
        for word in ["side", "code", "direction"].iter().filter_map(|key| event[key].as_str()) {
            ensure!(documented.words.contains(word), "{word} is not documented: {event}");
        }
    }
    for Documented { kind, keys, .. } in &documented {
        let mut of_kind = events.iter().filter(|event| event["event"] == kind.as_str()).peekable();
        ensure!(of_kind.peek().is_some(), "no {kind} has happened");
        let seen: Vec<_> = of_kind.filter_map(Value::as_object).collect();
        for key in keys {
            ensure!(seen.iter().any(|event| event.contains_key(key)), "{kind} never has {key}");
        }
    }
    Ok(())
}

/// The events of a transfer itself: an error behind them is that of any command.
fn transferred(outcome: &Outcome) -> Result<Vec<Value>> {
    Ok(lines(outcome)?.into_iter().filter(|event| event["event"] != "error").collect())
}

fn is_silent(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "it says {}", outcome.stderr);
    Ok(())
}

fn quiet_says_errors_alone(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let file = shared.here("file");
    fs::write(&file, "file")?;
    is_silent(&shared.run("put", &[text(&file)?, "data:", "--quiet"])?.expect(Exit::Done)?)?;
    is_silent(
        &shared.run("get", &["data:file", text(&shared.here("back"))?, "--quiet"])?.expect(Exit::Done)?,
    )?;
    fs::write(&file, "another")?;
    let refused = shared.run("put", &[text(&file)?, "data:", "--quiet"])?.expect(Exit::Refused)?;
    let refused = refused.error_names(&["file", "at the server"])?;
    ensure!(!refused.stderr.contains(" sent in "), "{}", refused.stderr);
    Ok(())
}

fn limit_holds(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let file = shared.here("file");
    fs::write(&file, noise(4 * 1024 * 1024)?)?;
    let back = shared.here("back");
    for (command, words) in [("put", [text(&file)?, "data:"]), ("get", ["data:file", text(&back)?])] {
        let begun = Instant::now();
        shared.run(command, &[&words[..], &["--limit", "1MiB"]].concat())?.expect(Exit::Done)?;
        ensure!(begun.elapsed() > Duration::from_secs(2), "{command}: 4 MiB took {:?}", begun.elapsed());
    }
    Ok(())
}

/// The limit makes the transfer last longer than a line of progress is waited for.
fn progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let file = shared.here("long film");
    fs::write(&file, noise(8 * 1024 * 1024)?)?;
    let (address, home) = (shared.fixture.address(), shared.fixture.alice().path().display().to_string());
    let words = ["client", "--home", &home, "put", &address, "--server-key", shared.fixture.key()];
    let shown = [&words[..], &["--limit", "4MiB", text(&file)?, "data:shown"]].concat();
    let steps = json!([
        ["see", "of 8.0 MiB"],
        ["see", "/s, 0 of 1 entries"],
        ["see", "left"],
        ["see", "long film"],
        ["see", "1 entry, 8.0 MiB sent"],
        ["exit", 0],
    ]);
    at_terminal(harness, &steps, &shown)?.expect(Exit::Done)?;

    let put = shared.run("put", &[text(&file)?, "data:told", "--limit", "1MiB"])?.expect(Exit::Done)?;
    let lines: Vec<_> = put.stderr.lines().filter(|line| line.contains(" of 1 entries")).collect();
    ensure!(matches!(lines[..], [line] if line.contains("of 8.0 MiB, ")), "{}", put.stderr);
    ensure!(!put.stderr.contains('\r') && !put.stderr.contains('\u{1b}'), "{:?}", put.stderr);
    Ok(())
}

fn source_that_is_missing_ends_a_put_of_it(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let missing = shared.here("missing");
    for goal in ["data:", "data:name", "data:a/b/"] {
        let put = shared.run("put", &[text(&missing)?, goal])?.expect(Exit::Network)?;
        let put = put.error_names(&["missing", "here"])?;
        ensure!(put.stderr.contains("1 failed"), "{}", put.stderr);
    }
    ensure!(!shared.there("name").exists() && !shared.there("missing").exists(), "something was made");
    Ok(())
}

fn refused_requests_are_in_the_log(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    shared.run("ls", &["data:missing"])?.expect(Exit::Refused)?;
    let line = ["request for files refused", "alice", "files of data", "nothing of that name"];
    shared.fixture.server()?.logged(&line)?;
    Ok(())
}

/// Neither program may write a file of more than 1 MiB.
fn what_the_system_says_is_told_where_it_says_it(harness: &Harness) -> Result<()> {
    const SAID: &str = "File too large (os error 27)";
    let folder = harness.home()?;
    let share = format!("data={}:rw", text(folder.path())?);
    let fixture = Fixture::wrapped(harness, &["--files", "data"], &["--files", &share], &LIMITED)?;
    let source = folder.write("big", noise(3 << 20)?)?;
    let address = fixture.address();
    let put = ["put", &address, text(&source)?, "data:new/", "--server-key", fixture.key()];
    let put = harness.client(fixture.alice(), &put).run()?.expect(Exit::Refused)?;
    let put = put.error_names(&["big", "could not be read or written", "at the server"])?;
    ensure!(!put.stderr.contains("os error"), "the server's own error has come over: {}", put.stderr);
    fixture.server()?.logged(&["WARN", "entry of a share failed", "alice", "big", SAID])?;
    let shared = Shared::open(harness)?;
    fs::write(shared.there("file"), noise(3 << 20)?)?;
    let get = shared.limited("get", &["data:file", text(&shared.here("back"))?])?.expect(Exit::Network)?;
    get.error_names(&["data:file", SAID, "here"])?;
    Ok(())
}

fn share_that_is_gone_does_not_fill_the_log(harness: &Harness) -> Result<()> {
    let mut shared = Shared::open(harness)?;
    fs::remove_dir(shared.folder.path())?;
    for _ in 0..12 {
        shared.run("ls", &["data:"])?.expect(Exit::Refused)?;
    }
    fs::create_dir(shared.folder.path())?;
    let log = shared.fixture.take_server()?.stop()?.stderr;
    let lines = log.lines().filter(|line| line.contains("a share cannot be opened")).count();
    // Of ten seconds each, in which the runs are.
    ensure!((1..=10).contains(&lines), "{lines} lines:\n{log}");
    Ok(())
}

/// Read as a whole, or written out, this would take far longer, and more room than there may be.
fn holes_of_gibibytes_stay_holes_in_both_directions(harness: &Harness) -> Result<()> {
    const SIZE: u64 = 6 << 30;
    let shared = Shared::open(harness)?;
    let (source, back) = (shared.here("holes"), shared.here("back"));
    let file = File::create(&source)?;
    file.set_len(SIZE)?;
    let places = [0, (3 << 30) + 12_345, SIZE - 5];
    for place in places {
        file.write_all_at(b"bytes", place)?;
    }
    file.set_modified(UNIX_EPOCH - Duration::new(1, 1))?;
    fs::hard_link(&source, shared.here("other name"))?;
    shared.run("put", &[text(&source)?, text(&shared.here("other name"))?, "data:"])?.expect(Exit::Done)?;
    shared.run("get", &["data:holes", text(&back)?])?.expect(Exit::Done)?;
    for path in [shared.there("holes"), shared.there("other name"), back] {
        let (file, metadata) = (File::open(&path)?, fs::metadata(&path)?);
        ensure!(metadata.len() == SIZE && metadata.nlink() == 1, "{}: {metadata:?}", path.display());
        ensure!(metadata.blocks() * 512 < 1 << 20, "{}: the holes are filled", path.display());
        ensure!(metadata.modified()? == UNIX_EPOCH - Duration::new(1, 1), "{}: {metadata:?}", path.display());
        for place in places {
            let mut found = [0; 5];
            file.read_exact_at(&mut found, place)?;
            ensure!(&found == b"bytes", "{}: other bytes at {place}", path.display());
        }
    }
    Ok(())
}

/// A power cut leaves a file whole or not there at all: first its content is synced, then it gets its name in one step, and
/// then that name is synced.
fn file_is_on_the_disk_before_it_has_its_name(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    fs::write(shared.there("small"), "small")?;
    fs::write(shared.there("large"), vec![7; 3 << 20])?;
    for name in ["small", "large"] {
        let goal = shared.here(&format!("new/for {name}/goal"));
        let (source, folder) = (format!("data:{name}"), text(&goal)?);
        let words = [source.as_str(), &format!("{folder}/")];
        let command = shared.command_through(&shared.fixture.address(), "get", &words).into_command();
        let calls = disk_calls(harness, command)?;
        let shown = || calls.join("\n");
        let is_its = |call: &String| {
            call.starts_with("rename")
                && call.contains(&format!(", \"{name}\""))
                && call.contains("NOREPLACE")
        };
        let index = calls.iter().position(is_its).with_context(|| format!("{name}: {}", shown()))?;
        let part = calls[index].split('"').nth(1).context("the name that it had")?;
        let part = format!("{folder}/{part}");
        ensure!(is_synced(&calls[..index], &part), "{name} is not on the disk:\n{}", shown());
        ensure!(is_synced(&calls[index..], folder), "the name {name} is not on the disk:\n{}", shown());
        // Of the folders that were made for it all names are there, too.
        for above in goal.ancestors().skip(1).take_while(|above| above.starts_with(shared.here("new"))) {
            ensure!(is_synced(&calls[..index], text(above)?), "{} is not on the disk", above.display());
        }
        let first = shared.here("new");
        let stands_in = text(first.parent().context("the folder of the client")?)?;
        ensure!(name == "large" || is_synced(&calls[..index], stands_in), "new is not on the disk");
    }
    Ok(())
}
