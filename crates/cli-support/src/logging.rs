//! The log, on standard error or in the journal. It never contains key material or payload. The value of a field may
//! come from a peer, so all values and the message are escaped when they are written.

mod fields;
mod journal;
mod json;
mod log_format;

use clap::Args;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::fields::EscapedFields;
use self::journal::JournalEvents;
use self::json::JsonEvents;
use self::log_format::LogFormat;
use crate::Error;
use crate::output::journal::{self as journal_output, JournalOutput};
use crate::output::machine::is_on_error;
use crate::output::notice::{LogOutput, is_terminal, set_form};

/// The level of the log, and its form. The default level contains what an operator needs.
///
/// In a help these options stand behind those of the command, and not among them.
#[derive(Debug, Args)]
pub struct Verbosity {
    /// Say more
    #[arg(short, long, global = true, conflicts_with = "quiet", display_order = 901)]
    verbose: bool,
    /// Say errors alone
    #[arg(long, global = true, display_order = 902)]
    quiet: bool,
    /// The form of the log: `text`, `json` (one object a line, notices included) or `journald` (with all fields to systemd's
    /// journal; `journald:/PATH` names its socket) [default: text]
    #[arg(long, global = true, value_name = "FORMAT", env = "SOCKSEAL_LOG_FORMAT", display_order = 903)]
    log_format: Option<LogFormat>,
    /// Print results, events and errors as JSON, one object a line
    #[arg(long, global = true, display_order = 904)]
    json: bool,
}

impl Verbosity {
    /// Returns whether results are to be printed as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether the user wants to see errors alone.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// Starts the log. `RUST_LOG` decides the level where it is set. `NO_COLOR` turns colors off.
///
/// # Errors
/// [`Error::Journal`] where the log is to go to a journal that is not there.
pub fn start(verbosity: &Verbosity) -> Result<(), Error> {
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
    match verbosity.log_format.as_ref().unwrap_or(&LogFormat::Text) {
        LogFormat::Text if !is_on_error() => {
            let color = is_terminal() && std::env::var_os("NO_COLOR").is_none();
            subscriber(filter, color, || LogOutput).init();
        }
        // What shares standard error with objects is made of objects too.
        LogFormat::Text | LogFormat::Json => {
            set_form(json::notice);
            json_subscriber(filter, || LogOutput).init();
        }
        LogFormat::Journald(path) => {
            if is_on_error() {
                set_form(json::notice);
            }
            journal_output::open(path).map_err(|source| Error::Journal { path: path.clone(), source })?;
            journal_subscriber(filter, || JournalOutput).init();
        }
    }
    if let Some(problem) = problem {
        tracing::warn!(%problem, "RUST_LOG makes no sense, and counts for nothing");
    }
    Ok(())
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

fn json_subscriber<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false)
        .event_format(JsonEvents)
        .finish()
}

fn journal_subscriber<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .fmt_fields(EscapedFields)
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false)
        .event_format(JournalEvents::of(std::env::args_os().next()))
        .finish()
}

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
        recorded(|log| subscriber(EnvFilter::new("trace"), color, move || log.clone()), work)
    }

    fn recorded<S>(subscriber: impl FnOnce(Recorded) -> S, work: impl FnOnce()) -> String
    where
        S: Subscriber + Send + Sync + 'static,
    {
        let log = Recorded::default();
        tracing::subscriber::with_default(subscriber(log.clone()), work);
        let log = log.0.lock().unwrap().clone();
        String::from_utf8(log).unwrap()
    }

    fn hostile_events() {
        let error = Problem(HOSTILE, None);
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(peer = HOSTILE, error = %HOSTILE, count = 7_u64, "{HOSTILE}");
        tracing::info!(error, bytes = HOSTILE.as_bytes(), left = -1, rate = 0.5, is_done = true, "an error");
        tracing::debug!(kind = ?Some(HOSTILE), "a debug field");
    }

    #[test]
    fn json_keeps_the_types_and_is_one_harmless_line_for_each_event() {
        let log =
            recorded(|log| json_subscriber(EnvFilter::new("trace"), move || log.clone()), hostile_events);
        let lines: Vec<&str> = log.split_terminator('\n').collect();
        assert_eq!(lines.len(), 3, "{log:?}");
        assert!(lines.iter().all(|line| line.chars().all(tunnel::escape::is_harmless)), "{log:?}");
        let objects: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = serde_json::json!({ "peer": HOSTILE, "error": HOSTILE, "count": 7 });
        assert_eq!((&objects[0]["message"], &objects[0]["fields"]), (&HOSTILE.into(), &expected));
        assert_eq!(objects[0]["level"], "WARN");
        let fields = &objects[1]["fields"];
        assert_eq!((&fields["left"], &fields["rate"]), (&(-1).into(), &0.5.into()));
        assert_eq!((&fields["is_done"], &fields["error"]), (&true.into(), &HOSTILE.into()));
        // A filter can rely on the order.
        assert!(lines[0].starts_with("{\"time\":\"2"), "{log}");
        assert!(lines[0].contains("\"fields\":{\"peer\":\""), "{log}");
        let time: jiff::Timestamp = objects[2]["time"].as_str().unwrap().parse().unwrap();
        assert!(time.duration_since(jiff::Timestamp::now()).as_secs().abs() < 60);
    }

    #[test]
    fn a_notice_is_a_line_of_json_as_well() {
        for (text, level, message) in [
            ("error: no", "ERROR", "no"),
            ("warning: a\u{1b}b", "WARN", "a\u{1b}b"),
            ("listening on [::1]:5000", "INFO", "listening on [::1]:5000"),
        ] {
            let line = json::notice(text);
            assert!(line.trim_end().chars().all(tunnel::escape::is_harmless), "{line:?}");
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&object["level"], &object["message"]), (&level.into(), &message.into()));
        }
    }

    #[test]
    fn an_entry_of_the_journal_has_the_text_and_each_field_and_no_other() {
        let log =
            recorded(|log| journal_subscriber(EnvFilter::new("trace"), move || log.clone()), hostile_events);
        let entries: Vec<&str> = log.split_terminator('\0').collect();
        assert_eq!(entries.len(), 3, "{log:?}");
        let lines: Vec<&str> = entries[0].split_terminator('\n').collect();
        let names: Vec<&str> = lines.iter().map(|line| line.split_once('=').unwrap().0).collect();
        let own = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"];
        let fields = ["SOCKSEAL_PEER", "SOCKSEAL_ERROR", "SOCKSEAL_COUNT"];
        assert_eq!(names, [own, fields].concat());
        assert!(lines.iter().all(|line| line.chars().all(tunnel::escape::is_harmless)), "{log:?}");
        assert_eq!(lines[1], "PRIORITY=4");
        assert_eq!(lines[3], format!("SOCKSEAL_PEER={}", escaped(false)));
        assert!(lines[0].ends_with(" count=7") && lines[0].contains(&escaped(true)), "{log}");
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
