//! What is wrong with a filter, and where.

use std::fmt;

/// The most words an error lists as fitting.
const WORDS_MAX: usize = 12;

/// A text that is no filter: the place, what stands there, why that cannot be and what could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// Characters before the place, from 0.
    pub column: usize,
    /// What stands there; empty at the end of the text.
    pub found: String,
    /// Why it cannot stand there, without a full stop.
    pub why: String,
    /// Words or forms that can stand there instead; empty where there is nothing to list.
    pub expected: Vec<&'static str>,
}

impl FilterError {
    pub(crate) fn new(
        text: &str,
        place: std::ops::Range<usize>,
        why: impl Into<String>,
        expected: &[&'static str],
    ) -> Self {
        Self {
            column: text[..place.start].chars().count(),
            found: text[place].replace(char::is_control, "?"),
            why: why.into(),
            expected: expected.iter().copied().take(WORDS_MAX).collect(),
        }
    }

    /// Returns two lines: the filter, and below it carets under what was found.
    ///
    /// `text` is what [`super::Filter::parse`] was given. Control characters show as `?`, so that
    /// no filter moves the cursor of a terminal; neither line ends in a newline.
    #[must_use]
    pub fn caret(&self, text: &str) -> String {
        let line = text.replace(char::is_control, "?");
        let carets = "^".repeat(self.found.chars().count().max(1));
        format!("{line}\n{}{carets}", " ".repeat(self.column))
    }

    /// Returns the fitting words as a phrase, each in backquotes; empty where there are none.
    #[must_use]
    pub fn words(&self) -> String {
        let mut quoted: Vec<String> = self.expected.iter().map(|w| format!("`{w}`")).collect();
        match quoted.pop() {
            Some(last) if quoted.is_empty() => last,
            Some(last) => format!("{} or {last}", quoted.join(", ")),
            None => String::new(),
        }
    }
}

impl fmt::Display for FilterError {
    /// `filter:COLUMN: WHY; fix: write WORDS`, with the column from 1 as editors count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter:{}: {}", self.column + 1, self.why)?;
        if !self.expected.is_empty() {
            write!(f, "; fix: write {}", self.words())?;
        }
        Ok(())
    }
}

impl std::error::Error for FilterError {}
