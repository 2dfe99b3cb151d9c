//! Integration tests.

mod cli;
mod sim;
mod tidy;
