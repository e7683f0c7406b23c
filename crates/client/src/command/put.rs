//! `client put`: sends files into a share of the server.

use std::future::Future;
use std::path::Path;

use cli_support::hardening;

use super::transfer::{Display, follow, listed, options};
use crate::cli;
use crate::connect::Credentials;
use crate::error::Error;
use crate::files::error::FilesError;
use crate::files::put::Put;
use crate::server::Server;

/// Sends what the options name, and returns once the server has it on its disk, or `interrupted` is ready.
///
/// # Errors
/// [`Error`]; [`FilesError::Incomplete`] where entries have failed, [`FilesError::Stopped`] where it was interrupted.
pub async fn put(
    credentials: &Credentials,
    server: &Server,
    command: &cli::Put,
    is_quiet: bool,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Error> {
    let options = options(&command.transfer)?;
    let listed = listed(&command.transfer)?;
    let destination = command.destination.clone();
    let is_input = |path: &Path| path.as_os_str() == "-";
    let put = if command.sources.iter().any(|path| is_input(path)) {
        if command.sources.len() > 1 {
            return Err(FilesError::StreamAlone { stream: "standard input" }.into());
        }
        Put::input(hardening::standard_input()?, destination, options)?
    } else {
        Put::paths(&command.sources, destination, options)?
    };
    let put = match &listed {
        Some(listed) => put.only(listed)?,
        None => put,
    };
    let display = Display { is_quiet, is_output_taken: false };
    follow(put.start(credentials, server), &command.transfer, display, interrupted).await
}
