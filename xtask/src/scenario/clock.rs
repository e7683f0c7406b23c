//! Goal: a jump of the system clock stops no stream and locks no client out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    Fixture, Forward, Harness, Home, Missing, Target, echoed, local, throughout, works_again,
};
use crate::scenario::registration::scenarios;

scenarios![servers_clock_may_jump, clients_clock_may_jump];

fn servers_clock_may_jump(harness: &Harness) -> Result<()> {
    let clock = Clock::new(harness)?;
    let target = Target::echo()?;
    let wrapper = clock.wrapper();
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let rights = ["--tcp", &target.address(), "--listen", "*", "--expires", "500d"];
    let fixture = Fixture::wrapped(harness, &rights, &[], &words)?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    jump(&clock, &forward)
}

fn clients_clock_may_jump(harness: &Harness) -> Result<()> {
    let clock = Clock::new(harness)?;
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let arguments = ["-L", &local(&target), "-R", &local(&target)];
    let address = fixture.address();
    let forward =
        Forward::wrapped(harness, fixture.alice(), &address, fixture.key(), &arguments, &clock.wrapper())?;
    jump(&clock, &forward)?;
    // Reconnecting depends on time, too.
    for offset in ["+1d", "-1d"] {
        clock.set(offset)?;
        fixture.kill()?;
        fixture.start()?;
        works_again(&forward.local(0)?).with_context(|| format!("a new server, clock at {offset}"))?;
    }
    Ok(())
}

/// Moves the clock a day forward and back, twice, with streams that are open and with new ones.
fn jump(clock: &Clock, forward: &Forward<'_>) -> Result<()> {
    let mut streams = [forward.dial()?, crate::harness::dial(&forward.remote(0)?)?];
    for stream in &mut streams {
        echoed(stream, b"before")?;
    }
    for offset in ["+1d", "+0", "-1d", "+0", "+400d", "+0"] {
        clock.set(offset)?;
        throughout(Duration::from_secs(2), || {
            streams.iter_mut().try_for_each(|stream| echoed(stream, b"live"))?;
            echoed(&mut forward.dial()?, b"new")
        })
        .with_context(|| format!("clock at {offset}"))?;
    }
    Ok(())
}

/// A program's system clock, which libfaketime reads from a file. The monotonic clock is not changed.
pub(super) struct Clock {
    _place: Home,
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    pub(super) fn new(harness: &Harness) -> Result<Self> {
        let place = harness.home()?;
        let file = place.file("offset");
        let architecture = std::env::consts::ARCH;
        let library = [
            format!("/usr/lib/{architecture}-linux-gnu/faketime/libfaketimeMT.so.1"),
            "/usr/lib/faketime/libfaketimeMT.so.1".to_owned(),
        ]
        .into_iter()
        .map(PathBuf::from)
        .find(|library| library.is_file())
        .ok_or_else(|| Missing {
            tool: "libfaketime",
            reason: "not installed; Debian has it in the package faketime".to_owned(),
        })?;
        let clock = Self { _place: place, file, library };
        clock.set("+0")?;
        clock.is_believed()?;
        Ok(clock)
    }

    pub(super) fn set(&self, offset: &str) -> Result<()> {
        // The file is renamed into place, so that a program never reads half an offset.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n"))?;
        fs::rename(&new, &self.file).context("the clock's file")
    }

    pub(super) fn wrapper(&self) -> Vec<String> {
        let word = |name: &str, path: &Path| format!("{name}={}", path.display());
        let mut words = vec!["env".to_owned()];
        words.push(word("LD_PRELOAD", &self.library));
        words.push(word("FAKETIME_TIMESTAMP_FILE", &self.file));
        words.extend(["DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1"].map(str::to_owned));
        words
    }

    /// Checks that programs see the changed clock, since the scenario would prove nothing otherwise.
    fn is_believed(&self) -> Result<()> {
        let year = |clock: &Self| -> Result<String> {
            let words = clock.wrapper();
            crate::harness::printed(
                std::process::Command::new(&words[0]).args(&words[1..]).args(["date", "+%s"]),
            )
        };
        let before: u64 = year(self)?.trim().parse()?;
        self.set("+400d")?;
        let after: u64 = year(self)?.trim().parse()?;
        self.set("+0")?;
        ensure!(after > before + 399 * 86_400, "the clock did not move: {before}, {after}");
        Ok(())
    }
}
