//! The families of resumable streams, which a server and a client have in common.

use std::fmt;
use std::time::Duration;

use prometheus_client::registry::Unit;

use super::family::FamilyWriter;
use crate::admin::ResumptionState;

/// Writes how it is with the resumable streams of a program, but for those that were lost, which a server tells apart by reason.
///
/// # Errors
/// Never, for a writer to memory.
pub fn write_resumptions(families: &mut FamilyWriter<'_>, state: &ResumptionState) -> fmt::Result {
    let ResumptionState { held, kept, resumed, longest_pause_ms, lost: _ } = *state;
    let help = "Streams that have lost their channel, and wait for another one.";
    families.gauge("sockseal_streams_held", help, None, held)?;
    let help = "What is kept of resumable streams, or set aside for them.";
    families.gauge("sockseal_streams_kept", help, Some(&Unit::Bytes), kept)?;
    let help = "Times that a stream has gone on on another channel.";
    families.total("sockseal_streams_resumed", help, None, resumed)?;
    let pause = Duration::from_millis(longest_pause_ms);
    let help = "The longest time that a stream was without a channel and went on then.";
    families.gauge("sockseal_stream_longest_pause", help, Some(&Unit::Seconds), pause.as_secs_f64())
}
