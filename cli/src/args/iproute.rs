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
    let end = argv.iter().position(|argument| argument == "--");
    for place in 1..end.unwrap_or(argv.len()) {
        if argv[place - 1] == "-c" && argv[place].to_str().is_some_and(is_number) {
            argv[place - 1] = "--count".into();
        }
    }
    argv
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn long_form(argument: &str) -> Option<String> {
    let typed = argument.strip_prefix('-')?;
    if let Some(count) = typed.strip_prefix('c').filter(|rest| is_number(rest)) {
        return Some(format!("--count={count}"));
    }
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
            ("-c=never", "-c=never"),
            ("-c10", "--count=10"),
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
        let after = ["--", "-json", "-c", "10", "-c10"].map(OsString::from);
        assert_eq!(long_forms(after.clone()), after);
    }
}
