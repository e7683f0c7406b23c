//! The Debian package, made by cargo-deb of a tree of files.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::dist::stamp::Stamp;
use crate::dist::tools::CargoTool;
use crate::dist::tree::{Tree, sources};
use crate::workspace;

/// How much time the size of a package is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Small,
    Fast,
}

/// Makes the package in the folder `out`, by way of a manifest in `work`, and returns its path.
///
/// Its units are neither enabled nor started: a machine that has the package for its client wants no server. An upgrade neither
/// stops nor restarts them, since that would cut tunnels; a running server goes on with the program that it was started from.
pub(crate) fn package(
    tree: &Tree,
    stamp: &Stamp,
    work: &Path,
    out: &Path,
    compression: Compression,
) -> Result<PathBuf> {
    fs::create_dir_all(work.join("src"))?;
    fs::create_dir_all(out)?;
    fs::write(work.join("src/lib.rs"), "")?;
    let changelog = fs::read_to_string(sources(&stamp.root).join("changelog"))?
        .replace("VERSION", &format!("{}-{}", stamp.version, stamp.revision))
        .replace("MAINTAINER", MAINTAINER)
        .replace("DATE", &stamp.changelog_date);
    fs::write(work.join("changelog"), changelog)?;
    fs::write(work.join("licenses"), LICENSES)?;
    fs::write(work.join("Cargo.toml"), manifest(tree, stamp)?)?;
    let package = out.join(format!("sockseal_{}-{}_amd64.deb", stamp.version, stamp.revision));
    let mut command = Command::new(CargoTool::DEB.find()?);
    command.current_dir(work).env("SOURCE_DATE_EPOCH", &stamp.epoch);
    command
        .args(["--no-build", "--no-strip", "--quiet", "--manifest-path", "Cargo.toml", "--output"])
        .arg(&package);
    if compression == Compression::Fast {
        command.arg("--fast");
    }
    workspace::run(&mut command)?;
    Ok(package)
}

fn manifest(tree: &Tree, stamp: &Stamp) -> Result<String> {
    let text = |path: &Path| path.to_str().map(|text| format!("{text:?}")).context("a path that is no text");
    let mut assets = String::new();
    for path in &tree.files {
        let folder = format!("{}/", path.parent().unwrap_or(Path::new("")).display());
        let mode = if path.starts_with("usr/bin") { "755" } else { "644" };
        writeln!(assets, "    [{}, {folder:?}, {mode:?}],", text(&tree.folder.join(path))?)?;
    }
    let configuration: Vec<String> = tree
        .files
        .iter()
        .filter(|path| path.starts_with("etc"))
        .map(|path| format!("\"/{}\"", path.display()))
        .collect();
    let Stamp { version, revision, .. } = stamp;
    let configuration = configuration.join(", ");
    let scripts = text(&sources(&stamp.root).join("maintainer"))?;
    Ok(format!(
        "[package]\nname = \"sockseal\"\nversion = \"{version}\"\nedition = \"2024\"\nlicense = \"MIT OR Apache-2.0\"\n\
         description = \"Encrypted sockets: messages, pipes, files and tunnels\"\n\n[workspace]\n\n\
         [package.metadata.deb]\nmaintainer = \"{MAINTAINER}\"\nrevision = \"{revision}\"\nsection = \"net\"\npriority = \"optional\"\n\
         depends = \"$auto, systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles\"\n\
         suggests = \"fail2ban\"\n\
         copyright = \"2026 the Sockseal contributors\"\nlicense-file = [\"licenses\", \"0\"]\nchangelog = \"changelog\"\nextended-description = \"\"\"\n{DESCRIPTION}\"\"\"\n\
         conf-files = [{configuration}]\nmaintainer-scripts = {scripts}\nassets = [\n{assets}]\n\n\
         [package.metadata.deb.systemd-units]\nenable = false\nstart = false\nrestart-after-upgrade = false\nstop-on-upgrade = false\n"
    ))
}

const MAINTAINER: &str = "Sockseal maintainers <maintainers@sockseal.invalid>";
const DESCRIPTION: &str = "\
What goes from one machine to another cannot be read, changed, replayed or cut
short unseen. There are no certificates, no authority and no account: RSA or a
shared key says who is who, and a fresh X25519 and ML-KEM exchange keeps
traffic closed later on. With it come messages that are confirmed, pipes, files
that resume, and tunnels for TCP, unix sockets and UDP.
";
const LICENSES: &str = "\
License: MIT
 Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
 documentation files (the \"Software\"), to deal in the Software without restriction, including without limitation the
 rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
 persons to whom the Software is furnished to do so, subject to the following conditions:
 .
 The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
 Software.
 .
 THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
 WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
 COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

License: Apache-2.0
 On Debian systems the full text of the Apache License, version 2.0, is in /usr/share/common-licenses/Apache-2.0.
";
