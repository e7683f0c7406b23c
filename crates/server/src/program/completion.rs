//! `server complete`: the values of a word that a shell is to complete.

use clap::CommandFactory as _;
use cli_support::completion::{matching, place};
use cli_support::home::Home;
use cli_support::output;
use jiff::Timestamp;

use crate::access::AccessFile;
use crate::cli::Cli;
use crate::config;
use crate::error::Error;

/// Prints the values for the last one of `words`, one a line. Where a file cannot be read there are none, and the command that is
/// completed will say why.
pub(crate) fn complete(home: &Home, words: &[String]) -> Result<(), Error> {
    let Some(place) = place(&Cli::command(), words) else { return Ok(()) };
    let commands: Vec<&str> = place.commands.iter().map(String::as_str).collect();
    let values = match (&commands[..], place.argument.as_str()) {
        (["allow" | "invite"], "files") | ([.., "files"], _) => shares(),
        (["allow" | "invite"], "service") => services(),
        (["revoke" | "explain" | "allow"], "client") | (["allow"], "name") => clients(home),
        (["invites", "revoke"], "invite") => invites(home),
        _ => Vec::new(),
    };
    matching(values, words).iter().try_for_each(|value| Ok(output::print(value)?))
}

fn shares() -> Vec<String> {
    let shares = config::read(None).map(|(config, _)| config.files).unwrap_or_default();
    shares.into_iter().map(|share| share.name).collect()
}

fn services() -> Vec<String> {
    let services = config::read(None).map(|(config, _)| config.services).unwrap_or_default();
    services.into_iter().map(|service| service.name).collect()
}

fn clients(home: &Home) -> Vec<String> {
    let access = AccessFile::new(home.clone()).read().ok().flatten();
    access.iter().flat_map(|access| access.grants()).map(|(name, _)| name.to_owned()).collect()
}

fn invites(home: &Home) -> Vec<String> {
    let objects = AccessFile::new(home.clone()).invites().read();
    let objects =
        objects.map(|invites| invites.objects(Timestamp::now()).collect::<Vec<_>>()).unwrap_or_default();
    objects.iter().filter_map(|object| object["id"].as_str().map(String::from)).collect()
}
