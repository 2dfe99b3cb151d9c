//! The program.
#![forbid(unsafe_code)]

pub mod host;
pub mod lab;
