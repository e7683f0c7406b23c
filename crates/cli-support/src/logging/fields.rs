//! The fields of an event as text, each value escaped.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tunnel::escape::Escaping;

/// Writes the fields of an event as the default format does, each value escaped.
#[derive(Debug)]
pub(super) struct EscapedFields;

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
pub(super) const MESSAGE: &str = "message";
