//! How long a handshake, and the end of a channel, may take.

use std::time::Duration;

/// How long a handshake may take, from the connection to Welcome (section 8).
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for the other side's Close (section 8).
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
