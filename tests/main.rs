//! Integration tests.

mod cli;
mod netns;
mod readme;
mod sim;
mod tidy;
