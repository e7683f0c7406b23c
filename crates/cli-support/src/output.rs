//! The text output of a program: results on standard output, and notices on standard error. All text is escaped
//! when it is written, regardless of the caller.

pub(crate) mod journal;
pub(crate) mod machine;
pub(crate) mod notice;
mod print;
mod progress;
mod queue;

pub use self::machine::{SCHEMA, is_json, print_as_json};
pub use self::notice::{flush, lost_lines, say, say_escaped, tell_json};
pub use self::print::{
    print, print_as_it_is, print_bytes, print_json, print_lines, print_row, terminal_columns,
};
pub use self::progress::progress_target;
