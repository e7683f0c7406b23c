//! `client complete`: the values of a word that a shell is to complete.

use clap::CommandFactory as _;
use cli_support::completion::{matching, place};
use cli_support::home::Home;
use cli_support::output;

use crate::cli::Cli;
use crate::config;
use crate::error::Error;
use crate::named_servers::NamedServers;

/// Prints the values for the last one of `words`, one a line. Where a file cannot be read there are none, and the command that is
/// completed will say why.
pub(crate) fn complete(home: &Home, words: &[String]) -> Result<(), Error> {
    let values = match place(&Cli::command(), words) {
        Some(place) if ["address", "servers"].contains(&place.argument.as_str()) => servers(home),
        _ => Vec::new(),
    };
    matching(values, words).iter().try_for_each(|value| Ok(output::print(value)?))
}

/// The servers that have names, and those of the configuration file.
fn servers(home: &Home) -> Vec<String> {
    let named = NamedServers::new(home.clone()).all().unwrap_or_default();
    let configured = config::read(None).map(|(config, _)| config.forwards).unwrap_or_default();
    let configured = configured.iter().map(|forward| forward.server.to_string());
    named.iter().map(|server| server.name.to_string()).chain(configured).collect()
}
