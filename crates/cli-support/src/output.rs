//! The text output of a program: results on standard output, and notices on standard error. All text is escaped
//! when it is written, regardless of the caller.

pub(crate) mod notice;
mod print;
mod queue;

pub use self::notice::{flush, say, tell_json};
pub use self::print::{print, print_as_it_is, print_json, print_lines, print_row};
