//! `vswitch record`: all that comes into a running switch, for `vswitch replay` to play again.
//!
//! # Theory of operation
//! A recording is a pcapng file that any reader takes for a capture of what came in. What is more
//! in it is in comments: that of the section is a [`Recording`], the switch as it was when the
//! recording began; those of a packet are its verdict and, where its sender left work undone, its
//! offload (`words`). The time of a packet is that of its batch, by the worker's clock, so that a
//! replay gives the same frames to the pipeline at once.
//!
//! Sessions of the NAT that there were before are counted, and not recorded; neither are changes
//! of the configuration after the beginning.

mod client;
mod format;
mod words;

pub use client::{RecordPlan, command};
pub use format::{RecordedPort, RecordedPublish, RecordedStation, RecordedUplink, Recording};
pub use words::{Noted, offload_words, verdict_words};
