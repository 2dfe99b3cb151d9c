//! What the demo tells, line by line, as it happens.

use std::io::{self, Write};

use crate::error::printable;
use crate::show::table::{BAD, GOOD, NOTE, STRONG};

/// Writes the story; styles are escape sequences, which the writer strips where nobody sees them.
pub(super) struct Story<'a> {
    out: &'a mut dyn Write,
    step: u32,
    title: String,
    failed: Vec<String>,
}

impl<'a> Story<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            step: 0,
            title: String::new(),
            failed: Vec::new(),
        }
    }

    /// A line as it is.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Opens a numbered step: what will be done, then why.
    pub(super) fn step(&mut self, title: &str, why: &str) -> io::Result<()> {
        self.step += 1;
        title.clone_into(&mut self.title);
        writeln!(self.out, "\n{STRONG}{}. {title}{STRONG:#}", self.step)?;
        for line in why.lines() {
            writeln!(self.out, "   {line}")?;
        }
        self.out.flush()
    }

    /// The step worked.
    pub(super) fn ok(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("   {GOOD}ok{GOOD:#}  {text}"))
    }

    /// The step did not work; it will be named at the end.
    pub(super) fn fail(&mut self, text: &str) -> io::Result<()> {
        let title = self.title.clone();
        if !self.failed.contains(&title) {
            self.failed.push(title);
        }
        self.line(&format!("   {BAD}FAILED{BAD:#}  {}", printable(text)))
    }

    /// `ok` or `fail`.
    pub(super) fn verdict(&mut self, outcome: &Result<String, String>) -> io::Result<()> {
        match outcome {
            Ok(text) => self.ok(text),
            Err(text) => self.fail(text),
        }
    }

    /// Something left out, and why.
    pub(super) fn skip(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("   {NOTE}left out{NOTE:#}  {text}"))
    }

    /// A command that is run, as it could be typed.
    pub(super) fn command(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("   {STRONG}$ {text}{STRONG:#}"))
    }

    /// What a program printed.
    pub(super) fn printed(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.out, "     {}", printable(line))?;
        }
        self.out.flush()
    }

    /// The titles of the steps that failed.
    pub(super) fn failed(&self) -> &[String] {
        &self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_remembered_once_by_its_title() {
        let mut out = Vec::new();
        let mut story = Story::new(&mut out);
        story.step("Ping", "because\nof this").unwrap();
        story.verdict(&Err("no answer\u{7}".to_owned())).unwrap();
        story.fail("again").unwrap();
        story.step("Tables", "").unwrap();
        story.verdict(&Ok("fine".to_owned())).unwrap();
        assert_eq!(story.failed(), ["Ping"]);
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        let expected = "\n1. Ping\n   because\n   of this\n   FAILED  no answer?\n   FAILED  \
                        again\n\n2. Tables\n   ok  fine\n";
        assert_eq!(text, expected);
    }
}
