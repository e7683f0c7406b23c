//! Writes what a package has of the command lines: pages of the manual in `DIR/man`, and completions of bash, zsh and fish in
//! `DIR/bash`, `DIR/zsh` and `DIR/fish`. The date of the pages is that of the argument behind it: `pages DIR YYYY-MM-DD`.

mod shells;

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use cli_support::invocation::{Naming, Program};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, date] = &arguments[..] else { return Err("usage: pages DIR YYYY-MM-DD".into()) };
    let folder = Path::new(folder);
    for name in ["man", "bash", "zsh", "fish"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for command in [server(Naming::Installed), client(Naming::Installed)] {
        pages(&command, &folder.join("man"), date)?;
        shells::write(command, folder)?;
    }
    let front = front();
    // The commands of the front are those of the client, which have pages.
    page(&front, &folder.join("man"), date)?;
    for subcommand in client(Naming::Front).get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let name = subcommand.get_name();
        let reference = format!(".so man1/sockseal-client-{name}.1\n");
        fs::write(folder.join("man").join(format!("sockseal-{name}.1")), reference)?;
    }
    shells::write(front, folder)
}

fn server(naming: Naming) -> Command {
    naming.adapt(server::cli::Cli::command(), Program::Server)
}

fn client(naming: Naming) -> Command {
    naming.adapt(client::cli::Cli::command(), Program::Client)
}

/// The command line of the front: all of the client's, and all of the server's below `server`.
fn front() -> Command {
    let about = "Run a server, or administer it: see sockseal-server(1)";
    let server = server(Naming::Front).name("server").about(about).long_about(None);
    let about = "Encrypted sockets: messages, pipes, files and tunnels between two machines";
    let long_about = "Encrypted sockets: messages, pipes, files and tunnels between two machines.\n\nsockseal COMMAND is \
                      sockseal-client(1), and sockseal server COMMAND is sockseal-server(1): each has a page for each command.";
    client(Naming::Front).about(about).long_about(long_about).subcommand(server)
}

/// A page for the command and for each below it, named as in `sockseal-client-send(1)`.
fn pages(command: &Command, folder: &Path, date: &str) -> Result<(), Box<dyn Error>> {
    page(command, folder, date)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        // The options that hold everywhere are told once, on the first page.
        let name: &'static str = format!("{}-{}", command.get_name(), subcommand.get_name()).leak();
        let words: &'static str =
            name.replacen("sockseal-", "sockseal_", 1).replace('-', " ").replacen('_', "-", 1).leak();
        let subcommand =
            subcommand.clone().name(name).bin_name(words).display_name(name).disable_help_subcommand(true);
        pages(&subcommand, folder, date)?;
    }
    Ok(())
}

fn page(command: &Command, folder: &Path, date: &str) -> Result<(), Box<dyn Error>> {
    let command = command.clone().disable_help_subcommand(true);
    let name = command.get_name().to_owned();
    let source = format!("sockseal {}", env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    let man = Man::new(command)
        .title(name.to_uppercase())
        .section("1")
        .date(date)
        .source(source)
        .manual("Sockseal");
    man.render(&mut page)?;
    // By the names that readers of manuals look for.
    let mut page = String::from_utf8(page)?
        .replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n")
        .replace(".SH EXTRA\nExit codes:\n", ".SH \"EXIT STATUS\"\n");
    if let [first, second, _, ..] = name.split('-').collect::<Vec<_>>()[..] {
        page += &format!(
            ".SH \"SEE ALSO\"\n{first}\\-{second}(1) has the options and exit codes that all commands have, such as \\-\\-home.\n"
        );
    }
    fs::write(folder.join(format!("{name}.1")), page)?;
    Ok(())
}
