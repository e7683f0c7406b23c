//! `client get`: fetches files out of a share of the server.

use std::future::Future;

use cli_support::hardening;

use super::transfer::{Display, follow, listed, options};
use crate::cli;
use crate::connect::Credentials;
use crate::error::Error;
use crate::files::error::FilesError;
use crate::files::get::Get;
use crate::server::Server;

/// Fetches what the options name, and returns once it is on the disk, or `interrupted` is ready.
///
/// # Errors
/// [`Error`]; [`FilesError::Incomplete`] where entries have failed, [`FilesError::Stopped`] where it was interrupted.
pub async fn get(
    credentials: &Credentials,
    server: &Server,
    command: &cli::Get,
    is_quiet: bool,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Error> {
    let options = options(&command.transfer)?;
    let listed = listed(&command.transfer)?;
    let is_output_taken = command.destination.as_os_str() == "-";
    let get = if is_output_taken {
        let [source] = command.sources.as_slice() else {
            return Err(FilesError::StreamAlone { stream: "standard output" }.into());
        };
        Get::output(source, hardening::take_standard_output()?, options)?
    } else {
        Get::paths(&command.sources, &command.destination, options)?
    };
    let get = match &listed {
        Some(listed) => get.only(listed)?,
        None => get,
    };
    let display = Display { is_quiet, is_output_taken };
    follow(get.start(credentials, server), &command.transfer, display, interrupted).await
}
