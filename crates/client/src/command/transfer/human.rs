//! The events of a transfer for a person: lines for what is to be known, and how far it is.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ::files::cause::SystemError;
use ::files::event::Event;
use bytesize::ByteSize;
use cli_support::output::{self, progress_target, say_escaped};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wire_protocol::message::{FilesCode, HASH_LEN};

use super::meter::{Meter, shown};
use super::names::{hex, shown_path};
use crate::Error;
use crate::files::names::Names;
use crate::files::summary::{Direction, Summary};

/// Shows a transfer on standard error, and what was asked for on standard output.
#[derive(Debug)]
pub(super) struct Human {
    is_quiet: bool,
    /// Whether standard output is for the content of a file.
    is_output_taken: bool,
    bars: Option<Bars>,
    next_line: Instant,
}

/// What stands on a terminal while a transfer runs: how far all of it is, and below that the file that it is at, which would have
/// no room on one line with the rest.
#[derive(Debug)]
struct Bars {
    both: MultiProgress,
    total: ProgressBar,
    file: ProgressBar,
}

impl Bars {
    fn on(target: ProgressDrawTarget) -> Self {
        let both = MultiProgress::with_draw_target(target);
        let add = |template| {
            let bar = both.add(ProgressBar::new(0));
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        };
        let (total, file) = (add("{bar:12} {wide_msg}"), add("  {wide_msg}"));
        Self { both, total, file }
    }
}

impl Human {
    pub(super) fn new(is_quiet: bool, is_output_taken: bool, now: Instant) -> Self {
        let target = if is_quiet { None } else { progress_target() };
        Self { is_quiet, is_output_taken, bars: target.map(Bars::on), next_line: now + LINE_INTERVAL }
    }

    /// Shows an event.
    pub(super) fn show(&mut self, event: &Event, names: &Names, summary: &Summary) -> Result<(), Error> {
        let named = |path: &Path| shown_path(&names.of_offer(path));
        match event {
            Event::Started { path, size, held, compare } if *held > 0 => {
                self.say(&resuming(&named(path), *size, *held, *compare));
            }
            Event::Done { path, sha256, stored_as, .. } => {
                if let Some(name) = stored_as {
                    let name = shown_path(name.as_os_str().as_encoded_bytes());
                    self.say(&format!("{} is stored as {name}", named(path)));
                }
                self.print_hash(&named(path), sha256.as_ref())?;
            }
            Event::Unchanged { path, sha256, .. } => self.print_hash(&named(path), sha256.as_ref())?,
            Event::Would { path, size } => {
                let verb = match summary.direction {
                    Direction::Put => "would send",
                    Direction::Get => "would fetch",
                };
                // Directories and links have no content.
                let size = if *size > 0 { format!(" ({})", ByteSize(*size)) } else { String::new() };
                self.print(&format!("{verb} {}{size}", named(path)))?;
            }
            Event::Failed { path, code, system, side, .. } => {
                let is_server = summary.direction.is_server(*side);
                self.say_always(&failed(&named(path), *code, *system, is_server));
            }
            _ => {}
        }
        Ok(())
    }

    /// Shows how far the transfer is.
    pub(super) fn progress(&mut self, meter: &Meter, names: &Names, now: Instant) {
        if let Some(Bars { total, file, .. }) = &self.bars {
            total.set_length(meter.total.max(1));
            total.set_position(meter.position());
            total.set_message(far(meter));
            let current = meter.current().map(|path| shown_path(&names.of_offer(path)));
            file.set_message(current.unwrap_or_default());
        } else if now >= self.next_line && !self.is_quiet {
            self.next_line = now + LINE_INTERVAL;
            say_escaped(&far(meter));
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if let Some(Bars { both, total, file }) = self.bars.take() {
            file.finish_and_clear();
            total.finish_and_clear();
            // What the system does with the terminal is no fault of the transfer.
            both.clear().ok();
        }
    }

    /// Shows the closing line.
    pub(super) fn summary(&mut self, summary: &Summary, taken: Duration) {
        self.clear();
        if !self.is_quiet {
            let rest = summary.rest_words().map(|rest| format!("; {rest}")).unwrap_or_default();
            say_escaped(&format!("{} in {}{rest}", summary.moved_words(), shown(taken)));
        }
    }

    fn print_hash(&self, path: &str, sha256: Option<&[u8; HASH_LEN]>) -> Result<(), Error> {
        match sha256 {
            Some(hash) => self.print(&format!("SHA256 ({path}) = {}", hex(hash))),
            None => Ok(()),
        }
    }

    /// Prints a line that was asked for.
    fn print(&self, line: &str) -> Result<(), Error> {
        if self.is_output_taken {
            self.say_always(line);
            return Ok(());
        }
        let print = || output::print_lines(line);
        Ok(self.bars.as_ref().map_or_else(print, |bars| bars.both.suspend(print))?)
    }

    fn say(&self, line: &str) {
        if !self.is_quiet {
            self.say_always(line);
        }
    }

    fn say_always(&self, line: &str) {
        let say = || say_escaped(line);
        self.bars.as_ref().map_or_else(say, |bars| bars.both.suspend(say));
    }
}

/// What is said of a file of which something is there.
fn resuming(path: &str, size: u64, held: u64, compare: u64) -> String {
    let percent = held.saturating_mul(100).checked_div(size).unwrap_or(100);
    let left = ByteSize(size.saturating_sub(held));
    if compare == 0 {
        format!("resuming {path} at {percent} %, {left} to go")
    } else {
        format!(
            "resuming {path} at {percent} %, {left} to go; of what is there the last {} are compared first",
            ByteSize(compare)
        )
    }
}

/// What is said of an entry that has failed.
fn failed(path: &str, code: FilesCode, system: Option<SystemError>, is_server: bool) -> String {
    let place = if is_server { "at the server" } else { "here" };
    let system = system.map(|system| format!(": {system}")).unwrap_or_default();
    format!("error: {path}: {code}{system} ({place})")
}

/// How far a transfer is, without the file that it is at.
fn far(meter: &Meter) -> String {
    let of = if meter.has_found_all { "of" } else { "of at least" };
    let mut text = format!(
        "{} {of} {}, {}/s, {} {of} {} entries",
        ByteSize(meter.position()),
        ByteSize(meter.total),
        ByteSize(meter.rate()),
        meter.ended,
        meter.found
    );
    if let Some(left) = meter.time_left() {
        // Writing to a String cannot fail.
        write!(text, ", {} left", shown(left)).ok();
    }
    text
}

/// How often a line says how far it is, where no bar can be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io;

    use ::files::cause::Cause;

    use super::*;

    #[test]
    fn what_this_systems_error_was_is_told_and_the_servers_is_not_known() {
        let Cause { code, system } = io::Error::from_raw_os_error(5).into();
        let here = "error: a: it could not be read or written: Input/output error (os error 5) (here)";
        assert_eq!(failed("a", code, system, false), here);
        assert_eq!(
            failed("a", FilesCode::Denied, None, true),
            "error: a: the system does not permit it (at the server)"
        );
    }

    #[test]
    fn what_is_there_is_told_in_parts_of_the_whole() {
        let gib = 1 << 30;
        assert_eq!(resuming("a", 10 * gib, 7 * gib, 0), "resuming a at 70 %, 3.0 GiB to go");
        assert!(
            resuming("a", 10 * gib, 7 * gib, gib)
                .contains("3.0 GiB to go; of what is there the last 1.0 GiB are")
        );
        assert!(resuming("a", 0, 5, 0).contains("100 %"));
        assert!(resuming("a", u64::MAX, u64::MAX, 0).contains("0 B to go"));
    }
}
