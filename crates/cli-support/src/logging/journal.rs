//! The log as entries of systemd's journal: the message with its fields as a person reads it, and each field by itself.

use std::ffi::OsString;
use std::fmt::{self, Debug, Write as _};
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tunnel::escape::{Escaped, Escaping};

use super::fields::MESSAGE;
use crate::output::journal::END;

/// Writes each event as an entry. All values are escaped, so that none has a line break, which would need another form.
#[derive(Debug)]
pub(super) struct JournalEvents {
    /// The name that the journal shows before each entry.
    identifier: String,
}

impl JournalEvents {
    /// For the program that was started by this path.
    pub(super) fn of(program: Option<OsString>) -> Self {
        let name = program.as_deref().and_then(|path| Path::new(path).file_name());
        Self {
            identifier: name.map_or_else(|| "sockseal".into(), |name| name.to_string_lossy().into_owned()),
        }
    }
}

impl<S, N> FormatEvent<S, N> for JournalEvents
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("MESSAGE=")?;
        context.format_fields(writer.by_ref(), event)?;
        let priority = priority(*event.metadata().level());
        write!(writer, "\nPRIORITY={priority}\nSYSLOG_IDENTIFIER={}", Escaped(&self.identifier))?;
        let mut fields = Fields { writer, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.writer.write_str("\n")?;
        fields.writer.write_char(END.into())
    }
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Writes each field on a line of its own. What is no text ends at `record_debug`.
struct Fields<'writer> {
    writer: Writer<'writer>,
    result: fmt::Result,
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != MESSAGE {
            let name = field.name().to_ascii_uppercase().replace('.', "_");
            self.result = self.result.and_then(|()| {
                write!(self.writer, "\n{PREFIX}{name}=")?;
                write!(Escaping(&mut self.writer), "{value:?}")
            });
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// What the name of each field begins with, so that none is taken for one of another program's.
const PREFIX: &str = "SOCKSEAL_";
