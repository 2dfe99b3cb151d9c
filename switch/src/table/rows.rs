//! A table as plain data.

use super::{Entry, FREE, Insert, Table, VALUE_MAX};

/// An entry as plain data, to be entered into a table of the same owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: u64,
    /// The value.
    pub value: u64,
    /// The second it was last refreshed, in the owner's units.
    pub stamp: u32,
    /// The owner's state.
    pub tag: u16,
}

impl Table {
    /// All entries as plain data.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |entry: Entry| Row {
            key: entry.key,
            value: entry.value,
            stamp: entry.stamp,
            tag: entry.tag,
        };
        self.iter().map(row).collect()
    }

    /// Enters a row of a table like this one, and returns its entry. `None` where there is no room,
    /// or it is no row of any table: rows may come out of a file.
    pub(crate) fn enter(&self, row: &Row) -> Option<Entry> {
        if row.key == FREE || row.value > VALUE_MAX {
            return None;
        }
        match self.insert(row.key, row.value, row.stamp, row.tag) {
            Insert::Done => self.get(row.key),
            Insert::Present | Insert::Full => None,
        }
    }
}
