//! What a program says to whoever started it: lines on standard error, and what it was asked for on standard output.
//! All text is escaped on its way out, whichever place says it.

mod print;
mod queue;
pub(crate) mod said;

pub use self::print::{print, print_as_it_is, print_json, print_lines, print_row};
pub use self::said::{flush, say, tell_json};
