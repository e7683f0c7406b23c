//! Checks that crates depend on each other only as `crates/ARCHITECTURE.md` draws it, and not on packages
//! that would break an invariant.

use crate::tidy::file::File;
use crate::tidy::findings::Findings;

pub(super) fn check(files: &[File], findings: &mut Findings) {
    for manifest in files.iter().filter(|file| file.name() == "Cargo.toml") {
        let Some(name) =
            manifest.path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        // Fuzz targets are workspaces of their own.
        if name.contains('/') {
            continue;
        }
        let Some(arrows) = ARROWS.iter().find(|arrows| arrows.from == name) else {
            findings.file(&manifest.path, "the crate has no place in the table of arrows");
            continue;
        };
        for (number, dependency) in dependencies(&manifest.text) {
            let is_ours = ARROWS.iter().any(|arrows| arrows.from == dependency);
            if is_ours && !arrows.to.contains(&dependency) {
                findings.line(manifest, number, &format!("{name} must not depend on {dependency}"));
            }
            if arrows.never.contains(&dependency) {
                findings.line(manifest, number, &format!("{name} has no use for {dependency}"));
            }
        }
    }
}

/// The names in the table `[dependencies]` with their line numbers. Dependencies of tests are not restricted.
fn dependencies(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_within = false;
    manifest.lines().enumerate().filter_map(move |(index, line)| {
        if line.starts_with('[') {
            is_within = line == "[dependencies]";
            return None;
        }
        let name =
            line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        is_within.then_some((index + 1, name))
    })
}

/// The dependencies that a crate may have.
struct Arrows {
    from: &'static str,
    to: &'static [&'static str],
    /// Other packages that would break an invariant.
    never: &'static [&'static str],
}

const ARROWS: [Arrows; 10] = [
    Arrows { from: "record-kernels", to: &[], never: NO_IO },
    Arrows { from: "crypto-core", to: &["record-kernels"], never: NO_IO },
    Arrows { from: "wire-protocol", to: &["crypto-core"], never: NO_PROGRAM },
    Arrows { from: "sockseal", to: &["crypto-core", "wire-protocol"], never: NO_PROGRAM },
    Arrows { from: "tunnel", to: &["wire-protocol"], never: NO_PROGRAM },
    Arrows { from: "files", to: &["wire-protocol"], never: NO_PROGRAM },
    Arrows { from: "cli-support", to: &["crypto-core", "wire-protocol", "tunnel"], never: &[] },
    Arrows {
        from: "server",
        to: &["crypto-core", "wire-protocol", "tunnel", "files", "cli-support"],
        never: &[],
    },
    Arrows {
        from: "client",
        to: &["crypto-core", "wire-protocol", "tunnel", "files", "cli-support"],
        never: &[],
    },
    Arrows { from: "programs", to: &["server", "client"], never: &[] },
];

/// Packages that the crates below the protocol must not use: these crates make no system calls, and have no
/// text formats.
const NO_IO: &[&str] = &["tokio", "getrandom", "serde", "clap", "toml", "tracing"];
/// Packages that the crates that carry data must not use: these crates know neither command lines nor our files.
const NO_PROGRAM: &[&str] = &["clap", "toml", "etcetera", "tracing-subscriber"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_finds(path: &str, manifest: &str, expected: &[&str]) {
        let file = File { path: path.to_owned(), text: manifest.to_owned() };
        let mut findings = Findings::default();
        check(&[file], &mut findings);
        assert_eq!(findings.0, expected);
    }

    #[test]
    fn dependencies_along_the_arrows_are_left_alone() {
        let manifest = "[package]\nname = \"tunnel\"\n\n[dependencies]\nwire-protocol = { workspace = true }\n\
                        tokio.workspace = true\n\n[dev-dependencies]\nclap.workspace = true\n";
        check_finds("crates/tunnel/Cargo.toml", manifest, &[]);
        check_finds("crates/tunnel/fuzz/Cargo.toml", "[dependencies]\nserver = \"1\"\n", &[]);
    }

    #[test]
    fn dependency_against_an_arrow_is_found() {
        let manifest = "[dependencies]\n# A reason.\nserver.workspace = true\nclap = \"4\"\n";
        check_finds(
            "crates/tunnel/Cargo.toml",
            manifest,
            &[
                "crates/tunnel/Cargo.toml:3: tunnel must not depend on server",
                "crates/tunnel/Cargo.toml:4: tunnel has no use for clap",
            ],
        );
    }

    #[test]
    fn crate_that_is_not_drawn_is_found() {
        let finding = "crates/new/Cargo.toml: the crate has no place in the table of arrows";
        check_finds("crates/new/Cargo.toml", "[dependencies]\n", &[finding]);
    }
}
