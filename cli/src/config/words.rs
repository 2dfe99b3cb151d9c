//! The words of the command line and of the configuration file, each read in one place.
//!
//! A flag's value and the file's value of the same key go through the same function here, so the
//! two cannot drift apart. Every function returns why the text is wrong, in a sentence without
//! subject; the caller puts the flag or the file's line in front.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use switch::mac::Mac;

use super::settings::{Cidr, PortOptions, PortRange, PortWord};

/// Why a text is not a value.
pub type Why = String;

/// Longest interface name (IFNAMSIZ 16 with its NUL, include/uapi/linux/if.h).
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// Bounds of the ageing time in seconds (IEEE 802.1Q-2018 table 8-6).
pub const AGEING_SECS: (u64, u64) = (10, 1_000_000);
/// Bounds of the forwarding table's size in entries.
pub const FDB_MAX: (u64, u64) = (1, 1_000_000);
/// Bounds of the NAT session table: at 256 bytes a session, the upper one is 4 GiB.
pub const NAT_SESSIONS: (u64, u64) = (1, 16_777_216);
/// Bounds of the busy-poll time in microseconds; beyond a second a worker never sleeps anyway.
pub const BUSY_POLL_USEC: (u64, u64) = (0, 1_000_000);
/// Bounds of a port's receive ring: a batch of full-size frames, and what one port may pin.
pub const RING_BYTES: (u64, u64) = (64 << 10, 1 << 30);
/// A ring is made of whole pages.
pub const RING_STEP_BYTES: u64 = 4096;

const PORT_KEYS: &[&str] = &["mac", "worker", "ring", "fdb-max", "isolated"];

/// What a value of each flag, key or port option may look like: the fix for a bad one.
const EXAMPLES: &[(&str, &str)] = &[
    ("ports", "veth1,tap:web0"),
    ("port", "veth1,worker=0,ring=4MiB"),
    ("uplink", "eth0"),
    ("uplink-address", "192.0.2.9/24"),
    ("uplink-mac", "02:00:00:00:00:01"),
    ("gateway", "10.77.0.1/24"),
    ("gateway-mac", "02:00:00:00:00:01"),
    ("no-nat", "true"),
    ("no-host-port", "true"),
    ("nat-ports", "61000-65535"),
    ("nat-sessions", "262144"),
    ("nat-profile", "rfc"),
    ("nat-filter", "apdf"),
    ("nat-pool", "192.0.2.20,192.0.2.30-192.0.2.39"),
    ("nat-quota", "sessions=10000,ports=1000"),
    ("nat-helpers", "ftp,tftp"),
    ("nat-log", "/var/log/vswitch-nat.log"),
    ("state", "/var/lib/vswitch/vswitch0.state"),
    ("no-mss-clamp", "true"),
    ("no-nat-for", "10.0.0.0/8"),
    ("publish", "8080:veth1:80"),
    ("fast-path", "true"),
    ("isolate", "true"),
    ("isolated", "true"),
    ("ageing", "300"),
    ("fdb-max", "8192"),
    ("workers", "2"),
    ("cpus", "0-1,3"),
    ("busy-poll", "50"),
    ("metrics", "127.0.0.1:9777"),
    ("config", "/etc/vswitch/lab.toml"),
    ("name", "vswitch0"),
    ("run-dir", "/run/vswitch"),
    ("socket", "/run/vswitch/vswitch0.sock"),
    ("color", "auto"),
    ("why", "NO_ROUTE"),
    ("hdr", "latency.hlog"),
    ("out", "/usr/share/man/man1"),
    ("vs", "bridge,ovs"),
    ("test", "tcp,udp64,rr"),
    ("time", "5"),
    ("pairs", "5"),
    ("ports-count", "256"),
    ("loads", "20,50,100"),
    ("pps", "10000"),
    ("multiplier", "2"),
    ("loop", "3"),
    ("interface", "veth1"),
    ("write", "verdicts.pcapng"),
    ("host-address", "192.0.2.10/24"),
    ("host-mac", "02:00:00:00:00:0b"),
    ("route", "0.0.0.0/0=192.0.2.1"),
    ("neigh", "192.0.2.1=02:00:00:00:00:01"),
    ("mtu", "9000"),
    ("mac", "02:00:00:00:00:0b"),
    ("worker", "0"),
    ("ring", "4MiB"),
];

/// A good value for a flag (without its dashes), a key of the file or an option of a port.
#[must_use]
pub fn example(word: &str) -> Option<&'static str> {
    EXAMPLES
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, value)| *value)
}

/// How many: 1 or more.
///
/// # Errors
/// Not a number, or 0.
pub fn count(text: &str) -> Result<u64, Why> {
    number(text, (1, u64::MAX))
}

/// A whole number within `bounds`, both included.
///
/// # Errors
/// Not a number, or out of bounds.
pub fn number<T: TryFrom<u64>>(text: &str, bounds: (u64, u64)) -> Result<T, Why> {
    let (low, high) = bounds;
    text.replace('_', "")
        .parse::<u64>()
        .ok()
        .filter(|value| (low..=high).contains(value))
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("not a whole number from {low} to {high}"))
}

/// A network interface's name.
///
/// # Errors
/// Empty, too long, or with a character the kernel or this program's port words reserve.
pub fn interface(text: &str) -> Result<String, Why> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | ',' | '%');
    match text {
        "" => Err("an interface name is missing".into()),
        "." | ".." => Err("not an interface name".into()),
        _ if text.len() > INTERFACE_NAME_BYTES_MAX => {
            Err("longer than the 15 bytes an interface name may have".into())
        }
        _ if text.contains(bad) => {
            Err("an interface name has no spaces and none of / : , %".into())
        }
        _ => Ok(text.into()),
    }
}

/// The name of a vswitch: a file name, and short enough to name its interface as well.
///
/// # Errors
/// Empty, too long, or with other characters than letters, digits, `.`, `_` and `-`.
pub fn name(text: &str) -> Result<String, Why> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() <= INTERFACE_NAME_BYTES_MAX && text.bytes().all(good) {
        Ok(text.into())
    } else {
        Err(
            "a name has 1 to 15 letters, digits, `.`, `_`, `-`, and starts with a letter or digit"
                .into(),
        )
    }
}

/// A port word: `veth1`, or `tap:web0`.
///
/// # Errors
/// An unknown kind of port, or a bad interface name.
pub fn port_word(text: &str) -> Result<PortWord, Why> {
    match text.split_once(':') {
        None => interface(text).map(PortWord::Iface),
        Some(("tap", device)) => interface(device).map(PortWord::Tap),
        Some((kind, _)) => Err(format!(
            "no such kind of port `{kind}`; a port is INTERFACE or tap:NAME"
        )),
    }
}

/// A port by its device's name: `tap:web0` names the device `web0`.
///
/// # Errors
/// As [`port_word`].
pub fn device(text: &str) -> Result<String, Why> {
    port_word(text).map(|word| word.device().to_owned())
}

/// Port words separated by commas.
///
/// # Errors
/// As [`port_word`], with the word in front.
pub fn port_words(text: &str) -> Result<Vec<PortWord>, Why> {
    text.split(',')
        .map(|word| port_word(word).map_err(|why| format!("`{word}`: {why}")))
        .collect()
}

/// A port word with options: `veth1,worker=0,ring=4MiB,mac=02:00:00:00:00:01`.
///
/// # Errors
/// As [`port_word`]; an unknown option, an option without a value or given twice.
pub fn port(text: &str) -> Result<(PortWord, PortOptions), Why> {
    let mut parts = text.split(',');
    let word = port_word(parts.next().unwrap_or_default())?;
    let mut options = PortOptions::default();
    for part in parts {
        // The one option that is a word alone.
        let whole = if part == "isolated" {
            Some(("isolated", "true"))
        } else {
            part.split_once('=')
        };
        let (key, value) =
            whole.ok_or_else(|| format!("`{part}`: an option is written KEY=VALUE"))?;
        port_option(&mut options, key, value).map_err(|why| {
            if why.starts_with("no option") {
                why
            } else {
                format!("{key}: {why}")
            }
        })?;
    }
    Ok((word, options))
}

/// Sets one option of a port.
///
/// # Errors
/// An unknown option, a bad value, or one given before.
pub fn port_option(options: &mut PortOptions, key: &str, value: &str) -> Result<(), Why> {
    let twice = match key {
        "mac" => {
            let mac = station(value)?;
            let known = options.macs.contains(&mac);
            options.macs.push(mac);
            known
        }
        "worker" => options.worker.replace(worker_index(value)?).is_some(),
        "ring" => options.ring_bytes.replace(ring_bytes(value)?).is_some(),
        "fdb-max" => options.fdb_max.replace(number(value, FDB_MAX)?).is_some(),
        "isolated" => options.isolated.replace(truth(value)?).is_some(),
        _ => {
            return Err(format!(
                "no option `{key}`; a port has {}",
                PORT_KEYS.join(", ")
            ));
        }
    };
    if twice {
        Err("given twice".into())
    } else {
        Ok(())
    }
}

/// What of a port can be changed while it runs: `worker=1`.
///
/// # Errors
/// Another option, or a bad value.
pub fn port_change(text: &str) -> Result<u16, Why> {
    match text.split_once('=') {
        Some(("worker", value)) => worker_index(value).map_err(|why| format!("worker: {why}")),
        Some((key, _)) if PORT_KEYS.contains(&key) => Err(format!(
            "{key} is set when a port is added; while it runs only worker changes"
        )),
        Some((key, _)) => Err(format!("no option `{key}`; what changes is worker=N")),
        None => Err("a change is written worker=N".into()),
    }
}

/// The options a port may have, for suggestions.
#[must_use]
pub const fn port_keys() -> &'static [&'static str] {
    PORT_KEYS
}

fn worker_index(text: &str) -> Result<u16, Why> {
    number(text, (0, switch::limits::WORKERS_MAX as u64 - 1))
}

/// A MAC address a station may have.
///
/// # Errors
/// Not a MAC address, or a group or zero address.
pub fn station(text: &str) -> Result<Mac, Why> {
    let mac: Mac = text.parse().map_err(|error| format!("{error}"))?;
    if mac.is_station() {
        Ok(mac)
    } else {
        Err("a group or zero address, which no station may have".into())
    }
}

/// A size in bytes of whole pages: `1048576`, `512KiB`, `4MiB`.
///
/// # Errors
/// Not a size, out of [`RING_BYTES`], or not a multiple of [`RING_STEP_BYTES`].
pub fn ring_bytes(text: &str) -> Result<u64, Why> {
    let (digits, shift) = match text {
        _ if text.ends_with("KiB") => (text.trim_end_matches("KiB"), 10),
        _ if text.ends_with("MiB") => (text.trim_end_matches("MiB"), 20),
        _ => (text, 0),
    };
    let (low, high) = RING_BYTES;
    digits
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(1 << shift))
        .filter(|bytes| (low..=high).contains(bytes) && bytes.is_multiple_of(RING_STEP_BYTES))
        .ok_or_else(|| "not a size of whole 4 KiB pages from 64KiB to 1024MiB".into())
}

/// An IPv4 address with its prefix length, such that it can be a host in its subnet.
///
/// # Errors
/// Not `A.B.C.D/LEN`, a prefix out of 8..=30, or the subnet's own or broadcast address.
pub fn cidr(text: &str) -> Result<Cidr, Why> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        Some((
            address.parse::<Ipv4Addr>().ok()?,
            prefix.parse::<u8>().ok()?,
        ))
    });
    let (address, prefix) =
        parsed.ok_or("not an IPv4 address with a prefix length such as 10.77.0.1/24")?;
    if !(8..=30).contains(&prefix) {
        return Err(format!(
            "a prefix length from 8 to 30 is needed, not {prefix}"
        ));
    }
    let cidr = Cidr { address, prefix };
    let unusable = address.is_loopback()
        || address.is_multicast()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240;
    if unusable {
        Err("loopback, link-local, multicast and reserved addresses cannot be used".into())
    } else if address == cidr.network() || address == cidr.broadcast() {
        Err(format!(
            "the first or last address of {}/{prefix} is no host",
            cidr.network()
        ))
    } else {
        Ok(cidr)
    }
}

/// An IP address of this host with a TCP port other than 0.
///
/// # Errors
/// Not both.
pub fn address_and_port(text: &str) -> Result<SocketAddr, Why> {
    let parsed = text.parse().ok();
    parsed
        .filter(|at: &SocketAddr| at.port() != 0)
        .ok_or_else(|| "not an address with a port such as 127.0.0.1:9777".into())
}

/// A range of transport ports `LO-HI`, both included.
///
/// # Errors
/// Not two numbers from 1024 to 65535 in order.
pub fn port_range(text: &str) -> Result<PortRange, Why> {
    let bounds = (1024, 65_535);
    text.split_once('-')
        .and_then(|(low, high)| Some((number(low, bounds).ok()?, number(high, bounds).ok()?)))
        .filter(|(low, high)| low <= high)
        .map(|(low, high)| PortRange { low, high })
        .ok_or_else(|| "not a range such as 61000-65535 within 1024-65535".into())
}

/// Processors as in `taskset -c`: `0-1,3`.
///
/// # Errors
/// Not such a list, or one processor twice.
pub fn cpus(text: &str) -> Result<Vec<u16>, Why> {
    const CPU_MAX: u64 = 4095; // CONFIG_NR_CPUS of the largest kernels is 8192; cpusets stop here.
    let mut list = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let ends = (
            number::<u16>(low, (0, CPU_MAX)),
            number::<u16>(high, (0, CPU_MAX)),
        );
        let (Ok(low), Ok(high)) = ends else {
            return Err("not a list of processors such as 0-1,3".into());
        };
        if low > high || (low..=high).any(|cpu| list.contains(&cpu)) {
            return Err("not a rising list of processors such as 0-1,3".into());
        }
        list.extend(low..=high);
    }
    Ok(list)
}

/// A truth value.
///
/// # Errors
/// Neither `true` nor `false`.
pub fn truth(text: &str) -> Result<bool, Why> {
    text.parse().map_err(|_| "not true or false".into())
}

/// A word out of a closed list, read through [`FromStr`].
///
/// # Errors
/// Another word; the message lists the allowed ones.
pub fn choice<T: FromStr<Err = UnknownWord>>(text: &str) -> Result<T, Why> {
    text.parse().map_err(|error: UnknownWord| error.to_string())
}

/// A word that is not in a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWord(pub &'static [&'static str]);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not one of {}", self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_words_and_their_options() {
        assert_eq!(port_word("veth1"), Ok(PortWord::Iface("veth1".into())));
        assert_eq!(port_word("tap:web0"), Ok(PortWord::Tap("web0".into())));
        let (word, options) = port("veth1,worker=2,ring=4MiB,mac=2:0:0:0:0:1,fdb-max=7").unwrap();
        assert_eq!(word.to_string(), "veth1");
        assert_eq!(options.worker, Some(2));
        assert_eq!(options.ring_bytes, Some(4 << 20));
        assert_eq!(options.macs, [Mac([2, 0, 0, 0, 0, 1])]);
        assert_eq!(options.fdb_max, Some(7));
        for (text, why) in [
            ("", "an interface name is missing"),
            ("tap:", "an interface name is missing"),
            (
                "vhost:x",
                "no such kind of port `vhost`; a port is INTERFACE or tap:NAME",
            ),
            (
                "a-name-of-16-byt",
                "longer than the 15 bytes an interface name may have",
            ),
            ("a b", "an interface name has no spaces and none of / : , %"),
            (
                "veth1,mtu=9000",
                "no option `mtu`; a port has mac, worker, ring, fdb-max, isolated",
            ),
            ("veth1,worker", "`worker`: an option is written KEY=VALUE"),
            ("veth1,worker=64", "worker: not a whole number from 0 to 63"),
            ("veth1,worker=1,worker=1", "worker: given twice"),
            (
                "veth1,ring=5000",
                "ring: not a size of whole 4 KiB pages from 64KiB to 1024MiB",
            ),
            (
                "veth1,mac=ff:ff:ff:ff:ff:ff",
                "mac: a group or zero address, which no station may have",
            ),
        ] {
            assert_eq!(port(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn of_a_running_port_only_the_worker_changes() {
        assert_eq!(port_change("worker=3"), Ok(3));
        for (text, why) in [
            ("worker", "a change is written worker=N"),
            ("worker=64", "worker: not a whole number from 0 to 63"),
            (
                "ring=4MiB",
                "ring is set when a port is added; while it runs only worker changes",
            ),
            ("mtu=9000", "no option `mtu`; what changes is worker=N"),
        ] {
            assert_eq!(port_change(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn addresses_ranges_and_lists() {
        assert_eq!(cidr("10.77.0.1/24").unwrap().to_string(), "10.77.0.1/24");
        for bad in [
            "10.77.0.1",
            "10.77.0.0/24",
            "10.77.0.255/24",
            "10.0.0.1/31",
            "127.0.0.1/8",
        ] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
        assert_eq!(
            port_range("61000-65535").unwrap(),
            PortRange {
                low: 61_000,
                high: 65_535
            }
        );
        for bad in ["61000", "65535-61000", "80-90", "61000-65536", "-"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
        assert_eq!(cpus("0-1,3").unwrap(), [0, 1, 3]);
        for bad in ["", "1,1", "3-1", "0-", "a", "0-1,1-2"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(number::<u32>("1_000", (10, 2000)), Ok(1000));
        assert!(name("vswitch0").is_ok() && name("-x").is_err() && name("a/b").is_err());
    }
}
