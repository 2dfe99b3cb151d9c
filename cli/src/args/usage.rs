//! clap's errors in this program's form: one line with what, why and a fix.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Stop;
use crate::error::CliError;

/// What to do about what clap found: print the text asked for, or fail in one line.
pub(super) fn stop(error: clap::Error) -> Stop {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Stop::Text(error.render().ansi().to_string());
    }
    let (what, why) = reason(&error);
    let fix = suggestion(&error).unwrap_or_else(|| help(&error));
    Stop::Error(CliError::usage(what, why, fix))
}

fn reason(error: &clap::Error) -> (String, String) {
    let text = |kind| error.get(kind).map(plain).unwrap_or_default();
    let (argument, value) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
    );
    let flag = argument.split(' ').next().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument => (argument, "no such flag or word here".into()),
        ErrorKind::InvalidSubcommand => (
            text(ContextKind::InvalidSubcommand),
            "no such command".into(),
        ),
        ErrorKind::InvalidValue if value.is_empty() => (argument, "a value is missing".into()),
        ErrorKind::InvalidValue => {
            let allowed = text(ContextKind::ValidValue);
            (format!("{flag} {value}"), format!("not one of {allowed}"))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            (
                joined(&flag, &value),
                why.unwrap_or_else(|| "not a value for it".into()),
            )
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg);
            let same = other.is_empty() || other == argument;
            let why = if same {
                "given twice".into()
            } else {
                format!("not with {other}")
            };
            (argument, why)
        }
        ErrorKind::MissingRequiredArgument => (argument, "is missing".into()),
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => (
            joined(&flag, &value),
            "not the right number of values".into(),
        ),
        ErrorKind::NoEquals => (argument, "its value is written with `=`".into()),
        ErrorKind::InvalidUtf8 => ("the command line".into(), "not UTF-8".into()),
        ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::Io
        | ErrorKind::Format
        | _ => ("the command".into(), "a word is missing".into()),
    }
}

/// Positional values stand for themselves; flags go in front of theirs.
fn joined(flag: &str, value: &str) -> String {
    if flag.starts_with('-') && value.is_empty() {
        flag.to_owned()
    } else if flag.starts_with('-') {
        format!("{flag} {value}")
    } else {
        value.to_owned()
    }
}

fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    let near = kinds.into_iter().find_map(|kind| error.get(kind))?;
    let first = plain(near)
        .split(", ")
        .next()
        .unwrap_or_default()
        .to_owned();
    (!first.is_empty()).then(|| format!("write {first}"))
}

/// The help text of the command that was being read, from clap's usage line
/// (`Usage: vswitch fdb add …`).
fn help(error: &clap::Error) -> String {
    let usage = error.get(ContextKind::Usage).map(plain).unwrap_or_default();
    let words: Vec<&str> = usage
        .split_whitespace()
        .skip(1)
        .take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
        .filter(|word| *word != "dev")
        .collect();
    if words.is_empty() {
        "vswitch --help".into()
    } else {
        format!("{} --help", words.join(" "))
    }
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
