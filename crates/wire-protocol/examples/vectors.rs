//! Writes the test vectors of the protocol, or checks that they are what the code makes.
//!
//!     cargo run -p wire-protocol --all-features --example vectors -- DIR [--check]
//!
//! Each handshake is run once by the state machines with fixed randomness. Everything secret in the files comes
//! from elsewhere, though: it is computed anew from what was on the wire and from the randomness, with nothing but
//! HKDF and the primitives (see `vectors/schedule.rs`), and has to open every record that the machines sealed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

#[path = "vectors/files.rs"]
mod files;
#[path = "vectors/files_exchanges.rs"]
mod files_exchanges;
#[path = "vectors/files_violations.rs"]
mod files_violations;
#[path = "vectors/format.rs"]
mod format;
#[path = "vectors/handshakes.rs"]
mod handshakes;
#[path = "vectors/hostile.rs"]
mod hostile;
#[path = "vectors/hostile_invites.rs"]
mod hostile_invites;
#[path = "vectors/schedule.rs"]
mod schedule;
#[path = "vectors/script.rs"]
mod script;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let (folder, outcome) = match (folder, arguments.next()) {
        (Some(folder), None) => (folder.clone(), write(&folder)),
        (Some(folder), Some(flag)) if flag == "--check" => (folder.clone(), check(&folder)),
        _ => {
            eprintln!("usage: vectors DIR [--check]");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(differences) if differences.is_empty() => ExitCode::SUCCESS,
        Ok(differences) => {
            for difference in differences {
                eprintln!("{difference}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Every file, by its name.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let handshakes = handshakes::all();
    let mut hostile = hostile::cases(&handshakes);
    hostile.cases.extend(hostile_invites::cases(&handshakes));
    let mut files: Vec<_> =
        handshakes.iter().map(|handshake| (handshake.file, format::to_json(&handshake.vector))).collect();
    files.push(("hostile.json", format::to_json(&hostile)));
    files.push(("files.json", format::to_json(&files::vectors())));
    files
}

fn write(folder: &Path) -> io::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    for (name, text) in all() {
        fs::write(folder.join(name), text)?;
    }
    Ok(Vec::new())
}

fn check(folder: &Path) -> io::Result<Vec<String>> {
    let mut differences = Vec::new();
    for (name, text) in all() {
        let there = match fs::read_to_string(folder.join(name)) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                differences.push(format!("{name}: not there"));
                continue;
            }
            Err(error) => return Err(error),
        };
        if there != text {
            let same = there.lines().zip(text.lines()).take_while(|(there, made)| there == made).count();
            differences.push(format!("{name}: differs from what the code makes at line {}", same + 1));
        }
    }
    Ok(differences)
}
