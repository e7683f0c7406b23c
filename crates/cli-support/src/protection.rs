//! How the process is protected: what holds, rather than what was asked for.

use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

use crate::admin::Protection;

/// How this process is protected, as the system says: by [`keep_memory_private`](crate::hardening::keep_memory_private), and by what has started it, such as systemd.
#[must_use]
pub fn protection() -> Vec<Protection> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map_or("", str::trim)
    };
    let is_private = matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    [
        ("no core dumps", getrlimit(Resource::Core).maximum == Some(0)),
        ("memory closed to debuggers", is_private),
        ("no new privileges", value("NoNewPrivs") == "1"),
        ("system calls filtered", value("Seccomp") == "2"),
        (
            "no capabilities",
            !value("CapEff").is_empty() && value("CapEff").bytes().all(|digit| digit == b'0'),
        ),
    ]
    .map(|(name, holds)| Protection { name: name.into(), holds })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_and_holds_is_told() {
        crate::hardening::keep_memory_private();
        let all = protection();
        let holds = |name: &str| all.iter().find(|protection| protection.name == name).unwrap().holds;
        assert!(holds("no core dumps") && holds("memory closed to debuggers"), "{all:?}");
        assert_eq!(all.len(), 5);
    }
}
