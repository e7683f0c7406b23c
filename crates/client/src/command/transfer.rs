//! What `client put` and `client get` have in common: a transfer is followed to its end, shown, and summed up.

mod failures;
mod human;
pub(crate) mod json;
mod meter;
pub(crate) mod names;

use std::collections::BTreeSet;
use std::future::Future;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::files::event::Event;
use tokio::time::{MissedTickBehavior, interval, timeout};
use wire_protocol::message::Existing;

use self::failures::FailureList;
use self::human::Human;
use self::meter::Meter;
use crate::cli;
use crate::error::Error;
use crate::files::error::FilesError;
use crate::files::names::Names;
use crate::files::options::Options;
use crate::files::summary::Summary;
use crate::files::{Transfer, TransferEvent};

/// How a transfer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Display {
    /// Whether only errors are said.
    pub(crate) is_quiet: bool,
    /// Whether standard output is for the content of a file.
    pub(crate) is_output_taken: bool,
}

/// How files are moved, by the options of the command line.
pub(crate) fn options(transfer: &cli::Transfer) -> Result<Options, FilesError> {
    let existing = match (transfer.overwrite, transfer.rename) {
        (true, _) => Existing::Replace,
        (false, true) => Existing::Rename,
        (false, false) => Existing::Refuse,
    };
    let options = Options {
        existing,
        preserve: !transfer.no_preserve,
        checksum: transfer.checksum,
        verify_disk: transfer.verify_disk,
        dry_run: transfer.dry_run,
        streams: transfer.jobs.and_then(NonZeroU16::new),
        rate: transfer.limit,
        ..Options::default()
    };
    options.filtered(&transfer.include, &transfer.exclude)
}

/// The paths that are to be moved, where a file says that.
pub(crate) fn listed(transfer: &cli::Transfer) -> Result<Option<BTreeSet<Vec<u8>>>, FilesError> {
    transfer.files_from.as_deref().map(failures::read).transpose()
}

/// Follows a transfer to its end, or until `interrupted`.
///
/// # Errors
/// What has ended it before its end, and [`FilesError::Incomplete`] where entries have failed.
pub(crate) async fn follow(
    starting: impl Future<Output = Result<Transfer, Error>>,
    options: &cli::Transfer,
    display: Display,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Error> {
    let list = options.failed_to.as_deref().map(FailureList::create).transpose()?;
    let begun = Instant::now();
    let mut interrupted = pin!(interrupted);
    let mut transfer = tokio::select! {
        started = starting => started?,
        () = &mut interrupted => return Err(FilesError::Stopped.into()),
    };
    let output = if options.json {
        Output::Json { next: begun }
    } else {
        Output::Human(Box::new(Human::new(display.is_quiet, display.is_output_taken, begun)))
    };
    let mut view = View { output, meter: Meter::new(begun), names: transfer.names(), list };
    view.meter.set_streams(transfer.streams());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_stopped = loop {
        tokio::select! {
            biased;
            () = &mut interrupted => break true,
            _ = ticks.tick() => view.tick(Instant::now())?,
            happened = transfer.next() => match happened {
                Some(happened) => view.show(&happened, transfer.summary())?,
                None => break false,
            },
        }
    };
    let mut summary = *transfer.summary();
    let result = if is_stopped {
        transfer.stop_handle().stop();
        // What has arrived is noted on the disk, so that the transfer can go on later.
        timeout(STOP_DEADLINE, transfer.finish()).await.unwrap_or(Err(FilesError::Stopped))
    } else {
        transfer.finish().await
    };
    if let Ok(sum) = &result {
        summary = *sum;
    }
    let list = view.end(&summary, begun.elapsed(), result.is_ok(), options.failed_to.clone())?;
    let summary = result?;
    if summary.failed() > 0 {
        return Err(FilesError::Incomplete { summary, list }.into());
    }
    Ok(())
}

/// What a transfer is shown on.
struct View {
    output: Output,
    meter: Meter,
    names: Arc<Names>,
    list: Option<FailureList>,
}

enum Output {
    Human(Box<Human>),
    Json {
        /// When progress is told next.
        next: Instant,
    },
}

impl View {
    fn show(&mut self, happened: &TransferEvent, summary: &Summary) -> Result<(), Error> {
        let event = &happened.event;
        self.meter.add(happened.stream, event);
        if let (Event::Failed { path, .. }, Some(list)) = (event, &mut self.list) {
            list.add(&self.names.of_offer(path))?;
        }
        match &mut self.output {
            Output::Human(human) => human.show(event, &self.names, summary),
            Output::Json { .. } => json::print(event, &self.names, summary),
        }
    }

    fn tick(&mut self, now: Instant) -> Result<(), Error> {
        self.meter.sample(now);
        match &mut self.output {
            Output::Human(human) => human.progress(&self.meter, &self.names, now),
            Output::Json { next } if now >= *next => {
                *next = now + JSON_INTERVAL;
                json::progress(&self.meter)?;
            }
            Output::Json { .. } => {}
        }
        Ok(())
    }

    /// Shows the sum. Gives the list of what has failed, where one was wanted.
    fn end(
        self,
        summary: &Summary,
        taken: Duration,
        is_complete: bool,
        path: Option<PathBuf>,
    ) -> Result<Option<PathBuf>, Error> {
        match self.output {
            Output::Human(mut human) => human.summary(summary, taken),
            Output::Json { .. } => json::summary(summary, taken.as_secs_f64(), is_complete)?,
        }
        match self.list {
            Some(list) => list.finish().map(|()| path).map_err(Error::from),
            None => Ok(None),
        }
    }
}

/// How often it is looked at how far a transfer is.
const TICK: Duration = Duration::from_millis(200);
/// How often a program is told.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// How long a transfer that is stopped has for its end.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
