//! Integration tests.

mod cli;
mod netns;
mod readme;
mod scratch;
mod sim;
mod tidy;
