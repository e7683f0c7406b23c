//! A second process that exchanges two names, again and again: a directory or file for a symbolic link that leads out.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The names, with a line end between them; where it is not set this is no such process.
const NAMES: &str = "FILES_TEST_EXCHANGED";

/// Exchanges, and rounds meanwhile, at least.
pub(crate) const TIMES: u64 = 4000;

/// The process. It ends with its owner.
pub(crate) struct Swapper {
    child: Child,
    stdin: Option<ChildStdin>,
    count: PathBuf,
}

impl Swapper {
    /// Begins to exchange `one` and `two`, which are in the same directory.
    pub(crate) fn begin(one: &Path, two: &Path, count: PathBuf) -> Self {
        let names = [one, two, &count].map(|path| path.to_str().unwrap()).join("\n");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "api::swapper::exchanges_names_where_it_is_told_to"])
            .env(NAMES, names)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin, count }
    }

    /// Whether there were [`TIMES`] exchanges.
    pub(crate) fn has_done_enough(&self) -> bool {
        self.count.exists()
    }

    /// Ends it.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Not a test where nothing is to be exchanged: it is what the second process runs.
#[test]
fn exchanges_names_where_it_is_told_to() {
    let Ok(names) = env::var(NAMES) else { return };
    let mut names = names.lines().map(PathBuf::from);
    let (one, two, count) = (names.next().unwrap(), names.next().unwrap(), names.next().unwrap());
    let is_over = AtomicBool::new(false);
    let mut exchanges = 0_u64;
    thread::scope(|threads| {
        threads.spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
            exchanges += 1;
            if exchanges == TIMES {
                fs::write(&count, "").unwrap();
            }
        }
    });
    // As it was.
    if exchanges % 2 == 1 {
        renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
    }
}
