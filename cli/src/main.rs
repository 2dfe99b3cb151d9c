//! The program `vswitch`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use vswitch_cli::dispatch::{self, Hooks, Outcome};
use vswitch_cli::error::CliError;
use vswitch_cli::{daemon, upkeep};

fn main() -> ExitCode {
    let hooks = Hooks {
        run: daemon::run,
        doctor: upkeep::doctor,
        clean: upkeep::clean,
        demo: |_, _| absent("demo"),
    };
    dispatch::main(std::env::args_os(), &hooks).into()
}

/// The merge of the daemon, the host and the demo puts their functions in its place.
fn absent(command: &str) -> Outcome {
    Err(CliError::failed(command, "not part of this build", ""))
}
