//! Programs from crates.io that packages are made with, at pinned versions, under `target/tools`.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace;

/// A program by its crate and its version.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
}

impl CargoTool {
    pub(crate) const DEB: Self = Self { name: "cargo-deb", version: "3.8.0" };
    pub(crate) const AUDITABLE: Self = Self { name: "cargo-auditable", version: "0.7.7" };
    pub(crate) const CYCLONEDX: Self = Self { name: "cargo-cyclonedx", version: "0.5.9" };

    /// The path of the program, which is built and installed on its first use.
    pub(crate) fn find(&self) -> Result<PathBuf> {
        let folder = workspace::target()?.join("tools");
        let program = folder.join("bin").join(self.name);
        let stamp = folder.join(format!("{}-{}.installed", self.name, self.version));
        if program.is_file() && stamp.is_file() {
            return Ok(program);
        }
        let mut install = workspace::cargo()?;
        install.args(["install", "--locked", "--root"]).arg(&folder);
        install.arg("--target-dir").arg(folder.join("build"));
        workspace::run(install.arg(format!("{}@{}", self.name, self.version)))?;
        std::fs::write(&stamp, "")?;
        Ok(program)
    }
}
