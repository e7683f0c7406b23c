//! Goal: the Debian package brings both programs and the front under names of their own, keeps tunnels over an upgrade, and goes
//! without leaving anything but what an administrator would keep.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::dist::{Compression, Programs, Stamp, Tree, package, pages};
use crate::harness::{DEADLINE, Exit, Harness, Process, Root, Server, Tool, printed};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![package_is_installed_used_upgraded_and_removed];

fn package_is_installed_used_upgraded_and_removed(harness: &Harness) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("package-").tempdir()?;
    let root = Root::new(scratch.path())?;
    let [old, new] = build(harness, scratch.path())?;
    let lintian =
        Tool::LINTIAN.command()?.args(["--fail-on", "error", "--no-tag-display-limit"]).arg(&old).output()?;
    let said =
        String::from_utf8_lossy(&lintian.stdout).into_owned() + &String::from_utf8_lossy(&lintian.stderr);
    ensure!(lintian.status.success(), "lintian finds errors:\n{said}");

    let [old, new] = [root.bring(&old)?, root.bring(&new)?];
    root.run("dpkg", &["--install", &old])?;
    let version = |program| root.run(program, &["--version"]);
    ensure!(version("sockseal")?.starts_with("sockseal "), "{}", version("sockseal")?);
    ensure!(version("sockseal-server")?.starts_with("sockseal-server "), "{}", version("sockseal-server")?);
    ensure!(version("sockseal-client")?.starts_with("sockseal-client "), "{}", version("sockseal-client")?);
    for name in ["server", "client"] {
        let found =
            root.command("sh")?.args(["-c", &format!("dpkg -L sockseal | grep '/{name}$'")]).output()?;
        ensure!(found.stdout.is_empty(), "the package has a file that is called {name}");
    }
    root.run("systemd-analyze", &["verify", "--man=no", "/usr/lib/systemd/system/sockseal-server.service"])?;
    let kept = root.run("stat", &["--format=%a %U", "/var/lib/sockseal"])?;
    ensure!(kept.trim() == "700 sockseal", "the folder of keys is {kept}");
    root.run("sockseal", &["server", "check", "--config", "/etc/sockseal/server.toml"])?;
    root.run("sockseal-client", &["check", "--config", "/etc/sockseal/client.toml"])?;
    let page = root.run("zcat", &["/usr/share/man/man1/sockseal-server-allow.1.gz"])?;
    ensure!(page.contains("sockseal\\-server allow") && page.contains(".TH "), "{page}");

    // The front becomes the server: the signal that is sent to it ends the server in order.
    let mut command = root.command("setpriv")?;
    command.args(["--reuid", "sockseal", "--regid", "sockseal", "--clear-groups", "sockseal", "server"]);
    command.args([
        "--home",
        "/var/lib/sockseal",
        "run",
        "--config",
        "/etc/sockseal/server.toml",
        "--listen",
        "127.0.0.1:0",
    ]);
    let server = Server::from_process(Process::start(command)?)?;
    let pasted = server.logged(&["try: "])?;
    let pasted = pasted.trim_start().strip_prefix("try:").context("a command to paste")?.trim().to_owned();
    ensure!(pasted.starts_with("sockseal send "), "the front shows {pasted:?}");
    let said = root.run("sh", &["-c", &pasted.replacen("sockseal ", "sockseal --home /tmp/first ", 1)])?;
    server.printed("[anonymous] Hello, World!").with_context(|| said)?;

    let pipe = forward(&root, &server)?;
    root.run("dpkg", &["--install", &new])?;
    let status =
        root.run("dpkg-query", &["--show", "--showformat=${Version} ${db:Status-Status}", "sockseal"])?;
    ensure!(status.ends_with("-2 installed"), "{status}");
    let said = root.run("sh", &["-c", &pasted.replacen("sockseal ", "sockseal --home /tmp/second ", 1)])?;
    server.printed("[anonymous] Hello, World!").with_context(|| said)?;
    pipe.signal(Signal::TERM)?;
    pipe.finish()?.expect(Exit::Done).context("what ran over the upgrade")?;
    server.process.signal(Signal::TERM)?;
    server.finish()?.expect(Exit::Done)?;

    root.run("dpkg", &["--remove", "sockseal"])?;
    let left = left_behind(&root)?;
    ensure!(
        left.contains(&"/etc/sockseal/server.toml".to_owned()),
        "removing takes the configuration: {left:?}"
    );
    ensure!(left.contains(&"/var/lib/sockseal/server.key".to_owned()), "removing takes the keys: {left:?}");
    ensure!(!left.iter().any(|path| path.starts_with("/usr")), "removing leaves {left:?}");
    root.run("dpkg", &["--purge", "sockseal"])?;
    let left = left_behind(&root)?;
    ensure!(left.is_empty(), "purging leaves {left:?}");
    Ok(())
}

/// A client of the package that is at work while the package is upgraded.
fn forward(root: &Root, server: &Server) -> Result<Process> {
    let mut command = root.command("sockseal")?;
    let arguments =
        ["--home", "/tmp/third", "forward", server.address(), "--server-key", server.key()?, "-D", "0"];
    let process = Process::start({
        command.args(arguments);
        command
    })?;
    process
        .stderr
        .wait_line(DEADLINE, |line| line.contains("127.0.0.1:"))
        .context("the forward's address")?;
    Ok(process)
}

/// The files of the package that are in the copy, but for those of dpkg and of the machine's log.
fn left_behind(root: &Root) -> Result<Vec<String>> {
    let folders = [
        "/etc/sockseal",
        "/etc/logrotate.d",
        "/var/lib/sockseal",
        "/var/log/sockseal",
        "/usr",
        "/etc/systemd",
    ];
    let mut find = root.command("find")?;
    find.args(folders).args(["-path", "*sockseal*", "-not", "-type", "d"]);
    // Folders that are gone are no failure.
    let found = find.output()?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().map(String::from).collect())
}

/// Builds two revisions of the package from the programs under test.
fn build(harness: &Harness, scratch: &Path) -> Result<[PathBuf; 2]> {
    let stripped = |name: &str, new_name: &str| -> Result<PathBuf> {
        let program = harness.program(name);
        let path = scratch.join(new_name);
        printed(Command::new("strip").arg("-o").arg(&path).arg(program.get_program()))?;
        Ok(path)
    };
    let programs = Programs {
        front: stripped("sockseal", "sockseal")?,
        server: stripped("server", "sockseal-server")?,
        client: stripped("client", "sockseal-client")?,
    };
    let source = workspace::root()?;
    let mut stamp = Stamp::of(&source)?;
    let pages = pages(&source, scratch, &stamp)?;
    let tree = Tree::of_package(&source, &programs, &pages, &scratch.join("tree"))?;
    let old = package(&tree, &stamp, &scratch.join("deb"), scratch, Compression::Fast)?;
    stamp.revision += 1;
    let new = package(&tree, &stamp, &scratch.join("deb"), scratch, Compression::Fast)?;
    Ok([old, new])
}
