//! Metrics of a program: what it counts, under labels whose values are known beforehand, and the two text forms of it.
//!
//! The library writes a family as often as it is registered, and help as it stands. So each family is written in one place,
//! [`FamilyWriter`], from the values of an enum, and no series can stand twice.

pub(crate) mod count;
mod duration;
mod family;
pub(crate) mod label;
mod process;
mod resumptions;
mod streams;
mod text_format;

pub use count::Count;
pub use duration::Durations;
pub use family::FamilyWriter;
pub use label::{DirectionLabel, Label, Labels, ProgramLabel, RefusalReason, StreamKind, StreamOutcome};
pub use process::write_process;
pub use resumptions::write_resumptions;
pub use streams::{CountedStream, StreamCounts};
pub use text_format::write;
