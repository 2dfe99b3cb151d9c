//! How far it is: a line that rewrites itself on a terminal, a line for each finished test else.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use crate::error::printable;

/// Blanks and signs between the brackets.
const BAR_COLUMNS: u32 = 24;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Quiet,
    /// A line for each finished test, failure and omission.
    Lines,
    /// These, and a last line with a bar that rewrites itself.
    Bar,
}

/// Tells how far a run is.
pub struct Progress<'a> {
    out: &'a mut dyn Write,
    mode: Mode,
    /// How long the run has taken.
    clock: &'a dyn Fn() -> Duration,
    total: Duration,
    done: Duration,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Progress({:?} of {:?})", self.done, self.total)
    }
}

impl<'a> Progress<'a> {
    /// Tells `out`; `clock` gives the time since the run began.
    pub fn new(out: &'a mut dyn Write, mode: Mode, clock: &'a dyn Fn() -> Duration) -> Self {
        Self {
            out,
            mode,
            clock,
            total: Duration::ZERO,
            done: Duration::ZERO,
        }
    }

    /// The loads will take `total`, if none fails.
    pub(super) fn expect(&mut self, total: Duration) {
        self.total = total;
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &dyn Display) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Lines => self.write(&format!("{}\n", printable(&text.to_string()))),
            Mode::Bar => self.write(&format!("\r\x1b[K{}\n", printable(&text.to_string()))),
        }
    }

    /// What is done now.
    pub(super) fn now(&mut self, what: &dyn Display) {
        if self.mode != Mode::Bar {
            return;
        }
        let part = if self.total.is_zero() {
            1.0
        } else {
            (self.done.as_secs_f64() / self.total.as_secs_f64()).min(1.0)
        };
        let filled = (0..BAR_COLUMNS)
            .filter(|&column| f64::from(column) + 0.5 < part * f64::from(BAR_COLUMNS));
        let filled = "=".repeat(filled.count());
        let width = BAR_COLUMNS as usize;
        let (left, percent) = (eta(self.left()), part * 100.0);
        let what = printable(&what.to_string()).into_owned();
        self.write(&format!(
            "\r\x1b[K[{filled:<width$}] {percent:3.0} %  {what}  ETA {left}"
        ));
    }

    /// A load of this length is behind us, or is left out.
    pub(super) fn passed(&mut self, time: Duration) {
        self.done += time;
    }

    /// Leaves a clean line.
    pub(super) fn end(&mut self) {
        if self.mode == Mode::Bar {
            self.write("\r\x1b[K");
        }
    }

    /// What is still to come takes as much longer than its loads as what is behind us did.
    fn left(&self) -> Duration {
        let left = self.total.saturating_sub(self.done);
        if self.done.is_zero() {
            return left;
        }
        let pace = (self.clock)().as_secs_f64() / self.done.as_secs_f64();
        Duration::try_from_secs_f64(left.as_secs_f64() * pace.max(1.0)).unwrap_or(Duration::MAX)
    }

    fn write(&mut self, text: &str) {
        // Nobody measures less because nobody watches.
        let _unseen = self.out.write_all(text.as_bytes());
        let _unseen = self.out.flush();
    }
}

fn eta(left: Duration) -> String {
    let secs = left.as_secs_f64().ceil();
    if secs < 100.0 {
        format!("{secs:.0} s")
    } else if secs < 6000.0 {
        format!("{:.0} min", (secs / 60.0).ceil())
    } else {
        format!("{:.1} h", secs / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mode: Mode) -> String {
        let mut out = Vec::new();
        let clock = || Duration::from_secs(30);
        let mut progress = Progress::new(&mut out, mode, &clock);
        progress.expect(Duration::from_secs(40));
        progress.now(&"tcp bridge 1/5");
        progress.passed(Duration::from_secs(10));
        progress.line(&"tcp over ovs: \x1b[2Jbroken");
        progress.now(&"tcp bridge 2/5");
        progress.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_a_bar_and_a_file_lines() {
        assert_eq!(told(Mode::Quiet), "");
        assert_eq!(told(Mode::Lines), "tcp over ovs: ?[2Jbroken\n");
        let blank = " ".repeat(24);
        let quarter = format!("{}{}", "=".repeat(6), " ".repeat(18));
        assert_eq!(
            told(Mode::Bar),
            format!(
                "\r\x1b[K[{blank}]   0 %  tcp bridge 1/5  ETA 40 s\
                 \r\x1b[Ktcp over ovs: ?[2Jbroken\n\
                 \r\x1b[K[{quarter}]  25 %  tcp bridge 2/5  ETA 90 s\r\x1b[K"
            )
        );
    }

    #[test]
    fn what_is_left_is_told_in_the_unit_that_fits() {
        for (secs, text) in [(0, "0 s"), (99, "99 s"), (101, "2 min"), (9000, "2.5 h")] {
            assert_eq!(eta(Duration::from_secs(secs)), text);
        }
    }
}
