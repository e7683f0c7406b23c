//! Where progress is drawn: standard error, where that is a terminal, in order with the notices there.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressDrawTarget, TermLike};
use rustix::termios::tcgetwinsize;

use super::notice::{has_form, is_terminal, push};

/// What a progress bar draws on; `None` where standard error is no terminal that can move its cursor, or for a program. Text of a peer
/// has to be escaped by the caller.
#[must_use]
pub fn progress_target() -> Option<ProgressDrawTarget> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
    (is_terminal() && !is_dumb && !has_form()).then(|| {
        ProgressDrawTarget::term_like_with_hz(Box::new(NoticeTerminal::default()), REDRAWS_PER_SECOND)
    })
}

/// The terminal behind the queue of notices.
#[derive(Debug, Default)]
struct NoticeTerminal {
    /// What has been drawn and not been flushed.
    drawn: Mutex<String>,
}

impl NoticeTerminal {
    fn draw(&self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.write_fmt(text).map_err(io::Error::other)
    }
}

impl TermLike for NoticeTerminal {
    fn width(&self) -> u16 {
        let columns = tcgetwinsize(rustix::stdio::stderr()).map(|size| size.ws_col);
        columns.ok().filter(|&columns| columns > 0).unwrap_or(80)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        if lines == 0 { Ok(()) } else { self.draw(format_args!("\x1b[{lines}A")) }
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        if lines == 0 { Ok(()) } else { self.draw(format_args!("\x1b[{lines}B")) }
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        if columns == 0 { Ok(()) } else { self.draw(format_args!("\x1b[{columns}C")) }
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        if columns == 0 { Ok(()) } else { self.draw(format_args!("\x1b[{columns}D")) }
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(format_args!("{line}\r\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn.lock().unwrap_or_else(PoisonError::into_inner));
        if !drawn.is_empty() {
            push(drawn.as_bytes());
        }
        Ok(())
    }
}

/// As often as an eye can tell apart.
const REDRAWS_PER_SECOND: u8 = 10;
