//! What the process's descriptors are for: so many for each kind of connection, so that none can take those of another, or
//! those that the program itself needs to be told what to do.

/// What the program itself needs: listeners, commands, the log, files that are read now and then, attempts to connect to a
/// second address of a target.
const RESERVED: usize = 64;
/// As much of it as there has to be in any case.
const MIN_RESERVED: usize = 24;
/// Handshakes under way at once. Each holds less than 32 KiB.
const MAX_HALF_OPEN: usize = 512;
/// Those that came in by a lease and are not yet on a channel of its client.
const MAX_VISITORS: usize = 4096;
/// Channels in all.
const MAX_CHANNELS: usize = 32768;
/// A channel takes two: its socket, and that of its target, or a file for a long message.
const PER_CHANNEL: usize = 2;

/// How the descriptors are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Handshakes under way.
    pub(crate) half_open: usize,
    /// Those that have lost their permit for a handshake and are not gone yet.
    pub(crate) leaving: usize,
    /// Connections and sockets of visitors who wait for a client that the server listens for.
    pub(crate) visitors: usize,
    /// Channels, each with what it leads to.
    pub(crate) channels: usize,
}

impl Shares {
    /// Of a process that may have `descriptors` open.
    pub(crate) fn of(descriptors: usize) -> Self {
        let reserved = (descriptors / 4).clamp(MIN_RESERVED, RESERVED);
        let rest = descriptors.saturating_sub(reserved);
        let half_open = (rest / 4).clamp(1, MAX_HALF_OPEN);
        let leaving = half_open.div_ceil(8);
        let visitors = (rest / 8).clamp(1, MAX_VISITORS);
        let for_channels = rest.saturating_sub(half_open + leaving + visitors);
        Self { half_open, leaving, visitors, channels: (for_channels / PER_CHANNEL).clamp(1, MAX_CHANNELS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_together_leave_what_the_program_needs() {
        for (descriptors, reserved) in
            [(64, 24), (256, 64), (1024, 64), (4096, 64), (65536, 64), (1 << 20, 64)]
        {
            let Shares { half_open, leaving, visitors, channels } = Shares::of(descriptors);
            let used = half_open + leaving + visitors + PER_CHANNEL * channels;
            assert!(used + reserved <= descriptors, "{descriptors}: {:?}", Shares::of(descriptors));
            assert!(half_open.min(leaving).min(visitors).min(channels) > 0);
        }
        assert_eq!(Shares::of(1024), Shares { half_open: 240, leaving: 30, visitors: 120, channels: 285 });
    }
}
