//! The text output of a program: results on standard output, and notices on standard error. All text is escaped
//! when it is written, regardless of the caller.

mod print;
mod queue;
pub(crate) mod said;

pub use self::print::{print, print_as_it_is, print_json, print_lines, print_row};
pub use self::said::{flush, say, tell_json};
