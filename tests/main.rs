//! Integration tests.

mod cli;
mod readme;
mod sim;
mod tidy;
