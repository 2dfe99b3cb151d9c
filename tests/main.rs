//! Integration tests.

mod cli;
mod sim;
