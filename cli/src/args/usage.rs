//! clap's errors in this program's form: one line with what, why and a fix.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Stop;
use crate::config::words;
use crate::error::{CliError, nearest};

/// What to do about what clap found in `argv`: print the text asked for, or fail in one line.
pub(super) fn stop(error: &clap::Error, argv: &[OsString]) -> Stop {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Stop::Text(error.render().ansi().to_string());
    }
    let root = super::command();
    let place = Place::find(&root, argv);
    let (what, why) = reason(error, &place);
    let fix = fix(error, &place);
    Stop::Error(CliError::usage(what, why, fix))
}

/// The command that was being read.
struct Place<'c> {
    /// The words that lead to it, from `vswitch` on.
    path: String,
    command: &'c Command,
}

impl<'c> Place<'c> {
    fn find(root: &'c Command, argv: &[OsString]) -> Self {
        let mut place = Self {
            path: "vswitch".into(),
            command: root,
        };
        for word in argv.iter().skip(1).filter_map(|word| word.to_str()) {
            if let [name] = place.beginning_with(word)[..]
                && let Some(command) = place.command.find_subcommand(name)
            {
                place.path = format!("{} {name}", place.path);
                place.command = command;
            }
        }
        place
    }

    fn words(&self) -> Vec<&'c str> {
        self.command
            .get_subcommands()
            .map(Command::get_name)
            .collect()
    }

    /// The commands that `typed` may stand for: the one of that name, or all that begin so.
    fn beginning_with(&self, typed: &str) -> Vec<&'c str> {
        let words = self.words();
        match words.iter().find(|word| **word == typed) {
            Some(exact) => vec![exact],
            None if typed.is_empty() => Vec::new(),
            None => words
                .into_iter()
                .filter(|word| word.starts_with(typed))
                .collect(),
        }
    }
}

fn reason(error: &clap::Error, place: &Place<'_>) -> (String, String) {
    let argument = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    let flag = flag(&argument);
    let missing = || format!("needs one of {}", place.words().join(", "));
    match error.kind() {
        ErrorKind::UnknownArgument => (argument, "no such flag or word here".into()),
        ErrorKind::InvalidSubcommand => {
            let typed = text(error, ContextKind::InvalidSubcommand);
            match place.beginning_with(&typed)[..] {
                [] => (typed, "no such command".into()),
                ref several => (typed, format!("the beginning of {}", several.join(", "))),
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => (flag, "a value is missing".into()),
        ErrorKind::InvalidValue => {
            let allowed = text(error, ContextKind::ValidValue);
            (joined(&flag, &value), format!("not one of {allowed}"))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            (
                joined(&flag, &value),
                why.unwrap_or_else(|| "not a value for it".into()),
            )
        }
        ErrorKind::ArgumentConflict => {
            let other = self::flag(&text(error, ContextKind::PriorArg));
            let same = other.is_empty() || other == flag;
            let why = if same {
                "given twice".into()
            } else {
                format!("not with {other}")
            };
            (flag, why)
        }
        ErrorKind::MissingRequiredArgument => (bare(&argument), "missing".into()),
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => (
            joined(&flag, &value),
            "not the right number of values".into(),
        ),
        ErrorKind::NoEquals => (flag, "its value is written with `=`".into()),
        ErrorKind::InvalidUtf8 => ("the command line".into(), "not UTF-8".into()),
        ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::Io
        | ErrorKind::Format
        | _ => (place.path.clone(), missing()),
    }
}

fn fix(error: &clap::Error, place: &Place<'_>) -> String {
    let flag = flag(&text(error, ContextKind::InvalidArg));
    let example = flag.strip_prefix("--").and_then(words::example);
    let valued = matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
    );
    if valued && let Some(value) = example {
        let join = if flag == "--color" { "=" } else { " " };
        return format!("{flag}{join}{value}");
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        let typed = text(error, ContextKind::InvalidSubcommand);
        if place.beginning_with(&typed).is_empty()
            && let Some(word) = nearest(&typed, &place.words())
        {
            return format!("{} {word}", place.path);
        }
    } else if let Some(near) = error.get(ContextKind::SuggestedArg) {
        return format!("write {}", flag_of(near));
    }
    format!("{} --help", place.path)
}

fn flag_of(value: &ContextValue) -> String {
    flag(&plain(value))
}

/// The flag of clap's `--color[=<WHEN>]`, `--ageing <SECS>` or `--verbose...`; a place's name
/// without its brackets.
fn flag(argument: &str) -> String {
    let end = argument.find([' ', '=', '.']).unwrap_or(argument.len());
    let word = &argument[..end];
    if word.starts_with('-') {
        word.trim_end_matches('[').into()
    } else {
        bare(argument)
    }
}

fn bare(places: &str) -> String {
    places.replace(['<', '>', '[', ']'], "")
}

/// Values in a place stand for themselves; flags go in front of theirs.
fn joined(flag: &str, value: &str) -> String {
    match (flag.starts_with('-'), value.is_empty()) {
        (true, true) => flag.to_owned(),
        (true, false) => format!("{flag} {value}"),
        (false, _) => value.to_owned(),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    error.get(kind).map(plain).unwrap_or_default()
}

fn plain(value: &ContextValue) -> String {
    let text = match value {
        ContextValue::Strings(list) => list.join(", "),
        ContextValue::StyledStrs(list) => list
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        ContextValue::None | ContextValue::Bool(_) | ContextValue::Number(_) => String::new(),
        other @ (ContextValue::String(_) | ContextValue::StyledStr(_) | _) => other.to_string(),
    };
    anstream::adapter::strip_str(&text)
        .to_string()
        .replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_with_a_value_has_an_example_that_parses() {
        let root = super::super::low::Low::command();
        let flags = root
            .get_arguments()
            .filter(|arg| arg.get_action().takes_values());
        for flag in flags.filter_map(|arg| arg.get_long()) {
            let value = words::example(flag).expect(flag);
            let argv = ["vswitch".to_owned(), format!("--{flag}={value}")];
            assert!(
                super::super::command().try_get_matches_from(argv).is_ok(),
                "{flag}"
            );
        }
    }
}
