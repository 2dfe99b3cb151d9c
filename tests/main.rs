//! Integration tests.

mod cli;
mod netns;
mod sim;
