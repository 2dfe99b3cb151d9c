//! Where the program and the kernel differ, and why so.

/// A difference that somebody looked at.
pub(super) struct Difference {
    pub(super) scenario: &'static str,
    pub(super) vswitch: &'static str,
    pub(super) kernel: &'static str,
    pub(super) why: &'static str,
}

/// All of them: one that is not here fails the test, and so does a line that differs no more.
pub(super) const DIFFERENCES: &[Difference] = &[];
