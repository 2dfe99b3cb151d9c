//! The kernel's protocol counters of one namespace.
//!
//! Source: `net/ipv4/proc.c` (`/proc/net/snmp` and `/proc/net/netstat`).

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// The files, read through `/proc/thread-self` because `/proc/net` is the main thread's.
const FILES: [&str; 2] = [
    "/proc/thread-self/net/snmp",
    "/proc/thread-self/net/netstat",
];

/// A reading of all counters, for example `Tcp` `OutRsts`, `Udp` `InCsumErrors`, `Tcp`
/// `InCsumErrors`, `Icmp` `OutDestUnreachs`, `TcpExt` `TCPTimeouts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<(String, String), u64>);

impl Counters {
    /// Reads the counters of the calling thread's namespace.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn read() -> io::Result<Self> {
        let mut counters = Self::default();
        for file in FILES {
            counters.parse(&fs::read_to_string(file)?);
        }
        Ok(counters)
    }

    /// The files hold pairs of lines: names, then values, both led by the group's name.
    fn parse(&mut self, text: &str) {
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (Some((group, names)), Some((_, values))) =
                (names.split_once(':'), values.split_once(':'))
            else {
                continue;
            };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                // `Tcp MaxConn` is -1 when there is no limit; no counter is negative.
                if let Ok(value) = value.parse() {
                    self.0.insert((group.to_owned(), name.to_owned()), value);
                }
            }
        }
    }

    /// The counter `name` of `group`; `None` when this kernel has no such counter, so that a
    /// misspelt name never passes for a zero.
    #[must_use]
    pub fn get(&self, group: &str, name: &str) -> Option<u64> {
        self.0.get(&(group.to_owned(), name.to_owned())).copied()
    }

    /// How far the counter has gone up since `before`; `None` as for [`Counters::get`].
    #[must_use]
    pub fn since(&self, before: &Self, group: &str, name: &str) -> Option<u64> {
        let now = self.get(group, name)?;
        Some(now.wrapping_sub(before.get(group, name)?))
    }

    /// Every counter that differs from `before`, as `(group, name, increase)`.
    #[must_use]
    pub fn changes(&self, before: &Self) -> Vec<(&str, &str, u64)> {
        let mut changes = Vec::new();
        for ((group, name), now) in &self.0 {
            let then = before.get(group, name).unwrap_or(0);
            if then != *now {
                changes.push((group.as_str(), name.as_str(), now.wrapping_sub(then)));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_lines_become_counters() {
        let mut before = Counters::default();
        before.parse("Tcp: MaxConn OutRsts\nTcp: -1 5\nUdp: InCsumErrors\nUdp: 0\n");
        assert_eq!(before.get("Tcp", "OutRsts"), Some(5));
        assert_eq!(before.get("Tcp", "MaxConn"), None);
        let mut after = Counters::default();
        after.parse("Tcp: MaxConn OutRsts\nTcp: -1 7\nUdp: InCsumErrors\nUdp: 0\n");
        assert_eq!(after.since(&before, "Tcp", "OutRsts"), Some(2));
        assert_eq!(after.since(&before, "Tcp", "OutRst"), None);
        assert_eq!(after.changes(&before), [("Tcp", "OutRsts", 2)]);
    }

    #[test]
    fn this_kernel_has_the_counters_the_tests_rely_on() {
        let counters = Counters::read().unwrap();
        for (group, name) in [
            ("Tcp", "OutRsts"),
            ("Tcp", "InCsumErrors"),
            ("Tcp", "RetransSegs"),
            ("Udp", "InCsumErrors"),
            ("Udp", "InDatagrams"),
            ("Ip", "ReasmFails"),
            ("Icmp", "OutDestUnreachs"),
            ("TcpExt", "TCPTimeouts"),
        ] {
            assert!(counters.get(group, name).is_some(), "{group} {name}");
        }
    }
}
