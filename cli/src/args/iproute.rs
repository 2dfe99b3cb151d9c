//! Fingers used to iproute2: long options with one dash.

use std::ffi::OsString;

/// iproute2's options and ours for them (`ip(8)`, `bridge(8)`); the aliases come after the words
/// they are beginnings of.
const WORDS: &[(&str, &str)] = &[
    ("json", "--json"),
    ("stats", "--stats"),
    ("statistics", "--stats"),
    ("details", "--details"),
    ("oneline", "--oneline"),
    ("brief", "--brief"),
    ("color", "--color"),
];

/// Our one-letter flags; a cluster of these stays a cluster (`-js` is `-j -s`, which shows what
/// iproute2's `-js` for `-json` does, and more).
const LETTERS: &str = "jsdocqvhV";

/// Rewrites `-json`, `-stats`, `-br` and so on, up to `--`.
pub(super) fn long_forms(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words_end = false;
    let rewrite = |argument: OsString| {
        words_end |= argument == "--";
        match argument.to_str().filter(|_| !words_end).and_then(long_form) {
            Some(long) => long.into(),
            None => argument,
        }
    };
    let mut argv: Vec<OsString> = argv.into_iter().map(rewrite).collect();
    // tcpdump's `-c 10`. A colour is written behind `=`, so a number behind a blank is a count.
    let is_number = |word: &OsString| {
        let text = word.to_str().unwrap_or_default();
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    for place in 1..argv.len() {
        if argv[place - 1] == "-c" && is_number(&argv[place]) {
            argv[place - 1] = "--count".into();
        }
    }
    argv
}

fn long_form(argument: &str) -> Option<String> {
    let typed = argument.strip_prefix('-')?;
    let (typed, value) = match typed.split_once('=') {
        Some((word, value)) => (word, format!("={value}")),
        None => (typed, String::new()),
    };
    let cluster = typed.chars().all(|letter| LETTERS.contains(letter));
    if typed.len() < 2 || cluster {
        return None;
    }
    WORDS
        .iter()
        .find(|(word, _)| word.starts_with(typed))
        .map(|(_, long)| format!("{long}{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_options_with_one_dash_are_understood() {
        for (typed, expected) in [
            ("-json", "--json"),
            ("-stats", "--stats"),
            ("-statistics", "--stats"),
            ("-st", "--stats"),
            ("-br", "--brief"),
            ("-details", "--details"),
            ("-det", "--details"),
            ("-oneline", "--oneline"),
            ("-color=never", "--color=never"),
            ("-js", "-js"),
            ("-j", "-j"),
            ("--json", "--json"),
            ("-x", "-x"),
            ("-", "-"),
            ("json", "json"),
        ] {
            assert_eq!(
                long_forms([typed.into()]),
                [OsString::from(expected)],
                "{typed}"
            );
        }
        let counted = long_forms(["-c".into(), "10".into(), "-c".into()]);
        assert_eq!(counted, ["--count", "10", "-c"].map(OsString::from));
        let after = long_forms(["--".into(), "-json".into()]);
        assert_eq!(after, [OsString::from("--"), "-json".into()]);
    }
}
