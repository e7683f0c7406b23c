//! The resources of a running program: descriptors, memory, and the numbers in its status.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::deadline::{DEADLINE, until};
use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::{Exit, Process};

/// One of the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    Server,
    Client,
}

/// The resources of a program at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    /// Number of open descriptors. `None` where only root may count them, since the programs make themselves
    /// undumpable.
    pub(crate) descriptors: Option<u64>,
    /// Resident memory, in KiB.
    pub(crate) memory: u64,
    pub(crate) tasks: u64,
    pub(crate) channels: u64,
    pub(crate) idle_channels: u64,
    pub(crate) streams: u64,
    pub(crate) leases: u64,
    pub(crate) dropped_datagrams: u64,
}

impl Resources {
    pub(crate) fn of(harness: &Harness, program: Program, home: &Home, process: &Process) -> Result<Self> {
        let pid = process.id();
        let status = status(harness, program, home, pid)?;
        let number = |name: &str| {
            status[name].as_u64().with_context(|| format!("the status has no number {name}: {status}"))
        };
        Ok(Self {
            descriptors: descriptors(pid)?,
            memory: process.memory()?,
            tasks: number("tasks")?,
            channels: number("channels")?,
            idle_channels: number("idle_channels")?,
            streams: number("streams")?,
            leases: number("leases")?,
            dropped_datagrams: number("dropped_datagrams")?,
        })
    }

    /// The program's resources, once it has no open stream.
    pub(crate) fn at_rest(
        harness: &Harness,
        program: Program,
        home: &Home,
        process: &Process,
    ) -> Result<Self> {
        until(DEADLINE, "a program at rest", || {
            let resources = Self::of(harness, program, home, process)?;
            ensure!(resources.is_at_rest(), "the {program:?} has streams: {resources:?}");
            Ok(resources)
        })
    }

    /// Returns whether no stream is open but those of leases.
    fn is_at_rest(&self) -> bool {
        self.streams <= self.leases
    }

    /// Waits until the program holds no more resources than `self`, apart from those of additional channels
    /// in its pool.
    pub(crate) fn expect_again(
        &self,
        harness: &Harness,
        program: Program,
        home: &Home,
        process: &Process,
    ) -> Result<()> {
        until(RECOVERY, "nothing leaked", || {
            let now = Self::of(harness, program, home, process)?;
            let said = || format!("the {program:?} began with {self:?} and has {now:?}");
            ensure!(now.is_at_rest(), "streams are left: {}", said());
            ensure!(now.leases <= self.leases, "leases are left: {}", said());
            let more = now.channels.saturating_sub(self.channels);
            if let (Some(before), Some(after)) = (self.descriptors, now.descriptors) {
                ensure!(after <= before + more, "descriptors are left: {}", said());
            }
            ensure!(now.tasks <= self.tasks + TASKS_OF_A_CHANNEL * more, "tasks are left: {}", said());
            ensure!(now.memory <= self.memory + GROWTH, "memory has grown: {}", said());
            Ok(())
        })
    }
}

/// The output of `status --json` for the process `pid`.
fn status(harness: &Harness, program: Program, home: &Home, pid: u32) -> Result<Value> {
    let run = match program {
        Program::Server => harness.server(home, &["status", "--json"]),
        Program::Client => harness.client(home, &["status", "--json"]),
    };
    let printed = run.run()?.expect(Exit::Done)?.text();
    printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|status| status["pid"] == pid)
        .with_context(|| format!("no status of process {pid}:\n{printed}"))
}

fn descriptors(pid: u32) -> Result<Option<u64>> {
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => Ok(Some(u64::try_from(entries.count())?)),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error).with_context(|| format!("descriptors of {pid}")),
    }
}

/// Longest time until resources are released: dead channels are noticed after at most 30 seconds of silence,
/// and UDP sessions end after their idle time.
const RECOVERY: Duration = Duration::from_secs(75);

/// Allowed growth in KiB, for memory that the allocator keeps after load. A leak under load is far larger.
const GROWTH: u64 = 24 * 1024;

/// Most tasks of one channel: one for each direction, and one that watches it.
const TASKS_OF_A_CHANNEL: u64 = 3;
