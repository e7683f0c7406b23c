//! Goal: an implementation of files that was written from PROTOCOL.md alone puts, gets and lists with ours in either role,
//! and even with a right to a share it cannot lead ours astray.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    Exit, Fixture, Harness, Home, Key, Outcome, Process, Server, make_file, nothing_partial, same_trees,
    word, wrapped,
};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![
    vectors_of_files_are_understood,
    python_client_puts_gets_and_lists,
    python_client_resumes_where_it_was,
    python_client_moves_a_tree_in_parts,
    python_client_has_no_more_than_its_rights,
    hostile_python_client_stores_nothing_outside,
    broken_content_of_a_python_client_is_not_stored,
    python_server_serves_our_client,
    python_server_refuses_what_has_no_room,
    python_server_goes_on_where_it_was,
    hostile_python_server_stores_nothing_outside,
    broken_content_of_a_python_server_is_not_stored,
];

fn vectors_of_files_are_understood(harness: &Harness) -> Result<()> {
    let mut command = harness.peer("sockseal_files_messages.py")?;
    command.arg(workspace::root()?.join("crates/wire-protocol/tests/vectors/files.json"));
    let outcome = Process::start(command)?.finish()?.expect(Exit::Done)?;
    ensure!(outcome.text().ends_with("messages"), "{}", outcome.text());
    Ok(())
}

/// Directories, an empty one too, files of no bytes, of one chunk and of several, holes, a link, and a name beyond ASCII.
fn make_tree(home: &Home) -> Result<()> {
    let tree = home.file("tree");
    make_file(&tree.join("big"), BIG)?;
    make_file(&tree.join("sub/naïve\n.txt"), 1000)?;
    make_file(&tree.join("empty file"), 0)?;
    fs::create_dir(tree.join("empty"))?;
    fs::File::create(tree.join("sparse"))?.set_len(3 * 1024 * 1024)?;
    fs::set_permissions(tree.join("sub"), fs::Permissions::from_mode(0o750))?;
    symlink("../elsewhere", tree.join("link"))?;
    Ok(())
}

/// Checks that the same has arrived, modes and times included.
fn same(source: &Path, goal: &Path) -> Result<()> {
    ensure!(same_trees(source, goal)?, "{} is not {}", goal.display(), source.display());
    for name in ["", "big", "sub", "sub/naïve\n.txt", "empty"] {
        let (sent, stored) = (fs::metadata(source.join(name))?, fs::metadata(goal.join(name))?);
        ensure!(sent.mode() == stored.mode(), "{name}: mode {:o}", stored.mode());
        let time = |of: &fs::Metadata| (of.mtime(), of.mtime_nsec());
        ensure!(time(&sent) == time(&stored), "{name}: {:?}, not {:?}", time(&stored), time(&sent));
    }
    Ok(())
}

/// A server of ours with a share that `alice` may write to, and one that she may only add to.
struct Shares<'a> {
    harness: &'a Harness,
    fixture: Fixture<'a>,
    stored: Home,
    added: Home,
}

impl<'a> Shares<'a> {
    fn open(harness: &'a Harness) -> Result<Self> {
        let (stored, added) = (harness.home()?, harness.home()?);
        let share = |name: &str, home: &Home, mode: &str| format!("{name}={}:{mode}", home.path().display());
        let arguments = ["--files", &share("docs", &stored, "rw"), "--files", &share("in", &added, "drop")];
        let rights = ["--files", "docs", "--files", "in"];
        let fixture = Fixture::with_arguments(harness, &rights, &arguments)?;
        Ok(Self { harness, fixture, stored, added })
    }

    /// Runs the Python client with `alice`'s key.
    fn python(&self, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
        let (key, address) = (self.fixture.alice().file("client.key"), self.fixture.address());
        let always = ["client", &address, "--server-key", self.fixture.key(), "--client-key", word(&key)?];
        python(self.harness, &[&always, arguments].concat(), input)?.finish()
    }
}

fn python(harness: &Harness, arguments: &[&str], input: &[u8]) -> Result<Process> {
    let mut command = harness.peer("sockseal.py")?;
    command.args(arguments);
    let mut process = Process::start(command)?;
    process.feed(Cursor::new(input.to_vec()))?;
    Ok(process)
}

fn python_client_puts_gets_and_lists(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness)?;
    let (source, goal) = (harness.home()?, harness.home()?);
    make_tree(&source)?;
    let (tree, there) = (source.file("tree"), shares.stored.file("tree"));
    for options in [&["--eager-offers"][..], &[], &["--checksum", "--verify-disk", "--every-padding"]] {
        shares.python(&[&["put", word(&tree)?, "docs:"], options].concat(), b"")?.expect(Exit::Done)?;
        same(&tree, &there)?;
    }
    // The second time there is nothing to send, and a changed file is not replaced unless that was asked for.
    let again = shares.python(&["put", word(&tree)?, "docs:"], b"")?.expect(Exit::Done)?;
    ensure!(!again.stderr.contains("want "), "sent again:\n{}", again.stderr);
    make_file(&tree.join("sub/naïve\n.txt"), 1001)?;
    let refused = shares.python(&["put", word(&tree)?, "docs:"], b"")?;
    ensure!(
        refused.stderr.contains("rejected tree/sub/na\\xc3\\xafve\\x0a.txt exists"),
        "{}",
        refused.stderr
    );
    let replace = ["put", word(&tree)?, "docs:", "--existing", "replace"];
    shares.python(&replace, b"")?.expect(Exit::Done)?;
    same(&tree, &there)?;
    let note = source.write("note.txt", "one")?;
    let renamed = ["put", word(&note)?, "docs:"];
    shares.python(&renamed, b"")?.expect(Exit::Done)?;
    source.write("note.txt", "another")?;
    shares.python(&[&renamed[..], &["--existing", "rename"]].concat(), b"")?.expect(Exit::Done)?;
    ensure!(shares.stored.read("note.txt")? == "one" && shares.stored.read("note (1).txt")? == "another");
    shares.python(&["put", "-", "docs:streams/all"], b"from a stream")?.expect(Exit::Done)?;
    ensure!(shares.stored.read("streams/all")? == "from a stream");

    let listed = shares.python(&["ls", "docs:tree", "--recursive"], b"")?.expect(Exit::Done)?.text();
    let expected = "tree/big 3000000\ntree/empty file 0\ntree/empty/\ntree/link -> ../elsewhere\n\
                    tree/sparse 3145728\ntree/sub/\ntree/sub/na\\xc3\\xafve\\x0a.txt 1001";
    ensure!(listed.trim_end() == expected, "{listed}");
    let listed = shares.python(&["ls"], b"")?.expect(Exit::Done)?.text();
    ensure!(listed.trim_end() == "docs read write\nin drop", "{listed}");
    let missing = shares.python(&["ls", "docs:missing"], b"")?.expect(Exit::Refused)?;
    ensure!(missing.stderr.contains("not found"), "{}", missing.stderr);

    let goal_path = goal.path().to_owned();
    for options in [&[][..], &["--checksum"]] {
        let get = ["get", "docs:tree", "docs:note.txt", word(&goal_path)?];
        shares.python(&[&get, options].concat(), b"")?.expect(Exit::Done)?;
        same(&tree, &goal.file("tree"))?;
    }
    shares.python(&["get", "docs:", word(&goal.file("all"))?], b"")?.expect(Exit::Done)?;
    same(&tree, &goal.file("all/tree"))
}

/// Each cut leaves a chunk at least that need not move again.
fn python_client_resumes_where_it_was(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness)?;
    let (source, goal) = (harness.home()?, harness.home()?);
    make_tree(&source)?;
    let tree = source.file("tree");
    let put = ["put", word(&tree)?, "docs:"];
    shares.python(&[&put[..], &STOP].concat(), b"")?.expect(Exit::Integrity)?;
    nothing_partial(source.path(), shares.stored.path())?;
    let resumed = shares.python(&put, b"")?.expect(Exit::Done)?;
    wanted_with_chunks(&resumed)?;
    same(&tree, &shares.stored.file("tree"))?;

    let directory = goal.path().to_owned();
    for options in [&[][..], &["--compare"]] {
        let get = ["get", "docs:tree", word(&directory)?];
        shares.python(&[&get[..], &STOP].concat(), b"")?.expect(Exit::Integrity)?;
        let resumed = shares.python(&[&get[..], options].concat(), b"")?.expect(Exit::Done)?;
        wanted_with_chunks(&resumed)?;
        same(&tree, &goal.file("tree"))?;
        fs::remove_dir_all(goal.file("tree"))?;
    }
    Ok(())
}

/// Checks that the big file was asked for without its first chunk, or with hashes of what is there.
fn wanted_with_chunks(outcome: &Outcome) -> Result<()> {
    let wanted = outcome.stderr.lines().find_map(|line| line.strip_prefix("want tree/big "));
    let wanted = wanted.with_context(|| format!("the big file is not wanted:\n{}", outcome.stderr))?;
    ensure!(wanted != "0 0", "the big file moves as a whole");
    Ok(())
}

fn python_client_moves_a_tree_in_parts(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness)?;
    let source = harness.home()?;
    make_tree(&source)?;
    let tree = source.file("tree");
    for part in ["2/3", "1/3", "0/3"] {
        let put = ["put", word(&tree)?, "docs:new", "--placement", "into", "--part", part];
        shares.python(&put, b"")?.expect(Exit::Done)?;
    }
    same(&tree, &shares.stored.file("new/tree"))
}

fn python_client_has_no_more_than_its_rights(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness)?;
    let home = harness.home()?;
    let file = home.write("file", "mine")?;
    let put = ["put", word(&file)?, "in:"];
    shares.python(&put, b"")?.expect(Exit::Done)?;
    home.write("file", "another")?;
    let refused = shares.python(&put, b"")?;
    ensure!(refused.stderr.contains("rejected file exists"), "{}", refused.stderr);
    ensure!(shares.added.read("file")? == "mine");
    let goal = home.path().to_owned();
    for denied in [
        &[&put[..], &["--existing", "replace"]].concat()[..],
        &["get", "in:file", word(&goal)?],
        &["ls", "in:"],
        &["ls", "nothing:"],
    ] {
        shares.python(denied, b"")?.expect(Exit::Refused).with_context(|| format!("{denied:?}"))?;
    }
    Ok(())
}

fn hostile_python_client_stores_nothing_outside(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness)?;
    let source = harness.home()?;
    fs::create_dir(source.file("root"))?;
    let root = source.file("root");
    for (fault, rejected) in [("files-paths", 39), ("files-links", 6)] {
        let put = ["put", word(&root)?, "docs:", "--placement", "into", "--fault", fault];
        let outcome = shares.python(&put, b"")?;
        let count = outcome.stderr.lines().filter(|line| line.starts_with("rejected ")).count();
        ensure!(count == rejected, "{fault}: {count} rejected:\n{}", outcome.stderr);
        nothing_escaped(&[shares.stored.path(), Path::new("/tmp")])?;
    }
    for destination in ["docs:../escaped", "docs:a/../../escaped", "docs:/a//escaped"] {
        let put = ["put", word(&root)?, destination];
        shares.python(&put, b"")?.expect(Exit::Refused).context(destination)?;
    }
    nothing_escaped(&[shares.stored.path(), Path::new("/tmp")])
}

/// Checks that what hostile offers name is nowhere: neither beside a folder that may be written to nor where links lead.
fn nothing_escaped(folders: &[&Path]) -> Result<()> {
    for folder in folders {
        for place in [Some(*folder), folder.parent(), folder.parent().and_then(Path::parent)] {
            for name in ["escaped", "escaped too", "unasked", "unasked too"] {
                let place = place.unwrap_or(folder).join(name);
                ensure!(fs::symlink_metadata(&place).is_err(), "{} is there", place.display());
            }
        }
    }
    Ok(())
}

fn broken_content_of_a_python_client_is_not_stored(harness: &Harness) -> Result<()> {
    let shares = Shares::open(harness)?;
    let source = harness.home()?;
    let file = source.write("file", "content")?;
    let put = ["put", word(&file)?, "docs:", "--fault"];
    for fault in ["files-chunk", "files-end"] {
        let outcome = shares.python(&[&put[..], &[fault]].concat(), b"")?;
        ensure!(outcome.stderr.contains("rejected file mismatch"), "{fault}:\n{}", outcome.stderr);
    }
    for fault in ["files-more", "files-early-finish"] {
        shares.python(&[&put[..], &[fault]].concat(), b"")?.expect(Exit::Integrity).context(fault)?;
    }
    ensure!(!shares.stored.file("file").exists(), "broken content has a name");
    // One that says that its file takes more than there is on any disk gets it stored as it is.
    shares.python(&[&put[..], &["files-allocated"]].concat(), b"")?.expect(Exit::Done)?;
    ensure!(shares.stored.read("file")? == "content");
    Ok(())
}

/// A server of the second implementation with one share.
fn serving(harness: &Harness, share: &Home, options: &[&str]) -> Result<(Home, Server)> {
    let home = harness.home_with(Key::Server)?;
    let (key, share) = (home.file("server.key"), format!("docs={}:rw", share.path().display()));
    let always = ["server", "--key", word(&key)?, "--share", &share];
    let process = python(harness, &[&always, options].concat(), b"")?;
    Ok((home, Server::from_process(process)?))
}

fn ours(harness: &Harness, server: &Server, arguments: &[&str]) -> Result<Outcome> {
    let [command, rest @ ..] = arguments else { anyhow::bail!("no command") };
    let arguments = [&[*command, server.address(), "--server-key", server.key()?], rest].concat();
    harness.client(&harness.home()?, &arguments).run()
}

fn python_server_serves_our_client(harness: &Harness) -> Result<()> {
    let (source, share, goal) = (harness.home()?, harness.home()?, harness.home()?);
    make_tree(&source)?;
    let (tree, directory) = (source.file("tree"), format!("{}/", goal.path().display()));
    let runs: [&[&str]; 7] = [
        &["put", word(&tree)?, "docs:"],
        &["put", word(&tree)?, "docs:", "--checksum"],
        &["get", "docs:tree", &directory],
        &["get", "docs:tree", &directory, "--checksum"],
        &["ls"],
        &["ls", "docs:tree", "-R"],
        &["put", word(&tree)?, "docs:new/name", "--jobs", "1"],
    ];
    for arguments in runs {
        let (_home, server) = serving(harness, &share, &[])?;
        let outcome = ours(harness, &server, arguments)?;
        outcome.expect(Exit::Done).with_context(|| format!("{arguments:?}"))?;
        server.finish()?.expect(Exit::Done).with_context(|| format!("{arguments:?}"))?;
    }
    same(&tree, &share.file("tree"))?;
    same(&tree, &share.file("new/name"))?;
    same(&tree, &goal.file("tree"))
}

/// The share is a small file system in memory, in a namespace of the server's own.
fn python_server_refuses_what_has_no_room(harness: &Harness) -> Result<()> {
    let (source, share, home) = (harness.home()?, harness.home()?, harness.home_with(Key::Server)?);
    let file = source.write("big", vec![1; 6 << 20])?;
    let (key, path) = (home.file("server.key"), share.path().to_owned());
    let mut command = harness.peer("sockseal.py")?;
    command.args(["server", "--key", word(&key)?, "--share", &format!("docs={}:rw", path.display())]);
    let mount = "mount -t tmpfs -o size=4m tmpfs \"$0\" && exec \"$@\"";
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", mount, word(&path)?];
    let command = wrapped(&wrapper.map(str::to_owned), command);
    let server = Server::from_process(Process::start(command)?)?;
    let put = ours(harness, &server, &["put", word(&file)?, "docs:"])?.expect(Exit::Refused)?;
    ensure!(put.stderr.contains("disk is full") && !put.stderr.contains("moved"), "{}", put.stderr);
    server.finish()?;
    Ok(())
}

fn python_server_goes_on_where_it_was(harness: &Harness) -> Result<()> {
    let (source, share, goal) = (harness.home()?, harness.home()?, harness.home()?);
    make_tree(&source)?;
    let (tree, directory) = (source.file("tree"), format!("{}/", goal.path().display()));
    let put: &[&str] = &["put", word(&tree)?, "docs:", "--jobs", "1"];
    let get: &[&str] = &["get", "docs:tree", &directory, "--jobs", "1"];
    for (arguments, options) in [(put, &[][..]), (put, &["--compare"]), (get, &[])] {
        let (_home, server) = serving(harness, &share, &STOP)?;
        ours(harness, &server, arguments)?.expect(Exit::Integrity)?;
        let (_home, server) = serving(harness, &share, options)?;
        ours(harness, &server, arguments)?.expect(Exit::Done)?;
        wanted_with_chunks(&server.finish()?.expect(Exit::Done)?)?;
        same(&tree, &share.file("tree"))?;
        if arguments == put && options.is_empty() {
            fs::remove_dir_all(share.file("tree"))?;
        }
    }
    same(&tree, &goal.file("tree"))
}

fn hostile_python_server_stores_nothing_outside(harness: &Harness) -> Result<()> {
    let (share, goal) = (harness.home()?, harness.home()?);
    fs::create_dir_all(share.file("root"))?;
    fs::create_dir_all(goal.file("in/goal"))?;
    let directory = goal.file("in/goal");
    let arguments = ["get", "docs:root", &format!("{}/", directory.display())];
    for fault in ["files-paths", "files-links", "files-unasked"] {
        let (_home, server) = serving(harness, &share, &["--fault", fault])?;
        let outcome = ours(harness, &server, &arguments)?;
        outcome.expect_any(&[Exit::Network, Exit::Integrity, Exit::Refused]).context(fault)?;
        nothing_escaped(&[&directory, Path::new("/tmp")]).context(fault)?;
        server.finish()?;
    }
    Ok(())
}

fn broken_content_of_a_python_server_is_not_stored(harness: &Harness) -> Result<()> {
    let (share, goal) = (harness.home()?, harness.home()?);
    share.write("file", "content")?;
    let arguments = ["get", "docs:file", &format!("{}/", goal.path().display())];
    for fault in ["files-chunk", "files-end", "files-more", "files-early-finish"] {
        let (_home, server) = serving(harness, &share, &["--fault", fault])?;
        ours(harness, &server, &arguments)?.expect(Exit::Integrity).context(fault)?;
        server.finish()?;
        ensure!(!goal.file("file").exists(), "{fault}: broken content has a name");
    }
    let (_home, server) = serving(harness, &share, &[])?;
    ours(harness, &server, &arguments)?.expect(Exit::Done)?;
    ensure!(goal.read("file")? == "content");
    Ok(())
}

/// More than two chunks, and no whole number of them.
const BIG: usize = 3_000_000;
/// Ends a transfer without a word within the third chunk.
const STOP: [&str; 2] = ["--stop-after", "2200000"];
