//! The log, on standard error. It never contains key material or payload. The value of a field may come from a
//! peer, so all values and the message are escaped when they are written.

use std::fmt::{self, Write as _};

use clap::Args;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::util::SubscriberInitExt as _;
use tunnel::escape::Escaping;

use crate::output::notice::{LogOutput, is_terminal};

/// The level of the log. The default level contains what an operator needs.
#[derive(Debug, Args)]
pub struct Verbosity {
    /// Say more
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Say errors alone
    #[arg(long, global = true)]
    quiet: bool,
}

impl Verbosity {
    /// Returns whether the user wants to see errors alone.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// Starts the log. `RUST_LOG` decides the level where it is set. `NO_COLOR` turns colors off.
pub fn start(verbosity: &Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, false) => LevelFilter::INFO,
        (false, true) => LevelFilter::DEBUG,
    };
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let builder = || EnvFilter::builder().with_default_directive(level.into());
    let (filter, problem) = match builder().parse(&wanted) {
        Ok(filter) => (filter, None),
        Err(problem) => (builder().parse_lossy(""), Some(problem)),
    };
    let color = is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(filter, color, || LogOutput).init();
    if let Some(problem) = problem {
        tracing::warn!(%problem, "RUST_LOG makes no sense, and counts for nothing");
    }
}

fn subscriber<W>(filter: EnvFilter, color: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .fmt_fields(EscapedFields)
        .with_env_filter(filter)
        .with_writer(writer)
        // The formatter would print its own errors on standard error, and panic where that fails.
        .log_internal_errors(false)
        .with_ansi(color)
        .with_target(false)
        .finish()
}

/// Writes the fields of an event as the default format does, each value escaped.
#[derive(Debug)]
struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = EscapingVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

/// Every kind of value ends at one of the two methods here, since the trait's other methods call `record_debug`.
struct EscapingVisitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl EscapingVisitor<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let separator = if std::mem::replace(&mut self.is_first, false) { "" } else { " " };
        self.result = self.result.and_then(|()| {
            self.writer.write_str(separator)?;
            if field.name() != MESSAGE {
                write!(self.writer, "{}=", field.name())?;
            }
            value(&mut self.writer)
        });
    }
}

impl Visit for EscapingVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |writer| write!(Escaping(writer), "{value:?}"));
    }

    /// Writes the value between quotes, so that its end is visible.
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            return self.record_debug(field, &format_args!("{value}"));
        }
        self.write(field, |writer| {
            writer.write_char('"')?;
            for (index, part) in value.split('"').enumerate() {
                writer.write_str(if index == 0 { "" } else { "\\\"" })?;
                Escaping(&mut *writer).write_str(part)?;
            }
            writer.write_char('"')
        });
    }
}

/// The field in which tracing keeps the text of an event.
const MESSAGE: &str = "message";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const HOSTILE: &str = "a\x1b[2J\r\nb\u{9b}31m\u{202e}\u{200b}\u{e0041}\\n\"c";

    /// The expected form of `HOSTILE` in the log, between quotes where `quoted`.
    fn escaped(quoted: bool) -> String {
        let text = "a\\u{1b}[2J\\r\\nb\\u{9b}31m\\u{202e}\\u{200b}\\u{e0041}\\\\n";
        if quoted { format!("\"{text}\\\"c\"") } else { format!("{text}\"c") }
    }

    /// The log of `work` at any level.
    fn logged(color: bool, work: impl FnOnce()) -> String {
        let log = Recorded::default();
        let writer = log.clone();
        let subscriber = subscriber(EnvFilter::new("trace"), color, move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let log = log.0.lock().unwrap().clone();
        String::from_utf8(log).unwrap()
    }

    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Recorded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Problem(&'static str, #[source] Option<Box<Problem>>);

    #[test]
    fn nothing_that_a_peer_says_reaches_the_log_as_it_is() {
        let error = Problem(HOSTILE, Some(Box::new(Problem(HOSTILE, None))));
        let error: &(dyn std::error::Error + 'static) = &error;
        for color in [false, true] {
            let log = logged(color, || {
                tracing::info!("{HOSTILE}");
                tracing::warn!(message = HOSTILE);
                tracing::info!(target = %HOSTILE, "a display field");
                tracing::info!(target = HOSTILE, "a text");
                tracing::info!(target = ?HOSTILE, "a debug field");
                tracing::info!(error, "an error");
                tracing::info!(bytes = HOSTILE.as_bytes(), "bytes");
                let span = tracing::info_span!("a span", name = %HOSTILE);
                span.in_scope(|| tracing::info!("in it"));
            });
            let lines: Vec<&str> = log.split_terminator('\n').collect();
            assert_eq!(lines.len(), 8, "{log:?}");
            let own = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[3m"];
            for line in &lines {
                let bare = own.iter().fold((*line).to_owned(), |line, code| line.replace(code, ""));
                assert!(color || bare == *line, "{line:?}");
                assert!(bare.chars().all(tunnel::escape::is_harmless), "{line:?}");
            }
            assert!(lines[0].ends_with(&escaped(false)), "{log}");
            assert!(lines[1].ends_with(&escaped(false)), "{log}");
            assert!(lines[2].ends_with(&format!("a display field target={}", escaped(false))), "{log}");
            assert!(lines[3].ends_with(&format!("a text target={}", escaped(true))), "{log}");
            assert!(lines[7].contains(&format!("name={}", escaped(false))), "{log}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nobody() {
        struct Full;
        impl std::io::Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let subscriber = subscriber(EnvFilter::new("trace"), false, || Full);
        tracing::subscriber::with_default(subscriber, || tracing::info!("into nothing"));
    }
}
