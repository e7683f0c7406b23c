//! Completion in shells of values that only the program knows, such as the names of servers.
//!
//! The scripts of the shells know commands and options by heart, and ask the program, by its hidden command `complete`, for
//! the values of the word at the cursor.

use clap::{Arg, ArgAction, Command};

/// The place of the word that is being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "all that a value can depend on")]
pub struct Place {
    /// The names of the commands before it, from the first level on.
    pub commands: Vec<String>,
    /// The id of the argument that the word is a value of.
    pub argument: String,
}

/// Finds the place of the last one of `words`, which are those behind the name of the program. `None` where an option or a
/// command may stand, and where the words make no sense.
#[must_use]
pub fn place(command: &Command, words: &[String]) -> Option<Place> {
    let (current, before) = words.split_last()?;
    let mut command = command;
    let mut global: Vec<&Arg> = command.get_arguments().filter(|argument| argument.is_global_set()).collect();
    let mut commands = Vec::new();
    let mut positions = 0;
    let mut is_literal = false;
    let mut before = before.iter();
    while let Some(word) = before.next() {
        if is_literal || word == "-" || !word.starts_with('-') {
            match command.find_subcommand(word).filter(|_| !is_literal) {
                Some(found) => {
                    command = found;
                    global.extend(command.get_arguments().filter(|argument| argument.is_global_set()));
                    commands.push(command.get_name().to_owned());
                    positions = 0;
                }
                None => positions += 1,
            }
        } else if word == "--" {
            is_literal = true;
        } else if let Some(option) = option(command, &global, word).filter(|option| takes_value(option)) {
            // A value that is attached needs no word more.
            let is_attached =
                if word.starts_with("--") { word.contains('=') } else { word.chars().count() > 2 };
            if !is_attached && before.next().is_none() {
                return Some(Place { commands, argument: option.get_id().to_string() });
            }
        }
    }
    if current.starts_with('-') && !is_literal {
        return None;
    }
    let last = command.get_positionals().last();
    let argument = command.get_positionals().nth(positions).or(last.filter(|last| is_many(last)))?;
    Some(Place { commands, argument: argument.get_id().to_string() })
}

/// The values that begin as the last one of `words` does, each once and in order.
#[must_use]
pub fn matching(values: impl IntoIterator<Item = String>, words: &[String]) -> Vec<String> {
    let begun = words.last().map_or("", String::as_str);
    let is_word =
        |value: &String| !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control());
    let mut values: Vec<String> =
        values.into_iter().filter(|value| is_word(value) && value.starts_with(begun)).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn option<'a>(command: &'a Command, global: &[&'a Arg], word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    let is_it = |argument: &&Arg| match name.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => argument.get_short().is_some() && argument.get_short() == name.chars().nth(1),
    };
    command.get_arguments().chain(global.iter().copied()).find(is_it)
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

fn is_many(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append)
        || argument.get_num_args().is_some_and(|count| count.max_values() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(words: &[&str]) -> Option<(Vec<String>, String)> {
        let home = Arg::new("home").long("home").global(true);
        let put = Command::new("put")
            .arg(Arg::new("address"))
            .arg(Arg::new("paths").num_args(1..))
            .arg(Arg::new("jobs").short('j').long("jobs"))
            .arg(Arg::new("dry").long("dry").action(ArgAction::SetTrue));
        let revoke = Command::new("revoke").arg(Arg::new("invite"));
        let command = Command::new("x")
            .arg(home)
            .subcommand(put)
            .subcommand(Command::new("invites").subcommand(revoke));
        let words: Vec<String> = words.iter().copied().map(String::from).collect();
        place(&command, &words).map(|place| (place.commands, place.argument))
    }

    #[test]
    fn words_before_tell_the_place() {
        let is = |commands: &[&str], argument: &str| {
            Some((commands.iter().copied().map(String::from).collect::<Vec<_>>(), argument.to_owned()))
        };
        assert_eq!(at(&["put", ""]), is(&["put"], "address"));
        assert_eq!(at(&["--home", "put", "put", "ga"]), is(&["put"], "address"));
        assert_eq!(at(&["--home=x", "put", "--dry", "-j4", "ga"]), is(&["put"], "address"));
        assert_eq!(at(&["put", "-j", "4", "gate", "a"]), is(&["put"], "paths"));
        assert_eq!(at(&["put", "gate", "a", "b", "c"]), is(&["put"], "paths"));
        assert_eq!(at(&["put", "--jobs", ""]), is(&["put"], "jobs"));
        assert_eq!(at(&["put", "--home", ""]), is(&["put"], "home"));
        assert_eq!(at(&["put", "--", "--ga"]), is(&["put"], "address"));
        assert_eq!(at(&["invites", "revoke", ""]), is(&["invites", "revoke"], "invite"));
        assert_eq!(at(&["put", "--"]), None);
        assert_eq!(at(&["pu"]), None);
        assert_eq!(at(&["no", "such", "thing"]), None);
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn values_are_whole_words_that_begin_so() {
        let values = ["gate", "gas", "b", "ga te", "gate", "ga\n"].map(String::from);
        assert_eq!(matching(values, &["put".into(), "ga".into()]), ["gas", "gate"]);
    }
}
