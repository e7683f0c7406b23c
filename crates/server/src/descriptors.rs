//! The division of the process's descriptors among kinds of connections, so that no kind can use up those of
//! another, or those that the program needs for itself.

/// Descriptors that the program needs for itself: listeners, commands, the log, files that are read now and then,
/// attempts to connect to a second address of a target.
const RESERVED: usize = 64;
/// Most descriptors of connections to the status page beside those. They grow with the limit, as the connections do.
const MAX_STATUS: usize = 128;
/// Fewest descriptors that the program keeps for itself in any case.
const MIN_RESERVED: usize = 24;
/// Most handshakes in progress. Each takes less than 32 KiB of memory.
const MAX_HALF_OPEN: usize = 512;
/// Most connections that came in by a lease and are not on a channel of its client yet.
const MAX_VISITORS: usize = 4096;
/// Most streams that wait for their clients.
const MAX_HELD: usize = 16384;
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
    /// Streams that wait for their clients, each with its target.
    pub(crate) held: usize,
}

impl Shares {
    /// Divides `descriptors`, the most that the process may have open.
    pub(crate) fn of(descriptors: usize) -> Self {
        let reserved = (descriptors / 4).clamp(MIN_RESERVED, RESERVED) + (descriptors / 64).min(MAX_STATUS);
        let rest = descriptors.saturating_sub(reserved);
        let half_open = (rest / 4).clamp(1, MAX_HALF_OPEN);
        let leaving = half_open.div_ceil(8);
        let visitors = (rest / 8).clamp(1, MAX_VISITORS);
        let held = (rest / 16).clamp(1, MAX_HELD);
        let for_channels = rest.saturating_sub(half_open + leaving + visitors + held);
        let channels = (for_channels / PER_CHANNEL).clamp(1, MAX_CHANNELS);
        Self { half_open, leaving, visitors, channels, held }
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
            let Shares { half_open, leaving, visitors, channels, held } = Shares::of(descriptors);
            let used = half_open + leaving + visitors + held + PER_CHANNEL * channels;
            assert!(used + reserved <= descriptors, "{descriptors}: {:?}", Shares::of(descriptors));
            assert!(half_open.min(leaving).min(visitors).min(channels).min(held) > 0);
        }
        assert_eq!(
            Shares::of(1024),
            Shares { half_open: 236, leaving: 30, visitors: 118, channels: 250, held: 59 }
        );
    }
}
