//! Goal: a client gets and puts what its rights and the share both permit, for as long as it has these rights, and fills no share
//! beyond its quota.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Exit, Fixture, Harness, Home, Outcome, Process, digest, noise, until, word};
use crate::scenario::registration::scenarios;

scenarios![
    share_and_right_both_decide,
    name_without_a_right_tells_nothing,
    revoked_client_is_cut_and_goes_on_once_it_may_again,
    narrower_right_ends_a_put_and_no_get,
    rights_expire_in_the_middle_of_a_transfer,
    quota_holds_and_room_is_found_again,
    rate_holds_for_files,
    reload_takes_shares_over,
    check_and_allow_name_what_is_wrong_with_shares,
];

/// A server with a share for each mode, called like that, and the client alice.
struct Shares<'a> {
    fixture: Fixture<'a>,
    harness: &'a Harness,
    folder: Home,
}

impl<'a> Shares<'a> {
    fn open(harness: &'a Harness, rights: &[&str]) -> Result<Self> {
        let folder = harness.home()?;
        let mut arguments = Vec::new();
        for mode in ["ro", "rw", "drop"] {
            let dir = folder.file(mode);
            fs::create_dir(&dir)?;
            arguments.extend(["--files".to_owned(), format!("{mode}={}:{mode}", word(&dir)?)]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let fixture = Fixture::with_arguments(harness, rights, &arguments)?;
        Ok(Self { fixture, harness, folder })
    }

    fn with_config(harness: &'a Harness, rights: &[&str], config: impl Fn(&Path) -> String) -> Result<Self> {
        let folder = harness.home()?;
        fs::create_dir(folder.file("rw"))?;
        let fixture = Fixture::with_config(harness, rights, &config(&folder.file("rw")))?;
        Ok(Self { fixture, harness, folder })
    }

    /// A file to be put.
    fn source(&self, name: &str, length: usize) -> Result<PathBuf> {
        self.folder.write(name, noise(length)?)
    }

    fn start(&self, command: &str, arguments: &[&str]) -> Result<Process> {
        let address = self.fixture.address();
        let all = [&[command, &address, "--server-key", self.fixture.key()], arguments].concat();
        self.harness.client(self.fixture.alice(), &all).start()
    }

    fn client(&self, command: &str, arguments: &[&str]) -> Result<Outcome> {
        self.start(command, arguments)?.finish()
    }

    fn put(&self, path: &Path, goal: &str) -> Result<Outcome> {
        self.client("put", &[word(path)?, goal])
    }

    fn get(&self, what: &str, goal: &Path) -> Result<Outcome> {
        self.client("get", &[what, word(goal)?])
    }

    /// Waits until some of a file has come.
    fn is_under_way(&self, share: &str) -> Result<()> {
        until(DEADLINE, "a part of the file comes", || {
            let status = self.fixture.command(&["status", "--json"])?.expect(Exit::Done)?.text();
            let status: serde_json::Value = serde_json::from_str(&status)?;
            let open = status["open"].as_array().context("what is open")?;
            let target = format!("files of {share}");
            let bytes = |open: &serde_json::Value| open["bytes"].as_u64().unwrap_or_default();
            ensure!(open.iter().any(|open| open["target"] == *target && bytes(open) > 0), "{status}");
            Ok(())
        })
    }
}

fn share_and_right_both_decide(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness, &["--files", "ro", "--files", "rw:ro", "--files", "drop:rw"])?;
    let source = shares.source("source", 100_000)?;
    let here = harness.home()?;
    for share in ["ro", "rw", "drop"] {
        fs::write(shares.folder.file(share).join("there"), "there")?;
    }
    let listed = shares.client("ls", &[])?.expect(Exit::Done)?.text();
    ensure!(["ro", "rw", "drop"].iter().all(|share| listed.contains(share)), "{listed}");
    for share in ["ro", "rw"] {
        shares.put(&source, &format!("{share}:"))?.expect(Exit::Refused)?;
        shares.get(&format!("{share}:there"), &here.file(share))?.expect(Exit::Done)?;
        ensure!(fs::read_dir(shares.folder.file(share))?.count() == 1, "something was put into {share}");
    }
    shares.put(&source, "drop:")?.expect(Exit::Done)?;
    ensure!(digest(&fs::read(shares.folder.file("drop").join("source"))?) == digest(&fs::read(&source)?));
    shares.get("drop:there", &here.file("dropped"))?.expect(Exit::Refused)?;
    shares.client("ls", &["drop:"])?.expect(Exit::Refused)?;
    let there = shares.folder.write("there", "else")?;
    shares.client("put", &[word(&there)?, "drop:", "--overwrite"])?.expect(Exit::Refused)?;
    shares.put(&there, "drop:")?.expect(Exit::Refused)?;
    ensure!(fs::read(shares.folder.file("drop").join("there"))? == b"there", "a file was replaced");
    // A right that becomes wider counts at once.
    shares.fixture.allow(&["--files", "rw"])?;
    shares.put(&source, "rw:")?.expect(Exit::Done)?;
    shares.client("put", &[word(&there)?, "rw:", "--overwrite"])?.expect(Exit::Done)?;
    ensure!(fs::read(shares.folder.file("rw").join("there"))? == b"else");
    shares.put(&source, "drop:")?.expect(Exit::Refused)?;
    Ok(())
}

fn name_without_a_right_tells_nothing(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness, &["--files", "rw", "--files", "nowhere"])?;
    let said = |share: &str| -> Result<Vec<String>> {
        let outcome = shares.client("ls", &[&format!("{share}:")])?.expect(Exit::Refused)?;
        Ok(outcome.stderr.lines().map(|line| line.replace(share, "SHARE")).collect())
    };
    ensure!(said("drop")? == said("nosuch")?, "what is there and what is not can be told apart");
    ensure!(
        said("nowhere")? != said("nosuch")?,
        "a client with a right on the name is not told that there is none"
    );
    shares.fixture.allow(&["--messages"])?;
    shares.client("ls", &[])?.expect(Exit::Refused)?;
    Ok(())
}

fn revoked_client_is_cut_and_goes_on_once_it_may_again(harness: &Harness) -> Result<()> {
    let rights = ["--files", "rw", "--max-rate", "2MiB"];
    let shares = Shares::open(harness, &rights)?;
    let source = shares.source("source", 32 << 20)?;
    let putting = shares.start("put", &[word(&source)?, "rw:"])?;
    shares.is_under_way("rw")?;
    shares.fixture.command(&["revoke", "alice"])?.expect(Exit::Done)?;
    putting.finish_within(AT_ONCE)?.expect(Exit::Refused)?;
    let goal = shares.folder.file("rw").join("source");
    ensure!(!goal.exists(), "a file that is not whole has got its name");
    shares.fixture.allow(&["--files", "rw"])?;
    shares.put(&source, "rw:")?.expect(Exit::Done)?;
    ensure!(digest(&fs::read(goal)?) == digest(&fs::read(source)?));
    ensure!(fs::read_dir(shares.folder.file("rw"))?.count() == 1, "something is left behind");
    Ok(())
}

fn narrower_right_ends_a_put_and_no_get(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness, &["--files", "rw", "--max-rate", "2MiB"])?;
    let source = shares.source("source", 32 << 20)?;
    let there = noise(8 << 20)?;
    fs::write(shares.folder.file("rw").join("there"), &there)?;
    let goal = harness.home()?.file("there");
    let putting = shares.start("put", &[word(&source)?, "rw:"])?;
    let getting = shares.start("get", &["rw:there", word(&goal)?])?;
    shares.is_under_way("rw")?;
    shares.fixture.allow(&["--files", "rw:ro"])?;
    putting.finish_within(AT_ONCE)?.expect(Exit::Refused)?;
    getting.finish()?.expect(Exit::Done)?;
    ensure!(fs::read(goal)? == there, "what was got is not what is there");
    ensure!(!shares.folder.file("rw").join("source").exists());
    Ok(())
}

fn rights_expire_in_the_middle_of_a_transfer(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness, &["--files", "rw", "--max-rate", "1MiB", "--expires", "4s"])?;
    let source = shares.source("source", 64 << 20)?;
    shares.put(&source, "rw:")?.expect(Exit::Refused)?;
    ensure!(!shares.folder.file("rw").join("source").exists());
    Ok(())
}

fn quota_holds_and_room_is_found_again(harness: &Harness) -> Result<()> {
    let config = |dir: &Path| {
        format!("[[files]]\nname = \"rw\"\ndir = \"{}\"\nmode = \"rw\"\nquota = \"4MiB\"\n", dir.display())
    };
    let shares = Shares::with_config(harness, &["--files", "rw"], config)?;
    let (small, big) = (shares.source("small", 3 << 20)?, shares.source("big", 2 << 20)?);
    shares.put(&small, "rw:")?.expect(Exit::Done)?;
    shares.put(&big, "rw:")?.expect(Exit::Refused)?.error_names(&["as much as it may"])?;
    ensure!(!shares.folder.file("rw").join("big").exists());
    fs::remove_file(shares.folder.file("rw").join("small"))?;
    until(DEADLINE, "the room is found", || shares.put(&big, "rw:")?.expect(Exit::Done).map(drop))
}

fn rate_holds_for_files(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness, &["--files", "rw", "--max-rate", "1MiB"])?;
    let source = shares.source("source", 4 << 20)?;
    let began = Instant::now();
    shares.put(&source, "rw:")?.expect(Exit::Done)?;
    ensure!(began.elapsed() > Duration::from_secs(3), "4 MiB took {:?}", began.elapsed());
    let began = Instant::now();
    shares.get("rw:source", &harness.home()?.file("source"))?.expect(Exit::Done)?;
    ensure!(began.elapsed() > Duration::from_secs(3), "4 MiB took {:?}", began.elapsed());
    Ok(())
}

fn reload_takes_shares_over(harness: &Harness) -> Result<()> {
    let config = |dir: &Path, name: &str, mode: &str| {
        format!("[[files]]\nname = \"{name}\"\ndir = \"{}\"\nmode = \"{mode}\"\n", dir.display())
    };
    let rights = ["--files", "one", "--files", "two"];
    let shares = Shares::with_config(harness, &rights, |dir| config(dir, "one", "ro"))?;
    let dir = shares.folder.file("rw");
    let source = shares.source("source", 1000)?;
    shares.put(&source, "one:")?.expect(Exit::Refused)?;
    shares.put(&source, "two:")?.expect(Exit::Refused)?;
    shares.fixture.home().write("server.toml", config(&dir, "two", "rw"))?;
    shares.fixture.command(&["reload"])?.expect(Exit::Done)?;
    shares.put(&source, "two:")?.expect(Exit::Done)?;
    shares.client("ls", &["one:"])?.expect(Exit::Refused)?;
    // What makes no sense changes nothing.
    shares.fixture.home().write("server.toml", config(&dir, "two", "wr"))?;
    shares.fixture.command(&["reload"])?.expect(Exit::Usage)?.error_names(&["server.toml", "wr"])?;
    shares.client("ls", &["two:"])?.expect(Exit::Done)?.expect_stdout(b"source\n")?;
    // A directory that is missing is told in the log, and found once it is there.
    shares.fixture.home().write("server.toml", config(&dir.join("later"), "two", "rw"))?;
    shares.fixture.command(&["reload"])?.expect(Exit::Done)?;
    shares.fixture.server()?.logged(&["the share two has no directory", "later"])?;
    shares.client("ls", &["two:"])?.expect_failure()?;
    fs::create_dir(dir.join("later"))?;
    shares.put(&source, "two:")?.expect(Exit::Done)?;
    Ok(())
}

fn check_and_allow_name_what_is_wrong_with_shares(harness: &Harness) -> Result<()> {
    let config =
        |dir: &Path| format!("[[files]]\nname = \"in\"\ndir = \"{}\"\nmode = \"drop\"\n", dir.display());
    let shares = Shares::with_config(harness, &[], config)?;
    let path = shares.fixture.home().file("server.toml");
    let check = || shares.fixture.command(&["check", "--config", word(&path)?]);
    let good = check()?.expect(Exit::Done)?.text();
    ensure!(good.ends_with(" 1 share"), "check printed {good:?}");
    let key = harness.fingerprint("client", shares.fixture.alice())?;
    let allow = |rule: &str| {
        let arguments = ["allow", &key, "--name", "alice", "--config", word(&path)?, "--files", rule];
        shares.fixture.command(&arguments)?.expect(Exit::Done)
    };
    for (rule, warning) in
        [("im", Some("no [[files]] of this name")), ("in:ro", Some("the share is drop")), ("in", None)]
    {
        let said = allow(rule)?.stderr;
        ensure!(said.contains("warning") == warning.is_some(), "{rule}: {said}");
        ensure!(warning.is_none_or(|warning| said.contains(warning)), "{rule}: {said}");
    }
    fs::remove_dir(shares.folder.file("rw"))?;
    check()?.expect(Exit::Usage)?.error_names(&["the share in has no directory"])?;
    Ok(())
}

/// How long a client may take to learn that it has lost a right, and to end.
const AT_ONCE: Duration = Duration::from_secs(5);
