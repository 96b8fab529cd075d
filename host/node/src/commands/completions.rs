//! `warren completions`

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::say;
use crate::cli::Cli;

/// The script for `shell`.
pub(super) fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "warren", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Fish {
        let mut cli = Cli::command();
        cli.build();
        words(&cli, &mut Vec::new(), &mut script);
    }
    say(&script);
}

/// What the generator leaves out for fish: the words that may stand without a flag before them, as the
/// plugin's name.
fn words<'a>(command: &'a Command, path: &mut Vec<&'a str>, script: &mut String) {
    for argument in command.get_positionals() {
        let values = argument.get_possible_values();
        let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
        if !values.is_empty() {
            let values = values.join(" ");
            let place = condition(path);
            let help = argument.get_help().map(|help| help.to_string().replace('\'', "\\'"));
            let _ = writeln!(
                script,
                "complete -c warren -n \"{place}; and not __fish_seen_subcommand_from {values}\" -f -a \"{values}\" -d '{}'",
                help.unwrap_or_default().trim_end_matches('.')
            );
        }
    }
    // Where nothing but a word or a flag can stand, fish must not offer files.
    if !path.is_empty() && !command.has_subcommands() && !command.get_positionals().any(takes_files) {
        let _ = writeln!(script, "complete -c warren -n \"{}\" -f", condition(path));
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        path.push(below.get_name());
        words(below, path, script);
        path.pop();
    }
}

fn takes_files(argument: &Arg) -> bool {
    matches!(argument.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath)
}

/// In fish's words: this command is being written.
fn condition(path: &[&str]) -> String {
    match path {
        [] => "__fish_warren_needs_command".to_owned(),
        [first] => format!("__fish_warren_using_subcommand {first}"),
        [first, rest @ ..] => {
            format!(
                "__fish_warren_using_subcommand {first}; and __fish_seen_subcommand_from {}",
                rest.join(" ")
            )
        }
    }
}
