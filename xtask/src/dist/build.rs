//! The programs, built so that neither the folder nor the time of the build is in them, and the pages of the manual.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::dist::stamp::Stamp;
use crate::dist::tools::CargoTool;
use crate::workspace;

/// How the programs find the C library.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linking {
    /// That of the system.
    Dynamic,
    /// In themselves: they run on any Linux of their processor, also where there is no other file.
    Static,
}

/// The paths of the programs.
pub(crate) struct Programs {
    pub(crate) front: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) client: PathBuf,
}

impl Programs {
    /// The programs by the names that they are installed by.
    pub(crate) fn named(&self) -> [(&'static str, &Path); 3] {
        [("sockseal", &self.front), ("sockseal-server", &self.server), ("sockseal-client", &self.client)]
    }
}

/// Builds the release versions with a list of their dependencies in them, which `cargo audit bin` reads.
pub(super) fn programs(root: &Path, work: &Path, stamp: &Stamp, linking: Linking) -> Result<Programs> {
    let target = work.join(match linking {
        Linking::Dynamic => "dynamic",
        Linking::Static => "static",
    });
    let mut cargo = workspace::cargo()?;
    let tools = CargoTool::AUDITABLE.find()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = tools.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(&path));
    cargo.current_dir(root).env("PATH", std::env::join_paths(folders)?);
    cargo.args(["auditable", "build", "--release", "--locked", "-p", "sockseal-programs", "--bins"]);
    // With a target, flags are not for build scripts and macros.
    cargo.args(["--target", TARGET, "--target-dir"]).arg(&target);
    cargo.env("SOURCE_DATE_EPOCH", &stamp.epoch).env("CARGO_INCREMENTAL", "0");
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let prefixes =
        [(root.to_path_buf(), "/sockseal"), (cargo_home()?, "/cargo"), (target.clone(), "/target")];
    let mut rust = Vec::new();
    let mut c = Vec::new();
    for (folder, name) in &prefixes {
        rust.push(format!("--remap-path-prefix={}={name}", folder.display()));
        c.push(format!("-ffile-prefix-map={}={name}", folder.display()));
    }
    if linking == Linking::Static {
        rust.push("-Ctarget-feature=+crt-static".to_owned());
        // It looks for the C library's function by name at run time, which finds nothing there, and reads /dev/urandom then: an
        // image of the programs alone may have none.
        rust.push("--cfg=getrandom_backend=\"linux_getrandom\"".to_owned());
    }
    cargo.env("RUSTFLAGS", rust.join(" ")).env("CFLAGS", c.join(" "));
    workspace::run(&mut cargo)?;
    let folder = target.join(TARGET).join("release");
    Ok(Programs {
        front: folder.join("sockseal"),
        server: folder.join("sockseal-server"),
        client: folder.join("sockseal-client"),
    })
}

/// Makes the pages of the manual and the completions, and returns their folder.
pub(crate) fn pages(root: &Path, work: &Path, stamp: &Stamp) -> Result<PathBuf> {
    let folder = work.join("pages");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let target = workspace::target()?;
    let mut build = workspace::cargo()?;
    build.current_dir(root).arg("--quiet").args(["build", "--workspace", "--all-features"]);
    // With the features that tests are built with, for which all is compiled already where tests run.
    build.args(["--example", "pages"]);
    workspace::run(build.arg("--target-dir").arg(&target))?;
    workspace::run(Command::new(target.join("debug/examples/pages")).arg(&folder).arg(&stamp.date))?;
    Ok(folder)
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}

/// What is built for: the package and the tarball are of this architecture.
const TARGET: &str = "x86_64-unknown-linux-gnu";
