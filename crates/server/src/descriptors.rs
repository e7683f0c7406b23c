//! The division of the process's descriptors among kinds of connections, so that no kind can use up those of
//! another, or those that the program needs for itself.

/// Descriptors that the program needs for itself: listeners, commands, the log, files that are read now and then,
/// attempts to connect to a second address of a target.
const RESERVED: usize = 64;
/// Fewest descriptors that the program keeps for itself in any case.
const MIN_RESERVED: usize = 24;
/// Most handshakes in progress. Each takes less than 32 KiB of memory.
const MAX_HALF_OPEN: usize = 512;
/// Most connections that came in by a lease and are not on a channel of its client yet.
const MAX_VISITORS: usize = 4096;
/// Most channels in all.
const MAX_CHANNELS: usize = 32768;
/// Descriptors of a channel: its socket, and the socket of its target, or a file for a long message.
const PER_CHANNEL: usize = 2;

/// The number of connections of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Handshakes in progress.
    pub(crate) half_open: usize,
    /// Connections that have lost their permit for a handshake and are not closed yet.
    pub(crate) leaving: usize,
    /// Connections and sockets that wait for a client for which the server listens.
    pub(crate) visitors: usize,
    /// Channels, each with its target.
    pub(crate) channels: usize,
}

impl Shares {
    /// Divides `descriptors`, the most that the process may have open.
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
