//! `top …`: what was typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::Action;
use crate::config::words::{self, Why};
use crate::top::app::Tab;
use crate::top::{Form, TopPlan};

/// Tenths of a second between two looks: at least, and at most (an hour).
const TENTHS: (u64, u64) = (1, 36_000);

/// `top`.
#[derive(Debug, Args)]
pub struct TopNoun {
    /// Form: tui, stream, pretty, markdown, csv, json [default: tui]
    #[arg(
        short,
        long,
        value_name = "FORM",
        value_enum,
        hide_possible_values = true
    )]
    mode: Option<Form>,
    /// Print one snapshot as text and end: -m pretty -n 1
    #[arg(long, conflicts_with_all = ["mode", "count"])]
    once: bool,
    /// Seconds between two looks, from 0.1 on
    #[arg(short, long, value_name = "SECS", value_parser = interval, default_value = "1")]
    delay: Duration,
    /// End after so many intervals [default: 1; tui, stream: go on]
    #[arg(short = 'n', long, value_name = "N", value_parser = words::count)]
    count: Option<u64>,
    /// Tab to begin with, or the only one to print: ports, flows, nat, latency, drops, trace
    #[arg(long, value_name = "TAB", value_enum, hide_possible_values = true)]
    tab: Option<Tab>,
    /// Draw with letters of ASCII only
    #[arg(long)]
    ascii: bool,
    /// Keys and colours: [top] of this file [default: ~/.config/vswitch/top.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
}

impl TopNoun {
    pub(super) fn action(self, json: bool) -> Action {
        let form = match (self.mode, self.once, json) {
            (Some(form), _, _) => form,
            (None, _, true) => Form::Json,
            (None, true, false) => Form::Pretty,
            (None, false, false) => Form::Tui,
        };
        Action::Top(TopPlan {
            form,
            interval: self.delay,
            count: self.count,
            tab: self.tab,
            ascii: self.ascii,
            config: self.config,
        })
    }
}

/// Seconds with at most one decimal.
fn interval(text: &str) -> Result<Duration, Why> {
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let why = || "not a number of seconds from 0.1 to 3600, with at most one decimal".to_owned();
    let whole: u64 = words::number(whole, (0, TENTHS.1 / 10)).map_err(|_| why())?;
    let tenth: u64 = match tenth.len() {
        1 => words::number(tenth, (0, 9)).map_err(|_| why())?,
        _ => return Err(why()),
    };
    let tenths = whole * 10 + tenth;
    match (TENTHS.0..=TENTHS.1).contains(&tenths) {
        true => Ok(Duration::from_millis(tenths * 100)),
        false => Err(why()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_tenths_of_seconds() {
        for (text, millis) in [
            ("1", 1_000),
            ("0.1", 100),
            ("2.5", 2_500),
            ("3600", 3_600_000),
        ] {
            assert_eq!(interval(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "0", "0.0", "0.05", "", ".", "-1", "1e3", "3600.1", "1.", "nan",
        ] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
