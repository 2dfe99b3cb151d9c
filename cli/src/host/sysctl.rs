//! Sysctls of the calling thread's network namespace, and arithmetic on port ranges.
//!
//! `/proc/sys/net` shows the namespace of the task that *opens* the file, so these functions must
//! run on a thread inside the namespace they mean (see [`super::netns::in_netns`]).
//!
//! Source: Documentation/networking/ip-sysctl.rst.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The ports the host never chooses by itself.
pub const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";
/// The ports the host chooses from for its own connections.
pub const LOCAL_PORT_RANGE: &str = "net/ipv4/ip_local_port_range";

/// The file behind a sysctl; `key` has slashes (an interface name may contain dots).
#[must_use]
pub fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Key of a per-interface setting, for example `net/ipv4/conf/veth1/arp_ignore`.
#[must_use]
pub fn conf_key(family: &str, ifname: &str, setting: &str) -> String {
    format!("net/{family}/conf/{ifname}/{setting}")
}

/// The longest value of a sysctl, with room: a full list of ports is a page.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Reads a sysctl without its line end, in one read: a list of ports is cut off where the first
/// ends (`proc_do_large_bitmap` knows no other offset than 0), and `read_to_string` begins with 32
/// bytes.
///
/// # Errors
/// `ENOENT` when the kernel (or the interface) does not have it.
pub fn read(key: &str) -> io::Result<String> {
    let mut bytes = vec![0; VALUE_BYTES_MAX];
    let length = fs::File::open(path(key))?.read(&mut bytes)?;
    bytes.truncate(length);
    let text = String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(text.trim().to_owned())
}

/// Writes a sysctl.
///
/// # Errors
/// `ENOENT` when there is none, `EROFS`/`EACCES` where `/proc/sys` is not ours to write (most
/// containers), `EINVAL` for a value the kernel does not take.
pub fn write(key: &str, value: &str) -> io::Result<()> {
    fs::write(path(key), format!("{value}\n"))
}

/// A set of ports, kept as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    /// The ports from `lo` to `hi`, both included; empty when `lo > hi`.
    #[must_use]
    pub fn range(lo: u16, hi: u16) -> Self {
        if lo > hi {
            Self::default()
        } else {
            Self(vec![(lo, hi)])
        }
    }

    /// The inclusive ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether no port is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `port` is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(lo, hi)| (*lo..=*hi).contains(&port))
    }

    /// How many ports are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|(lo, hi)| usize::from(hi - lo) + 1).sum()
    }

    /// The ports of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u16, u16)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(all.len());
        for (lo, hi) in all {
            match merged.last_mut() {
                Some(last) if u32::from(lo) <= u32::from(last.1) + 1 => last.1 = last.1.max(hi),
                Some(_) | None => merged.push((lo, hi)),
            }
        }
        Self(merged)
    }

    /// The ports of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = self.0.clone();
        for (cut_lo, cut_hi) in &other.0 {
            let mut next = Vec::with_capacity(left.len() + 1);
            for (lo, hi) in left {
                if hi < *cut_lo || lo > *cut_hi {
                    next.push((lo, hi));
                    continue;
                }
                if lo < *cut_lo {
                    next.push((lo, cut_lo - 1));
                }
                if hi > *cut_hi {
                    next.push((cut_hi + 1, hi));
                }
            }
            left = next;
        }
        Self(left)
    }

    /// The ports in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }
}

/// As the kernel prints it: `8080,9148-9152`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (lo, hi)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match lo == hi {
                true => write!(f, "{lo}")?,
                false => write!(f, "{lo}-{hi}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for PortSet {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let bad = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("bad port list {text:?}"),
            )
        };
        let mut set = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (lo, hi) = part.split_once('-').unwrap_or((part, part));
            let lo: u16 = lo.parse().map_err(|_| bad())?;
            let hi: u16 = hi.parse().map_err(|_| bad())?;
            if lo > hi {
                return Err(bad());
            }
            set = set.union(&Self::range(lo, hi));
        }
        Ok(set)
    }
}

/// Bytes the kernel takes of a list of ports in one go (`proc_do_large_bitmap`: a page less one).
const LIST_BYTES_MAX: usize = 4095;

/// As much of `wanted` as the list of reserved ports has room for, the largest ranges first: what
/// is left out is taken by sockets only.
///
/// # Errors
/// As [`reserved_ports`].
pub fn reservable(wanted: &PortSet) -> io::Result<PortSet> {
    let mut room = LIST_BYTES_MAX.saturating_sub(reserved_ports()?.to_string().len());
    let mut ranges = wanted.0.clone();
    ranges.sort_by_key(|(lo, hi)| std::cmp::Reverse(hi - lo));
    ranges.retain(|(lo, hi)| {
        // With its comma, and the line's end.
        let bytes = PortSet::range(*lo, *hi).to_string().len() + 2;
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    });
    ranges.sort_unstable();
    Ok(PortSet(ranges))
}

/// The ports that are reserved now.
///
/// # Errors
/// As [`read`].
pub fn reserved_ports() -> io::Result<PortSet> {
    read(RESERVED_PORTS)?.parse()
}

/// The host's own range for outgoing connections.
///
/// # Errors
/// As [`read`]; `InvalidData` when the kernel's text is not two numbers.
pub fn local_port_range() -> io::Result<(u16, u16)> {
    let text = read(LOCAL_PORT_RANGE)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(lo)), Some(Ok(hi))) => Ok((lo, hi)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("bad port range {text:?}"),
        )),
    }
}

/// The part of `wanted` that is not reserved yet: what [`reserve_ports`] will have added, and so
/// what must be released later.
///
/// # Errors
/// As [`read`].
pub fn not_yet_reserved(wanted: &PortSet) -> io::Result<PortSet> {
    Ok(wanted.difference(&reserved_ports()?))
}

/// Adds ports to the reserved ones.
///
/// # Errors
/// As [`write()`].
pub fn reserve_ports(added: &PortSet) -> io::Result<()> {
    write(RESERVED_PORTS, &reserved_ports()?.union(added).to_string())
}

/// Takes ports out of the reserved ones; others stay, whoever added them and whenever.
///
/// # Errors
/// As [`write()`].
pub fn release_ports(added: &PortSet) -> io::Result<()> {
    write(
        RESERVED_PORTS,
        &reserved_ports()?.difference(added).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::netns::tests::in_fresh_netns;

    fn arbitrary_set() -> impl Strategy<Value = PortSet> {
        prop::collection::vec((0..200_u16, 0..30_u16), 0..8).prop_map(|pieces| {
            let add = |set: PortSet, (lo, len)| set.union(&PortSet::range(lo, lo + len));
            pieces.into_iter().fold(PortSet::default(), add)
        })
    }

    proptest! {
        #[test]
        fn sets_behave_like_sets(a in arbitrary_set(), b in arbitrary_set()) {
            let (union, minus, both) = (a.union(&b), a.difference(&b), a.intersection(&b));
            for port in 0..240 {
                let (in_a, in_b) = (a.contains(port), b.contains(port));
                prop_assert_eq!(union.contains(port), in_a || in_b);
                prop_assert_eq!(minus.contains(port), in_a && !in_b);
                prop_assert_eq!(both.contains(port), in_a && in_b);
            }
            for pair in union.ranges().windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
            prop_assert_eq!(union.to_string().parse::<PortSet>().unwrap(), union);
            // What was there before comes back exactly when only the new part is taken away.
            let added = b.difference(&a);
            prop_assert_eq!(a.union(&added).difference(&added), a);
        }
    }

    #[test]
    fn the_edges_of_the_port_space_do_not_overflow() {
        let all = PortSet::range(0, u16::MAX);
        assert_eq!(all.len(), 65_536);
        assert!(all.difference(&all).is_empty());
        assert_eq!(
            all.difference(&PortSet::range(1, 65_534)).to_string(),
            "0,65535"
        );
        assert_eq!(PortSet::range(65_535, 65_535).union(&all), all);
        assert!(PortSet::range(2, 1).is_empty());
        for bad in ["x", "5-", "9-3", "65536"] {
            assert!(bad.parse::<PortSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_ports_are_added_and_only_ours_removed() {
        in_fresh_netns("reserved ports", || {
            write(RESERVED_PORTS, "8080,40000-40010").unwrap();
            let wanted = PortSet::range(40_005, 40_020);
            let added = not_yet_reserved(&wanted).unwrap();
            assert_eq!(added.to_string(), "40011-40020");
            reserve_ports(&added).unwrap();
            assert_eq!(reserved_ports().unwrap().to_string(), "8080,40000-40020");
            write(RESERVED_PORTS, "8080,40000-40020,50000").unwrap(); // somebody else, meanwhile
            release_ports(&added).unwrap();
            assert_eq!(
                reserved_ports().unwrap().to_string(),
                "8080,40000-40010,50000"
            );
            write(RESERVED_PORTS, "").unwrap();
            assert!(reserved_ports().unwrap().is_empty());
            let (lo, hi) = local_port_range().unwrap();
            assert!(lo < hi);
        });
    }

    #[test]
    fn a_missing_setting_is_not_found() {
        let key = conf_key("ipv4", "no.such0", "arp_ignore");
        assert_eq!(key, "net/ipv4/conf/no.such0/arp_ignore");
        assert_eq!(read(&key).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(
            write(&key, "8").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
