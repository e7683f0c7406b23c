//! `cargo xtask dist`: what people install, under `target/dist`: a Debian package, a tarball of static programs, what an image
//! of a container is made of, and a list of all that is in them (SBOM).

mod archive;
mod build;
mod check;
mod container;
mod deb;
mod everything;
mod sbom;
mod stamp;
mod tools;
mod tree;

use anyhow::Result;

pub(crate) use self::build::{Programs, pages};
pub(crate) use self::deb::{Compression, package};
use self::everything::{make, names};
pub(crate) use self::stamp::Stamp;
pub(crate) use self::tree::Tree;
use crate::flags::DistFlags;
use crate::workspace;

pub(crate) fn run(flags: &DistFlags) -> Result<()> {
    if flags.check {
        return check::run();
    }
    let out = workspace::target()?.join("dist");
    make(&workspace::root()?, &out)?;
    println!("in {}:", out.display());
    for name in names(&out)? {
        println!("  {name}");
    }
    Ok(())
}
