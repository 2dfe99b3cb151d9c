//! `vswitch record`: all that a running switch is given, for `vswitch replay` to give again.
//!
//! # Theory of operation
//! A recording is a pcapng file that any reader takes for a capture of what came in. What is more
//! in it is in comments, and in blocks that others pass over:
//!
//! ```text
//! section's comment   [`Recording`]: settings, seed, surroundings, as they were at the beginning
//! notes, turn 0       tables and sessions of that moment                   ([`RecordedEntry`])
//! packet's comments   its turn; its fate ([`fate_words`]); what its sender left undone
//! notes, turn 1..     ticks with the commands they obeyed, what the control thread changed
//! ```
//!
//! All of it is in the order of the workers' turns (see [`switch::journal`]), with the time that
//! each was given. So a replay that goes through the file does all of it again in the same order
//! and at the same times. What came of it is compared packet by packet, and at each tick by the sum
//! of all that the worker has decided ([`Digest`]), packets that the gateway made included.
//!
//! What neither a state file nor this has: fragments and packets that waited for somebody when it
//! began, what hosts had used up of their quotas' rates, what the FTP and TFTP helpers expected.

mod client;
mod digest;
mod entry;
mod format;
mod session;
mod view;
mod words;

pub use client::{RecordPlan, command};
pub use digest::Digest;
pub use entry::{
    RecordedChange, RecordedEntry, RecordedRow, RecordedTold, RecordedWhat, recorded_row, row,
};
pub use format::{RecordedPort, RecordedUplink, Recording};
pub use session::{RecordedRemains, RecordedSelection, RecordedSession};
pub use view::{PortChange, RecordedPublish, RecordedRole, ViewChange, publishes_of};
pub use words::{
    Noted, comment_words, fate_words, offload_words, place_of, place_words, plain_fate, same_fate,
    turn_words,
};
