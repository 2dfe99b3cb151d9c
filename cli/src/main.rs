//! The program `vswitch`.
#![forbid(unsafe_code)]
fn main() {}
