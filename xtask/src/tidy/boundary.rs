//! Checks that some concerns stay within their files: the codec, the schema and its specification, clocks and
//! randomness, unsafe code.

use sha2::{Digest as _, Sha256};

use crate::tidy::file::File;
use crate::tidy::findings::Findings;

pub(super) fn check(files: &[File], findings: &mut Findings) {
    for file in files.iter().filter(|file| file.is_rust()) {
        codec(file, findings);
        schema(file, findings);
        if file.is_shipped() {
            sans_io(file, findings);
        }
    }
    no_std(files, findings);
    lints(files, findings);
    specification(files, findings);
}

/// Only codec.rs may name bincode, so that this file alone changes if another library replaces it.
fn codec(file: &File, findings: &mut Findings) {
    if file.path == CODEC || !file.path.starts_with("crates/") {
        return;
    }
    for (number, line) in file.shipped_lines() {
        if is_code(line) && line.contains("bincode") {
            findings.line(file, number, "bincode is named in codec.rs alone");
        }
    }
}

/// Only messages may derive a wire format. The programs' own files have other formats.
fn schema(file: &File, findings: &mut Findings) {
    let is_message = file.path.starts_with("crates/wire-protocol/src/message");
    let is_library =
        ["crates/wire-protocol/src/", "crates/crypto-core/src/"].iter().any(|top| file.path.starts_with(top));
    if is_message || !is_library || file.path == CODEC {
        return;
    }
    for (number, line) in file.shipped_lines() {
        if is_code(line) && line.contains("derive(") && line.contains("Serialize") {
            findings.line(file, number, "only the message schema derives Serialize");
        }
    }
}

/// The protocol's code below the streams uses no clock, socket, thread or global randomness.
fn sans_io(file: &File, findings: &mut Findings) {
    let is_core = ["crates/record-kernels/src/", "crates/crypto-core/src/", "crates/wire-protocol/src/"]
        .iter()
        .any(|top| file.path.starts_with(top));
    let is_stream = STREAMS.iter().any(|stream| file.path.starts_with(stream));
    if !is_core || is_stream || file.path == FORCED {
        return;
    }
    for (number, line) in file.shipped_lines().filter(|(_, line)| is_code(line)) {
        for forbidden in OUTSIDE {
            if line.contains(forbidden) {
                findings.line(file, number, &format!("{forbidden} belongs to the programs or the stream"));
            }
        }
    }
}

fn no_std(files: &[File], findings: &mut Findings) {
    for crate_name in ["record-kernels", "crypto-core", "wire-protocol"] {
        let path = format!("crates/{crate_name}/src/lib.rs");
        let says_so = |file: &File| file.text.lines().any(|line| line == "#![no_std]");
        if !files.iter().any(|file| file.path == path && says_so(file)) {
            findings.file(&path, "does not say #![no_std]");
        }
    }
}

/// The workspace's lints forbid unsafe code, and crates inherit them. Only one crate may have lints of its
/// own, which have to equal the workspace's but for that line. Fuzz targets are workspaces of their own and
/// not checked.
fn lints(files: &[File], findings: &mut Findings) {
    let is_member = |path: &str| path == "xtask/Cargo.toml" || path.split('/').count() == MEMBER_DEPTH;
    for manifest in files.iter().filter(|file| file.name() == "Cargo.toml") {
        if is_member(&manifest.path)
            && manifest.path != KERNELS
            && !manifest.text.contains("\n[lints]\nworkspace = true\n")
        {
            findings.file(&manifest.path, "does not take over the workspace's lints");
        }
    }
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let Some(workspace) = find(WORKSPACE) else { return findings.file(WORKSPACE, "is missing") };
    let Some(kernels) = find(KERNELS) else { return findings.file(KERNELS, "is missing") };
    let lints = workspace.text.lines().skip_while(|line| *line != "[workspace.lints.rust]");
    let lints = lints.take_while(|line| !line.starts_with("[profile"));
    for lint in lints.filter(|line| line.contains(" = ") && !line.starts_with("unsafe_code")) {
        if !kernels.text.lines().any(|line| line == lint) {
            findings.file(KERNELS, &format!("lacks the workspace's lint `{lint}`"));
        }
    }
}

/// The schema must not change without the document that a second implementation is written from. The hash
/// covers the output of `cat message.rs message/*.rs`.
fn specification(files: &[File], findings: &mut Findings) {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let Some(schema) = find(SCHEMA) else { return findings.file(SCHEMA, "is missing") };
    let Some(document) = find(SPECIFICATION) else { return findings.file(SPECIFICATION, "is missing") };
    let mut hash = Sha256::new_with_prefix(&schema.text);
    let mut parts: Vec<&File> = files.iter().filter(|file| file.path.starts_with(SCHEMA_PARTS)).collect();
    parts.sort_unstable_by_key(|file| &file.path);
    for part in parts {
        hash.update(&part.text);
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!("message.rs and message/*.rs sha256: {hash}");
    if !document.text.contains(&expected) {
        let what = format!("describes another schema: bring it up to date, then write `{expected}`");
        findings.file(SPECIFICATION, &what);
    }
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

const WORKSPACE: &str = "Cargo.toml";
/// Number of components of the path `crates/NAME/Cargo.toml`.
const MEMBER_DEPTH: usize = 3;
/// The one crate that may contain unsafe code.
const KERNELS: &str = "crates/record-kernels/Cargo.toml";
/// The file that reads from the environment which kernel to test, only in builds for tests.
const FORCED: &str = "crates/record-kernels/src/forced.rs";
const CODEC: &str = "crates/wire-protocol/src/codec.rs";
const SCHEMA: &str = "crates/wire-protocol/src/message.rs";
const SCHEMA_PARTS: &str = "crates/wire-protocol/src/message/";
const SPECIFICATION: &str = "crates/wire-protocol/PROTOCOL.md";

/// The only files of wire-protocol that may use a transport, each behind a feature.
const STREAMS: [&str; 2] = ["crates/wire-protocol/src/stream", "crates/wire-protocol/src/relay"];

const OUTSIDE: [&str; 11] = [
    "std::net",
    "std::time",
    "std::thread",
    "std::fs",
    "std::env",
    "SystemTime",
    "Instant::",
    "getrandom",
    "OsRng",
    "SysRng",
    "thread_rng",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of findings for a document and two parts of the schema.
    fn finds(document: &str, parts: [(&str, &str); 2]) -> usize {
        let parts = parts.map(|(name, text)| (format!("{SCHEMA_PARTS}{name}"), text.to_owned()));
        let files =
            [(SCHEMA.to_owned(), "mod a;\n".to_owned()), (SPECIFICATION.to_owned(), document.to_owned())];
        let files: Vec<File> =
            parts.into_iter().chain(files).map(|(path, text)| File { path, text }).collect();
        let mut findings = Findings::default();
        specification(&files, &mut findings);
        findings.len()
    }

    #[test]
    fn no_part_of_the_schema_changes_without_its_specification() {
        // The hash is that of `printf 'mod a;\nstruct A;\nstruct B;\n' | sha256sum`.
        let document = "message.rs and message/*.rs sha256: \
                        3e9838ba17ba64b72238ef76ea5a4ee399a239fb6972252612fb4195f1116020";
        let honest = [("a.rs", "struct A;\n"), ("b.rs", "struct B;\n")];
        assert_eq!(finds(document, honest), 0);
        assert_eq!(finds(document, [honest[1], honest[0]]), 0, "the order of the files is by name");
        assert_eq!(finds(document, [("a.rs", "struct A;\n"), ("b.rs", "struct C;\n")]), 1);
        assert_eq!(finds(document, [("a.rs", "struct A;\n"), ("b.rs", "")]), 1);
        assert_eq!(finds("no hash", honest), 1);
    }
}
