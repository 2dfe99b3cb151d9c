//! All unsafe code of the switch: mappings, rings and system calls.
#![allow(unsafe_code, reason = "the one folder that may hold unsafe code")]

pub mod bpf;
