//! The log as JSON: one object a line, with the fields of an event in their types.

use std::fmt::{self, Debug};

use jiff::Timestamp;
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tunnel::escape::escape_json;

use super::fields::MESSAGE;

/// Writes each event as a line of JSON.
#[derive(Debug)]
pub(super) struct JsonEvents;

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::new(*event.metadata().level());
        event.record(&mut line);
        writer.write_str(&line.to_text())
    }
}

/// A notice as a line of the log. The first word says how important it is.
pub(super) fn notice(text: &str) -> String {
    let (level, message) = match text.split_once(": ") {
        Some(("error", message)) => (Level::ERROR, message),
        Some(("warning", message)) => (Level::WARN, message),
        _ => (Level::INFO, text),
    };
    Line { message: message.trim_end().to_owned(), ..Line::new(level) }.to_text()
}

/// A line.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    level: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    fields: Fields,
}

/// Fields in the order in which they are given, as the keys of an object.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Line {
    fn new(level: Level) -> Self {
        let time = format!("{:.6}", Timestamp::now());
        Self { time, level: level.as_str(), message: String::new(), fields: Fields::default() }
    }

    /// The line with its end. What would move a terminal is written as `\u` escapes.
    fn to_text(&self) -> String {
        // Strings and numbers can always be written.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n", escape_json(&json))
    }

    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.0.push((field.name(), value.into()));
    }
}

impl Fields {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// What has no type in JSON ends at `record_debug`.
impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}
