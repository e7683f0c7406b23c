//! What the system says of the calling process, under the names that other programs use for it.

use std::fmt;
use std::fs;
use std::time::Instant;

use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::metrics::family::FamilyWriter;
use crate::metrics::label::{Label as _, ProgramLabel};

/// Writes what the system says of this process, and which program it is, which has run since `started`.
///
/// # Errors
/// Those of the output, which is memory. What the system does not say is left out.
pub fn write_process(
    families: &mut FamilyWriter<'_>,
    program: ProgramLabel,
    started: Instant,
) -> fmt::Result {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let build = vec![(ProgramLabel::KEY, program.text().to_owned()), ("version", version)];
    families.gauges(
        "sockseal_build_info",
        "Always 1; which program this is, and of which version.",
        None,
        [(build, 1_u64)],
    )?;
    let uptime = started.elapsed().as_secs_f64();
    families.gauge("sockseal_uptime", "Time since the program started.", Some(&Unit::Seconds), uptime)?;
    if let Some(usage) = Usage::read() {
        let Usage { cpu_seconds, started_at, virtual_bytes, resident_bytes, threads } = usage;
        families.total_of(
            "process_cpu",
            "Time of processors that the process has used.",
            Some(&Unit::Seconds),
            cpu_seconds,
        )?;
        if let Some(started_at) = started_at {
            let help = "When the process started, since the Unix epoch.";
            families.gauge("process_start_time", help, Some(&Unit::Seconds), started_at)?;
        }
        let bytes = Some(&Unit::Bytes);
        families.gauge(
            "process_resident_memory",
            "Memory that the process has in use.",
            bytes,
            resident_bytes,
        )?;
        families.gauge(
            "process_virtual_memory",
            "Memory that the process has reserved.",
            bytes,
            virtual_bytes,
        )?;
        families.gauge("process_threads", "Threads of the process.", None, threads)?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory itself.
        let open = open.count().saturating_sub(1);
        families.gauge("process_open_fds", "Descriptors that the process has open.", None, open)?;
    }
    match getrlimit(Resource::Nofile).current {
        Some(most) => {
            families.gauge("process_max_fds", "Descriptors that the process may have open.", None, most)
        }
        None => Ok(()),
    }
}

/// What the process has used.
#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    /// Seconds since the Unix epoch.
    started_at: Option<f64>,
    virtual_bytes: u64,
    resident_bytes: u64,
    threads: u64,
}

impl Usage {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let booted_at = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        Self::parse(&stat, clock_ticks_per_second(), u64::try_from(page_size()).ok()?, booted_at)
    }

    /// Parses proc_pid_stat(5).
    fn parse(stat: &str, ticks_per_second: u64, page_size: u64, booted_at: Option<u64>) -> Option<Self> {
        // The name of the program, in parentheses, may contain anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first field behind the name is the third one of all.
        let number = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| float(ticks) / float(ticks_per_second.max(1));
        Some(Self {
            cpu_seconds: seconds(number(14)?.saturating_add(number(15)?)),
            started_at: booted_at.zip(number(22)).map(|(booted_at, ticks)| float(booted_at) + seconds(ticks)),
            virtual_bytes: number(23)?,
            resident_bytes: number(24)?.saturating_mul(page_size),
            threads: number(20)?,
        })
    }
}

/// When the system started, in seconds since the Unix epoch, by the text of `/proc/stat`.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A count as a float, exact up to 2^52.
fn float(count: u64) -> f64 {
    let (high, low) = (count >> 32, count & u64::from(u32::MAX));
    let half = |half: u64| u32::try_from(half).map_or(f64::NAN, f64::from);
    half(high) * 4_294_967_296.0 + half(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_the_process_uses() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 12345 1048576 256 18446744073709551615 1";
        let usage = Usage::parse(stat, 100, 4096, Some(1_700_000_000)).unwrap();
        let expected = Usage {
            cpu_seconds: 3.0,
            started_at: Some(1_700_000_123.45),
            virtual_bytes: 1_048_576,
            resident_bytes: 1_048_576,
            threads: 7,
        };
        assert_eq!(usage, expected);
        assert_eq!(Usage::parse("1 (x) S 1", 100, 4096, None), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 17\nprocesses 3\n"), Some(17));
        assert!(Usage::read().is_some_and(|usage| usage.threads > 0 && usage.resident_bytes > 0));
        assert!((float(u64::from(u32::MAX) * 3) - 12_884_901_885.0).abs() < 0.5);
    }
}
