//! Commands that a client may use by what it was granted, ready to paste.
//!
//! The grant is text of the server's for a person. The examples are chosen by its words, and nothing else depends on them: where
//! a server says something else than it does, an example is refused by it. Of the server's text only names that mean nothing
//! to a shell get into a command.

use std::collections::BTreeSet;

use crate::command::join::invocation::Invocation;
use crate::server_spec::ServerName;

/// Commands for what the words of `grant` allow at the server called `server`.
pub(super) fn examples(grant: &str, server: &ServerName, invocation: &Invocation<'_>) -> Vec<String> {
    let home = invocation.home.map(|home| format!(" --home {}", word(&home.display().to_string())));
    let program = format!("{}{}", word(&invocation.program.to_string_lossy()), home.unwrap_or_default());
    let server = word(server.as_str());
    let mut seen = BTreeSet::new();
    let mut examples = Vec::new();
    let mut words = grant.split(' ').peekable();
    while let Some(option) = words.next() {
        let value = words.next_if(|value| !value.starts_with("--")).unwrap_or_default();
        // One of each kind says enough.
        if !seen.insert(option) {
            continue;
        }
        let commands: Vec<String> = match option {
            "--messages" => vec![format!("send {server} \"Hello, World!\"")],
            "--pipe" => vec![format!("pipe {server}")],
            "--tcp" => vec![match value.strip_suffix(",proxy").unwrap_or(value).rsplit_once(':') {
                Some((host, port)) if is_plain(host) && is_number(port) => {
                    format!("forward {server} -L 0:{host}:{port}")
                }
                _ => format!("forward {server} -D 1080"),
            }],
            "--udp" => match value.rsplit_once(':') {
                Some((host, port)) if is_plain(host) && is_number(port) => {
                    vec![format!("forward {server} -L 0:{host}:{port}/udp")]
                }
                _ => Vec::new(),
            },
            "--unix" if is_path(value) => vec![format!("forward {server} -L 0:{value}")],
            "--service" if is_plain(value) => vec![format!("forward {server} -L 0:@{value}")],
            "--files" => match value.split_once(':').unwrap_or((value, "")) {
                (share, "drop") if is_plain(share) => vec![format!("put {server} FILE {share}:")],
                (share, "rw") if is_plain(share) => {
                    vec![format!("ls {server} {share}:"), format!("put {server} FILE {share}:")]
                }
                (share, "" | "ro") if is_plain(share) => vec![format!("ls {server} {share}:")],
                _ => Vec::new(),
            },
            "--listen" if is_number(value) => vec![format!("forward {server} -R {value}:127.0.0.1:8080")],
            _ => Vec::new(),
        };
        examples.extend(commands.iter().map(|command| format!("{program} {command}")));
    }
    examples
}

fn is_number(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|number| number.to_string() == text && number != 0)
}

/// Whether the text is a name or an address of IPv4, and one word of a shell that is no option.
fn is_plain(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= MAX_LEN
        && text.chars().all(is_part)
}

fn is_path(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    text.starts_with('/') && text.len() <= MAX_LEN && text.chars().all(is_part)
}

/// Quotes `text` as one word of a shell.
fn word(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/.:_-+@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_part) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Most characters of the server's text in a command.
const MAX_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn check(grant: &str, expected: &[&str]) {
        let invocation = Invocation { program: OsStr::new("client"), home: None };
        let server = "gate".parse().unwrap();
        let expected: Vec<String> = expected.iter().map(|command| format!("client {command}")).collect();
        assert_eq!(examples(grant, &server, &invocation), expected, "{grant}");
    }

    #[test]
    fn what_is_granted_has_a_command() {
        check("--messages", &["send gate \"Hello, World!\""]);
        check("--pipe --max-rate 10MiB", &["pipe gate"]);
        check("--tcp 10.0.0.1:5432 --tcp 10.0.0.2:80", &["forward gate -L 0:10.0.0.1:5432"]);
        check("--tcp '*:443'", &["forward gate -D 1080"]);
        check("--tcp db:80,proxy", &["forward gate -L 0:db:80"]);
        check("--tcp db:1-1024", &["forward gate -D 1080"]);
        check("--udp 10.0.0.1:53", &["forward gate -L 0:10.0.0.1:53/udp"]);
        check("--unix /run/db.sock", &["forward gate -L 0:/run/db.sock"]);
        check("--service db", &["forward gate -L 0:@db"]);
        check("--files in:drop", &["put gate FILE in:"]);
        check("--files a:rw", &["ls gate a:", "put gate FILE a:"]);
        check("--files docs", &["ls gate docs:"]);
        check("--listen 8080", &["forward gate -R 8080:127.0.0.1:8080"]);
        check("(no rights) ...", &[]);
        check("", &[]);
    }

    #[test]
    fn text_of_the_server_means_nothing_to_a_shell() {
        for value in
            ["$(id)", "`id`", "a;id", "a|id", "-o", "a\u{1b}b", "a\nb", "../a", "'a", "\"a", "a&b", "a:$(id)"]
        {
            check(&format!("--service {value}"), &[]);
            check(&format!("--unix {value}"), &[]);
            check(&format!("--udp {value}:53"), &[]);
            check(&format!("--files {value}:rw"), &[]);
            check(&format!("--tcp {value}:80"), &["forward gate -D 1080"]);
        }
        check("--listen 80;id", &[]);
        check("--udp a:53;id", &[]);
    }

    #[test]
    fn a_program_a_home_and_a_name_are_quoted() {
        let invocation = Invocation { program: OsStr::new("./a b/client"), home: Some(Path::new("/x y")) };
        let server = "Tür".parse().unwrap();
        let command = "'./a b/client' --home '/x y' send 'Tür' \"Hello, World!\"";
        assert_eq!(examples("--messages", &server, &invocation), [command]);
    }
}
