//! The journals of a directory: what dead instances left, listed and undone.

use std::fs;
use std::io;
use std::path::Path;

use super::parse_head;
use super::{
    Change, JournalError, Leftover, Undone, fresh_path, journal_path, lock, parse_changes,
};

/// What `vswitch clean` did about one journal.
#[derive(Debug)]
pub enum Cleaned {
    /// A dead instance's changes were undone; the file is gone unless something failed.
    Undone {
        /// Name of the instance.
        name: String,
        /// Every change and what became of it.
        undone: Vec<Undone>,
    },
    /// The instance lives; nothing was touched.
    Live {
        /// Name of the instance.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// The file could not be read.
    Error(JournalError),
}

/// Undoes what dead instances left, all of them or the one called `only`.
///
/// # Errors
/// Whatever reading the directory says; a missing directory is nothing to do.
pub fn clean(dir: &Path, only: Option<&str>) -> io::Result<Vec<Cleaned>> {
    let names = names(dir)?;
    let wanted = names
        .into_iter()
        .filter(|name| only.is_none_or(|only| only == name));
    Ok(wanted.map(|name| clean_one(dir, name)).collect())
}

fn clean_one(dir: &Path, name: String) -> Cleaned {
    let path = journal_path(dir, &name);
    match lock(&path, false) {
        Err(JournalError::Running { name, pid }) => Cleaned::Live { name, pid },
        Err(err) => Cleaned::Error(err),
        Ok((_file, leftover)) => {
            let undone = match leftover.map(Leftover::undo).transpose() {
                Ok(undone) => undone.unwrap_or_default(),
                Err(source) => return Cleaned::Error(JournalError::Io { path, source }),
            };
            if !undone.iter().any(Undone::failed)
                && let Err(source) = fs::remove_file(&path)
            {
                return Cleaned::Error(JournalError::Io { path, source });
            }
            // One that died while it shortened its journal left this; usually there is none.
            let _ = fs::remove_file(fresh_path(&path));
            Cleaned::Undone { name, undone }
        }
    }
}

/// A journal on disk, for `vswitch doctor`.
#[derive(Debug)]
pub struct Found {
    /// Name of the instance.
    pub name: String,
    /// Process that owns or owned it.
    pub pid: u32,
    /// The owner still runs.
    pub live: bool,
    /// Changes that are made and not undone.
    pub changes: Vec<Change>,
}

/// Every readable journal in `dir`, without touching anything.
///
/// # Errors
/// Whatever reading the directory says; a missing directory is an empty list.
pub fn list(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for name in names(dir)? {
        let Ok(text) = fs::read_to_string(journal_path(dir, &name)) else {
            continue;
        };
        let Some(head) = parse_head(&text) else {
            continue;
        };
        let live = head.owner_runs();
        found.push(Found {
            name,
            pid: head.pid,
            live,
            changes: parse_changes(&text),
        });
    }
    Ok(found)
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".journal")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
