//! Errors for the operator: what went wrong, why, and the command that fixes it.

use std::borrow::Cow;
use std::fmt;
use std::process::ExitCode;

/// How the program ends; the numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Done = 0,
    /// Tried and failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No vswitch of that name is running.
    NotRunning = 3,
    /// A question was asked and the answer is no.
    No = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// One failure as the operator sees it: `error: WHAT: WHY; fix: COMMAND`, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// What was asked for or looked at: a flag, a file, a port.
    pub what: String,
    /// Why it cannot be.
    pub why: String,
    /// A command to paste or a thing to write instead; empty where there is none.
    pub fix: String,
    /// The exit code that goes with it.
    pub exit: Exit,
    /// The lines of a file in question, underlined; printed below the first line.
    pub excerpt: Option<String>,
}

impl CliError {
    /// A failure of something that was properly asked for (exit code 1).
    #[must_use]
    pub fn failed(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what, why, fix)
    }

    /// A command line that makes no sense (exit code 2).
    #[must_use]
    pub fn usage(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, why, fix)
    }

    /// An error with the exit code given.
    #[must_use]
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
            exit,
            excerpt: None,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "error: {}: {}",
            printable(&self.what),
            printable(&self.why)
        )?;
        if !self.fix.is_empty() {
            write!(f, "; fix: {}", printable(&self.fix))?;
        }
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

/// A text without control characters, which become `?`. Names come from the command line, from
/// files, and from the kernel, where a container may call its interface whatever it likes: none of
/// them shall move the cursor of the operator's terminal.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "?"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The word of `words` nearest to `typed`, if it is near enough to be a slip of the finger
/// (optimal string alignment distance of at most a third of its length, two at the least).
#[must_use]
pub fn nearest<'w>(typed: &str, words: &[&'w str]) -> Option<&'w str> {
    let allowed = (typed.chars().count() / 3).max(2);
    words
        .iter()
        .map(|word| (distance(typed, word), *word))
        .filter(|(distance, word)| *distance <= allowed && *distance < word.chars().count())
        .min()
        .map(|(_, word)| word)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(from != to)).min(above[j + 1].min(row[j]) + 1);
            let swapped = i > 0 && j > 0 && a[i - 1] == *to && b[j - 1] == *from;
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_what_why_and_fix() {
        let error = CliError::usage("--ageing 3", "less than 10 seconds", "--ageing 300");
        let line = "error: --ageing 3: less than 10 seconds; fix: --ageing 300";
        assert_eq!(error.to_string(), line);
        let bare = CliError::failed("veth1", "no such device", "");
        assert_eq!(bare.to_string(), "error: veth1: no such device");
        let hostile = CliError::failed("\u{1b}[2Jveth1\n", "gone", "");
        assert_eq!(hostile.to_string(), "error: ?[2Jveth1?: gone");
    }

    #[test]
    fn slips_of_the_finger_are_recognised_and_other_words_are_not() {
        let words = ["ports", "port", "uplink", "gateway", "ageing"];
        for (typed, expected) in [
            ("prots", Some("ports")),
            ("uplnik", Some("uplink")),
            ("aging", Some("ageing")),
            ("gatway", Some("gateway")),
            ("bananas", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, &words), expected, "{typed}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
    }
}
