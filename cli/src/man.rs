//! Manual pages and completion scripts, made from the same definitions as the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Generator;
use clap_complete::shells::{Bash, Elvish, Fish, Zsh};
use clap_mangen::Man;

use crate::args::{self, Shell};

/// The completion script for a shell.
#[must_use]
pub fn completion(shell: Shell) -> Vec<u8> {
    match shell {
        Shell::Bash => script(Bash),
        Shell::Zsh => script(Zsh),
        Shell::Fish => script(Fish),
        Shell::Elvish => script(Elvish),
    }
}

fn script(shell: impl Generator) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "vswitch", &mut out);
    out
}

/// The program's own manual page in roff.
///
/// # Errors
/// None: it is written to memory.
pub fn page() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Man::new(args::command()).render(&mut out)?;
    Ok(out)
}

/// Writes a page for the program and for each of its commands to `directory`, which is made if
/// it is not there. Returns the files written.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn write_all(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut command = args::command();
    command.build();
    let mut written = Vec::new();
    write_tree(&command, directory, &mut written)?;
    written.sort();
    Ok(written)
}

fn write_tree(
    command: &clap::Command,
    directory: &Path,
    written: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for child in command
        .get_subcommands()
        .filter(|child| !child.is_hide_set())
    {
        write_tree(child, directory, written)?;
    }
    written.push(Man::new(command.clone()).generate_to(directory)?);
    Ok(())
}
