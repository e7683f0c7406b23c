//! Goal: files and trees arrive whole in a share and come back out of it, and what is there already does not move again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Exit, Harness, Lines, Tap, Way, digest, entries, expect_same, plant, printed};
use crate::scenario::files_share::{Shared, lines, number, of_kind, summary, text};
use crate::scenario::registration::scenarios;

scenarios![
    tree_arrives_whole_and_comes_back,
    second_run_moves_nothing,
    standard_input_and_output_are_files_too,
    dry_run_changes_nothing,
    patterns_choose_what_is_moved,
    what_is_there_is_refused_replaced_or_kept_beside,
    checksums_are_those_of_sha256sum,
    failures_are_listed_and_tried_again,
    programs_get_json,
    several_streams_bring_the_same,
    shares_and_files_are_listed,
    what_is_not_permitted_is_refused_with_the_way_out,
    one_that_is_missing_does_not_stop_the_rest,
    commands_that_make_no_sense_are_refused_before_anything_is_sent,
];

fn tree_arrives_whole_and_comes_back(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.planted()?;
    let put = shared.run("put", &[text(&tree)?, "data:"])?.expect(Exit::Done)?;
    // The tree has a hole, which does not move.
    ensure!(put.stderr.contains(" sent (6.0 MiB moved) in "), "no closing line: {}", put.stderr);
    expect_same(&tree, &shared.there("tree"))?;
    let back = shared.here("back/");
    let got = shared.run("get", &["data:tree", text(&back)?])?.expect(Exit::Done)?;
    ensure!(got.stderr.contains(" received (6.0 MiB moved) in "), "no closing line: {}", got.stderr);
    expect_same(&tree, &back.join("tree"))?;
    // Under another name, and as what is in a directory.
    shared.run("put", &[text(&tree)?, "data:other"])?.expect(Exit::Done)?;
    expect_same(&tree, &shared.there("other"))?;
    shared.run("put", &[&format!("{}/.", text(&tree)?), "data:new/place"])?.expect(Exit::Done)?;
    expect_same(&tree, &shared.there("new/place"))?;
    shared.run("get", &["data:new/place", text(&shared.here("renamed"))?])?.expect(Exit::Done)?;
    expect_same(&tree, &shared.here("renamed"))?;
    shared.run("get", &["data:", text(&shared.here("all"))?])?.expect(Exit::Done)?;
    expect_same(shared.folder.path(), &shared.here("all"))
}

fn second_run_moves_nothing(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.planted()?;
    for options in [&[][..], &["--checksum"]] {
        for (command, words) in
            [("put", [text(&tree)?, "data:"]), ("get", ["data:tree", text(&shared.here("back/"))?])]
        {
            for is_again in [false, true] {
                let tap = Tap::before(&shared.fixture.address())?;
                let words = [&words[..], &["--json"], options].concat();
                let outcome = shared.command_through(&tap.address(), command, &words).run()?;
                let sum = summary(&outcome.expect(Exit::Done)?)?;
                if is_again {
                    ensure!(
                        number(&sum, "moved_bytes")? == 0 && number(&sum, "done")? == 0,
                        "{command}: {sum}"
                    );
                    let crossed = tap.bytes(Way::Up).len() + tap.bytes(Way::Down).len();
                    ensure!(crossed < 32 * 1024, "{command}: {crossed} bytes for nothing");
                }
            }
        }
    }
    Ok(())
}

fn standard_input_and_output_are_files_too(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    for (name, length) in [("empty", 0), ("small", 10), ("large", 9 * 1024 * 1024 + 1)] {
        let bytes = Lines::of_length(length).bytes()?;
        let goal = format!("data:{name}");
        let address = shared.fixture.address();
        let put = shared.command_through(&address, "put", &["-", &goal]).input(bytes.clone()).run()?;
        put.expect(Exit::Done)?;
        ensure!(fs::read(shared.there(name))? == bytes, "{name}: other bytes arrived");
        shared.run("get", &[&goal, "-"])?.expect(Exit::Done)?.expect_stdout(&bytes)?;
    }
    shared.run("put", &["-", "data:"])?.expect(Exit::Usage)?.hint_names(&["all.tar"])?;
    shared.run("get", &["data:none", "-"])?.expect(Exit::Refused)?.error_names(&["none"])?;
    Ok(())
}

fn dry_run_changes_nothing(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.planted()?;
    let put = shared.run("put", &[text(&tree)?, "data:", "--dry-run"])?.expect(Exit::Done)?;
    ensure!(
        put.text().contains("would send") && put.text().contains("deep/er/still/large"),
        "{}",
        put.text()
    );
    ensure!(entries(shared.folder.path())?.is_empty(), "something was made");
    shared.run("put", &[text(&tree)?, "data:"])?.expect(Exit::Done)?;
    let back = shared.here("back/");
    let got = shared.run("get", &["data:tree", text(&back)?, "--dry-run"])?.expect(Exit::Done)?;
    ensure!(got.text().contains("would fetch"), "{}", got.text());
    ensure!(!back.exists(), "something was made");
    let again = shared.run("put", &[text(&tree)?, "data:", "--dry-run"])?.expect(Exit::Done)?;
    ensure!(again.text().is_empty(), "what is there would be sent: {}", again.text());
    Ok(())
}

fn patterns_choose_what_is_moved(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.here("tree");
    fs::create_dir_all(tree.join("thumbs"))?;
    for name in ["a.jpg", "a.txt", "thumbs/a.jpg", "b.jpg"] {
        fs::write(tree.join(name), name)?;
    }
    let choose = ["--include", "*.jpg", "--exclude", "thumbs/", "--exclude", "b.*"];
    shared.run("put", &[&[text(&tree)?, "data:put/"], &choose[..]].concat())?.expect(Exit::Done)?;
    let files = |root: &Path| -> Result<Vec<PathBuf>> {
        Ok(entries(root)?
            .into_iter()
            .filter(|(_, shown)| shown.starts_with("file"))
            .map(|(path, _)| path)
            .collect())
    };
    ensure!(files(&shared.there("put"))? == [Path::new("tree/a.jpg")], "{:?}", files(&shared.there("put"))?);
    shared.run("put", &[text(&tree)?, "data:"])?.expect(Exit::Done)?;
    let back = shared.here("back/");
    shared.run("get", &[&["data:tree", text(&back)?], &choose[..]].concat())?.expect(Exit::Done)?;
    ensure!(files(&back)? == [Path::new("tree/a.jpg")], "{:?}", files(&back)?);
    shared
        .run("put", &[text(&tree)?, "data:", "--exclude", "a["])?
        .expect(Exit::Usage)?
        .error_names(&["a["])?;
    Ok(())
}

fn what_is_there_is_refused_replaced_or_kept_beside(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let file = shared.here("a.txt");
    fs::write(&file, "new")?;
    fs::write(shared.there("a.txt"), "old!")?;
    let goal = shared.there("a.txt");
    let refused = shared.run("put", &[text(&file)?, "data:"])?.expect(Exit::Refused)?;
    refused.error_names(&["a.txt", "at the server"])?.hint_names(&["--overwrite", "--rename"])?;
    ensure!(fs::read(&goal)? == b"old!", "it was replaced without being asked for");
    let beside = shared.run("put", &[text(&file)?, "data:", "--rename"])?.expect(Exit::Done)?;
    ensure!(beside.stderr.contains("a (1).txt"), "{}", beside.stderr);
    ensure!(
        fs::read(shared.there("a (1).txt"))? == b"new" && fs::read(&goal)? == b"old!",
        "nothing is beside it"
    );
    shared.run("put", &[text(&file)?, "data:", "--overwrite"])?.expect(Exit::Done)?;
    ensure!(fs::read(&goal)? == b"new", "it was not replaced");
    // The same at the client.
    let back = shared.here("back");
    fs::write(&back, "mine")?;
    shared
        .run("get", &["data:a.txt", text(&back)?])?
        .expect(Exit::Network)?
        .error_names(&["a.txt", "here"])?;
    ensure!(fs::read(&back)? == b"mine", "it was replaced without being asked for");
    shared.run("get", &["data:a.txt", text(&back)?, "--overwrite"])?.expect(Exit::Done)?;
    ensure!(fs::read(&back)? == b"new", "it was not replaced");
    Ok(())
}

fn checksums_are_those_of_sha256sum(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let file = shared.here("large");
    let bytes = Lines::of_length(3 * 1024 * 1024 + 5).bytes()?;
    fs::write(&file, &bytes)?;
    let words = [text(&file)?, "data:", "--checksum", "--verify-disk"];
    for _ in 0..2 {
        let put = shared.run("put", &words)?.expect(Exit::Done)?;
        ensure!(put.text() == format!("SHA256 ({}) = {}", text(&file)?, digest(&bytes)), "{}", put.text());
        let list = shared.here("SUMS");
        fs::write(&list, put.stdout)?;
        printed(Command::new("sha256sum").args(["--check", "--strict"]).arg(&list))?;
    }
    let got =
        shared.run("get", &["data:large", text(&shared.here("back"))?, "--checksum"])?.expect(Exit::Done)?;
    ensure!(got.text() == format!("SHA256 (data:large) = {}", digest(&bytes)), "{}", got.text());
    let address = shared.fixture.address();
    let put = shared
        .command_through(&address, "put", &["-", "data:in", "--checksum"])
        .input(bytes.clone())
        .run()?;
    ensure!(
        put.expect(Exit::Done)?.text() == format!("SHA256 (-) = {}", digest(&bytes)),
        "of standard input"
    );
    Ok(())
}

fn failures_are_listed_and_tried_again(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.planted()?;
    let list = shared.here("failed");
    let odd = "odd \\xff";
    for name in ["secret", "deep/one chunk"] {
        let goal = shared.there("tree").join(name);
        fs::create_dir_all(goal.parent().context("a parent")?)?;
        fs::write(goal, "in the way")?;
    }
    let words = [text(&tree)?, "data:", "--failed-to", text(&list)?];
    let put = shared.run("put", &words)?.expect(Exit::Refused)?;
    let put = put.error_names(&["secret", "deep/one chunk"])?.hint_names(&["--files-from", text(&list)?])?;
    ensure!(!put.stderr.contains(odd) && put.stderr.contains("2 failed"), "{}", put.stderr);
    let mut failed: Vec<String> = fs::read_to_string(&list)?.lines().map(str::to_owned).collect();
    failed.sort_unstable();
    ensure!(
        failed == ["deep/one chunk", "secret"].map(|name| format!("{}/{name}", tree.display())),
        "{failed:?}"
    );
    fs::remove_file(shared.there("tree/secret"))?;
    fs::remove_file(shared.there("tree/deep/one chunk"))?;
    fs::remove_file(shared.there("tree/empty"))?;
    let words = [text(&tree)?, "data:", "--files-from", text(&list)?, "--json"];
    let sum = summary(&shared.run("put", &words)?.expect(Exit::Done)?)?;
    ensure!(number(&sum, "done")? == 2, "{sum}");
    ensure!(!shared.there("tree/empty").exists(), "more than the list says was sent");
    // Out of the share, too.
    fs::write(&list, "data:tree/secret\0data:tree/deep/er\0")?;
    let back = shared.here("back/");
    shared.run("get", &["data:tree", text(&back)?, "--files-from", text(&list)?])?.expect(Exit::Done)?;
    expect_same(&tree.join("deep/er"), &back.join("tree/deep/er"))?;
    ensure!(back.join("tree/secret").exists() && !back.join("tree/program").exists(), "other files came");
    fs::write(&list, "elsewhere\n")?;
    shared.run("put", &[text(&tree)?, "data:", "--files-from", text(&list)?])?.expect(Exit::Usage)?;
    Ok(())
}

fn programs_get_json(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.planted()?;
    fs::create_dir(shared.there("tree"))?;
    fs::write(shared.there("tree/secret"), "in the way")?;
    let put = shared.run("put", &[text(&tree)?, "data:", "--json"])?.expect(Exit::Refused)?;
    let events = lines(&put)?;
    let large = format!("{}/deep/er/still/large", tree.display());
    for kind in ["found", "started", "done"] {
        let one = of_kind(&events, kind).find(|event| event["path"] == large.as_str());
        ensure!(number(one.with_context(|| format!("not {kind}: {large}"))?, "size")? == 5 * 1024 * 1024 + 7);
    }
    let failed: Vec<_> = of_kind(&events, "failed").collect();
    let [failed] = failed[..] else { anyhow::bail!("{failed:?}") };
    ensure!(failed["code"] == "exists" && failed["side"] == "server", "{failed}");
    ensure!(
        of_kind(&events, "done").any(|event| event["path_hex"].is_string()),
        "bytes that are no text are lost"
    );
    ensure!(of_kind(&events, "progress").next().is_some(), "no progress");
    let sum = summary(&put)?;
    ensure!(sum["complete"] == false && number(&sum, "failed")? == 1, "{sum}");
    ensure!(!put.text().contains('\u{1b}') && !put.text().contains('\u{202e}'), "a terminal would be moved");
    Ok(())
}

fn several_streams_bring_the_same(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tree = shared.planted()?;
    for number in 0..2500 {
        fs::write(tree.join(format!("deep/er/{number}")), number.to_string())?;
    }
    let tap = Tap::unrecorded(&shared.fixture.address())?;
    let words = [text(&tree)?, "data:other", "--jobs", "4"];
    let put = shared.command_through(&tap.address(), "put", &words).run()?.expect(Exit::Done)?;
    ensure!(!put.stderr.contains("unchanged"), "nothing was there before: {}", put.stderr);
    ensure!(tap.count() == 4, "{} connections", tap.count());
    let back = shared.here("back");
    let words = ["data:other", text(&back)?, "--jobs", "3"];
    let get = shared.command_through(&tap.address(), "get", &words).run()?.expect(Exit::Done)?;
    ensure!(!get.stderr.contains("unchanged"), "nothing was there before: {}", get.stderr);
    ensure!(tap.count() == 7, "{} connections", tap.count());
    expect_same(&tree, &shared.there("other"))?;
    expect_same(&tree, &back)
}

fn shares_and_files_are_listed(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    plant(&shared.there("tree"))?;
    shared.run("ls", &[])?.expect(Exit::Done)?.expect_stdout(b"data\trw\n")?;
    let listed = shared.run("ls", &["data:"])?.expect(Exit::Done)?;
    listed.expect_stdout(b"tree/\n")?;
    let long = shared.run("ls", &["data:tree", "-l"])?.expect(Exit::Done)?;
    let long = String::from_utf8_lossy(&long.stdout).into_owned();
    ensure!(long.lines().any(|line| line.starts_with("-rw------- ") && line.ends_with(" secret")), "{long}");
    ensure!(long.lines().any(|line| line.ends_with(" link -> deep/one chunk")), "{long}");
    let all = lines(&shared.run("ls", &["data:tree", "-R", "--json"])?.expect(Exit::Done)?)?;
    ensure!(all.len() == entries(&shared.there("tree"))?.len(), "{} entries", all.len());
    let large = all.iter().find(|entry| entry["path"] == "tree/deep/er/still/large").context("large")?;
    ensure!(number(large, "size")? == 5 * 1024 * 1024 + 7 && large["mode"] == "0640", "{large}");
    shared.run("ls", &["data:none"])?.expect(Exit::Refused)?;
    Ok(())
}

fn what_is_not_permitted_is_refused_with_the_way_out(harness: &Harness) -> Result<()> {
    let shared = Shared::with_rights(harness, "rw", &["--files", "data:ro"])?;
    let file = shared.here("a");
    fs::write(&file, "a")?;
    let refused = shared.run("put", &[text(&file)?, "data:"])?.expect(Exit::Refused)?;
    refused.error_names(&["data"])?.hint_names(&["server allow", "data:rw"])?;
    shared.run("put", &[text(&file)?, "other:"])?.expect(Exit::Refused)?.error_names(&["other"])?;
    shared.fixture.allow(&["--files", "data:drop"])?;
    shared.run("put", &[text(&file)?, "data:"])?.expect(Exit::Done)?;
    shared.run("ls", &["data:"])?.expect(Exit::Refused)?;
    shared.run("get", &["data:a", text(&shared.here("b"))?])?.expect(Exit::Refused)?;
    shared.run("put", &[text(&file)?, "data:", "--overwrite"])?.expect(Exit::Refused)?;
    shared.run("ls", &[])?.expect(Exit::Done)?.expect_stdout(b"data\tdrop\n")?;
    Ok(())
}

fn one_that_is_missing_does_not_stop_the_rest(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let (one, two, missing) = (shared.here("one"), shared.here("two"), shared.here("missing"));
    fs::write(&one, "1")?;
    fs::write(&two, "2")?;
    let put = shared.run("put", &[text(&one)?, text(&missing)?, text(&two)?, "data:"])?;
    put.expect(Exit::Network)?.error_names(&["missing", "here"])?;
    ensure!(fs::read(shared.there("one"))? == b"1" && fs::read(shared.there("two"))? == b"2", "not the rest");
    let back = shared.here("back/");
    let got = shared.run("get", &["data:one", "data:missing", "data:two", text(&back)?])?;
    got.expect(Exit::Refused)?.error_names(&["data:missing"])?;
    ensure!(fs::read(back.join("two"))? == b"2", "not the rest");
    Ok(())
}

fn commands_that_make_no_sense_are_refused_before_anything_is_sent(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let tap = Tap::before(&shared.fixture.address())?;
    for (command, words) in [
        ("put", &["a", "nothing"][..]),
        ("put", &["a", "data:/etc"]),
        ("put", &["a", "b/a", "data:"]),
        ("put", &["-", "a", "data:x"]),
        ("put", &[".", "a", "data:"]),
        ("get", &["data:a", "other:b", "."]),
        ("get", &["data:a", "data:b/a", "."]),
        ("get", &["data:a", "data:b", "-"]),
        ("get", &["data:a/../b", "."]),
        ("ls", &["data:../x"]),
    ] {
        let outcome = shared.command_through(&tap.address(), command, words).run()?;
        outcome.expect(Exit::Usage).with_context(|| format!("{command} {words:?}"))?;
    }
    ensure!(tap.count() == 0, "the server was asked");
    Ok(())
}
