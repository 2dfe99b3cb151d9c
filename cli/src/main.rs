//! The program `vswitch`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use vswitch_cli::dispatch::{self, Hooks};
use vswitch_cli::{bench, daemon, demo, upkeep};

fn main() -> ExitCode {
    let hooks = Hooks {
        run: daemon::run,
        doctor: upkeep::doctor,
        clean: upkeep::clean,
        demo: demo::command,
        bench: bench::real::command,
    };
    dispatch::main(std::env::args_os(), &hooks).into()
}
