//! Integration tests.

mod cli;
mod netns;
