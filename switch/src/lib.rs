//! Frames, ports and verdicts.
