//! The values of the NAT's settings, and how each is written.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use nat::{Helpers, Quota};

use super::settings::NatFilter;
use super::words::Why;

/// Sessions of one inside host where no more is said.
const QUOTA_SESSIONS: u32 = 65_536;
/// TCP handshakes under way of one inside host.
const QUOTA_HALF_OPEN: u32 = 4096;
/// TCP handshakes a second of one inside host, and of all outsiders, that come to nothing.
const QUOTA_FAILED: u32 = 4000;
/// The most external addresses besides the uplink's own: each is an ARP entry to answer for and a
/// rule of the guard.
pub const POOL_MAX: usize = 256;
/// The most destinations that are not translated: every outbound packet is compared with each.
pub const UNTRANSLATED_MAX: usize = 64;

/// Which packets from outside a session lets in, by protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatFilters {
    /// For UDP, and all that is neither TCP nor ICMP.
    pub udp: NatFilter,
    /// For TCP.
    pub tcp: NatFilter,
}

impl FromStr for NatFilters {
    type Err = Why;
    /// `apdf`, or `udp=eif,tcp=apdf`; what is not named stays the default.
    fn from_str(text: &str) -> Result<Self, Why> {
        let read = |word: &str| word.parse::<NatFilter>().map_err(|why| why.to_string());
        if !text.contains('=') {
            return read(text).map(|both| Self {
                udp: both,
                tcp: both,
            });
        }
        let (mut udp, mut tcp) = (None, None);
        for (key, value) in pairs(text)? {
            let slot = match key {
                "udp" => &mut udp,
                "tcp" => &mut tcp,
                _ => return Err(format!("`{key}` is none of udp, tcp")),
            };
            once(slot, key, read(value)?)?;
        }
        Ok(Self {
            udp: udp.unwrap_or_default(),
            tcp: tcp.unwrap_or_default(),
        })
    }
}

impl fmt::Display for NatFilters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.udp == self.tcp {
            self.udp.fmt(f)
        } else {
            write!(f, "udp={},tcp={}", self.udp, self.tcp)
        }
    }
}

/// What was said about the quota of one inside host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatQuota {
    sessions: Option<u32>,
    ports: Option<u32>,
    half_open: Option<u32>,
    rate: Option<u32>,
    failed: Option<u32>,
}

impl NatQuota {
    /// With the defaults filled in, for a table of so many sessions.
    #[must_use]
    pub fn settle(self, sessions_max: u32) -> Quota {
        Quota {
            sessions: self.sessions.unwrap_or(QUOTA_SESSIONS.min(sessions_max)),
            ports: self.ports.unwrap_or(u32::MAX),
            half_open: self.half_open.unwrap_or(QUOTA_HALF_OPEN),
            new_per_sec: self.rate.unwrap_or(u32::MAX),
            failed_per_sec: self.failed.unwrap_or(QUOTA_FAILED),
        }
    }
}

impl FromStr for NatQuota {
    type Err = Why;
    /// `sessions=1000,ports=200,half-open=100,rate=50,failed=10`, each a number or `none`.
    fn from_str(text: &str) -> Result<Self, Why> {
        let mut quota = Self::default();
        for (key, value) in pairs(text)? {
            let slot = match key {
                "sessions" => &mut quota.sessions,
                "ports" => &mut quota.ports,
                "half-open" => &mut quota.half_open,
                "rate" => &mut quota.rate,
                "failed" => &mut quota.failed,
                _ => {
                    return Err(format!(
                        "`{key}` is none of sessions, ports, half-open, rate, failed"
                    ));
                }
            };
            let limit = match value {
                "none" => u32::MAX,
                _ => super::words::number(value, (1, 1_000_000_000))
                    .map_err(|why| format!("{key}: {why}, and not `none`"))?,
            };
            once(slot, key, limit)?;
        }
        Ok(quota)
    }
}

/// A quota as [`NatQuota`] reads it.
#[must_use]
pub fn quota_text(quota: &Quota) -> String {
    let limit = |limit: u32| match limit {
        u32::MAX => "none".to_owned(),
        limit => limit.to_string(),
    };
    format!(
        "sessions={},ports={},half-open={},rate={},failed={}",
        limit(quota.sessions),
        limit(quota.ports),
        limit(quota.half_open),
        limit(quota.new_per_sec),
        limit(quota.failed_per_sec)
    )
}

/// External addresses besides the uplink's own: `192.0.2.5,192.0.2.8-192.0.2.11`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatPool(Vec<(Ipv4Addr, Ipv4Addr)>);

impl NatPool {
    /// Each address, in the order written.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let ranges = self.0.iter();
        ranges.flat_map(|(low, high)| (low.to_bits()..=high.to_bits()).map(Ipv4Addr::from_bits))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for NatPool {
    type Err = Why;
    fn from_str(text: &str) -> Result<Self, Why> {
        let wrong = |part: &str| format!("`{part}` is no IPv4 address and no range A-B of them");
        let mut ranges: Vec<(Ipv4Addr, Ipv4Addr)> = Vec::new();
        let mut count = 0;
        for part in text.split(',') {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (Ok(low), Ok(high)) = (low.parse::<Ipv4Addr>(), high.parse::<Ipv4Addr>()) else {
                return Err(wrong(part));
            };
            if low > high {
                return Err(wrong(part));
            }
            let usable = |address: Ipv4Addr| {
                let first = address.octets()[0];
                !address.is_loopback() && first != 0 && first < 224
            };
            if !usable(low) || !usable(high) {
                return Err(format!("`{part}`: no host has such an address"));
            }
            if ranges.iter().any(|(l, h)| low <= *h && *l <= high) {
                return Err(format!("`{part}`: named already"));
            }
            count += u64::from(high.to_bits() - low.to_bits()) + 1;
            ranges.push((low, high));
        }
        if count > POOL_MAX as u64 {
            return Err(format!("{count} addresses are more than {POOL_MAX}"));
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for NatPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

/// Destinations that are reached untranslated: `10.0.0.0/8,192.0.2.7`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Untranslated(Vec<(Ipv4Addr, u8)>);

impl Untranslated {
    /// Network and prefix length of each.
    #[must_use]
    pub fn networks(&self) -> &[(Ipv4Addr, u8)] {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Untranslated {
    type Err = Why;
    fn from_str(text: &str) -> Result<Self, Why> {
        let mut networks = Vec::new();
        for part in text.split(',') {
            let (address, prefix) = part.split_once('/').unwrap_or((part, "32"));
            let parsed = address.parse::<Ipv4Addr>().ok();
            let prefix = prefix.parse::<u8>().ok().filter(|prefix| *prefix <= 32);
            let (Some(address), Some(prefix)) = (parsed, prefix) else {
                return Err(format!("`{part}` is no network such as 10.0.0.0/8"));
            };
            let network = Ipv4Addr::from_bits(address.to_bits() & switch::config::mask(prefix));
            if network != address {
                let why = format!("`{part}` has bits behind its prefix: write {network}/{prefix}");
                return Err(why);
            }
            if networks.contains(&(network, prefix)) {
                return Err(format!("`{part}`: named already"));
            }
            networks.push((network, prefix));
        }
        if networks.len() > UNTRANSLATED_MAX {
            return Err(format!("more than {UNTRANSLATED_MAX} networks"));
        }
        Ok(Self(networks))
    }
}

impl fmt::Display for Untranslated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (network, prefix)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{network}/{prefix}")?;
        }
        Ok(())
    }
}

/// The protocols that are helped through: `ftp,tftp`.
///
/// # Errors
/// Another word, or one twice.
pub fn helpers(text: &str) -> Result<Helpers, Why> {
    let mut helpers = Helpers::default();
    for word in text.split(',') {
        let slot = match word {
            "ftp" => &mut helpers.ftp,
            "tftp" => &mut helpers.tftp,
            _ => return Err(format!("`{word}` is none of ftp, tftp")),
        };
        if std::mem::replace(slot, true) {
            return Err(format!("{word}: given twice"));
        }
    }
    Ok(helpers)
}

/// Helpers as [`helpers`] reads them; `None` where there are none.
#[must_use]
pub fn helpers_text(helpers: Helpers) -> Option<String> {
    let words = [(helpers.ftp, "ftp"), (helpers.tftp, "tftp")];
    let on = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word);
    let on: Vec<&str> = on.collect();
    (!on.is_empty()).then(|| on.join(","))
}

/// Where the NAT's events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatLog {
    /// To the end of a file.
    File(PathBuf),
    /// To the system's log.
    Syslog,
}

impl FromStr for NatLog {
    type Err = Why;
    /// `syslog`, or a path; a file of that name is `./syslog`.
    fn from_str(text: &str) -> Result<Self, Why> {
        match text {
            "syslog" => Ok(Self::Syslog),
            _ => file(text).map(Self::File),
        }
    }
}

impl fmt::Display for NatLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Syslog => f.write_str("syslog"),
        }
    }
}

/// The path of a file that is to be written.
///
/// # Errors
/// Empty, or a directory's.
pub fn file(text: &str) -> Result<PathBuf, Why> {
    if text.is_empty() || text.ends_with('/') {
        return Err("the path of a file is needed".into());
    }
    Ok(PathBuf::from(text))
}

/// `KEY=VALUE` words separated by commas.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, Why> {
    let pair = |word| str::split_once(word, '=');
    let words = text.split(',');
    words
        .map(|word| pair(word).ok_or_else(|| format!("`{word}`: it is written KEY=VALUE")))
        .collect()
}

fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Why> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{key}: given twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_quotas_and_helpers_read_back_as_written() {
        for (text, shown) in [
            ("eif", "eif"),
            ("udp=eif", "udp=eif,tcp=apdf"),
            ("tcp=adf,udp=adf", "adf"),
        ] {
            assert_eq!(text.parse::<NatFilters>().unwrap().to_string(), shown);
        }
        for (text, why) in [
            ("x", "not one of apdf, adf, eif"),
            ("icmp=eif", "`icmp` is none of udp, tcp"),
            ("udp=eif,udp=eif", "udp: given twice"),
            ("udp=eif,tcp", "`tcp`: it is written KEY=VALUE"),
        ] {
            assert_eq!(text.parse::<NatFilters>().unwrap_err(), why, "{text}");
        }
        let quota: NatQuota = "ports=200,rate=none".parse().unwrap();
        let shown = "sessions=1000,ports=200,half-open=4096,rate=none,failed=4000";
        assert_eq!(quota_text(&quota.settle(1000)), shown);
        assert_eq!(
            shown.parse::<NatQuota>().unwrap().settle(7),
            quota.settle(1000)
        );
        for (text, why) in [
            (
                "cats=9",
                "`cats` is none of sessions, ports, half-open, rate, failed",
            ),
            (
                "ports=0",
                "ports: not a whole number from 1 to 1000000000, and not `none`",
            ),
            ("ports=1,ports=2", "ports: given twice"),
        ] {
            assert_eq!(text.parse::<NatQuota>().unwrap_err(), why, "{text}");
        }
        assert_eq!(
            helpers_text(helpers("tftp,ftp").unwrap()).unwrap(),
            "ftp,tftp"
        );
        assert!(helpers("ftp,ftp").is_err() && helpers("sip").is_err() && helpers("").is_err());
    }

    #[test]
    fn a4_4c_pools_and_exempt_networks_read_back_as_written() {
        let text = "192.0.2.5,192.0.2.8-192.0.2.10";
        let pool: NatPool = text.parse().unwrap();
        assert_eq!(pool.to_string(), text);
        assert_eq!(pool.addresses().count(), 4);
        for (text, why) in [
            ("", "`` is no IPv4 address and no range A-B of them"),
            (
                "192.0.2.9-192.0.2.8",
                "`192.0.2.9-192.0.2.8` is no IPv4 address and no range A-B of them",
            ),
            ("127.0.0.1", "`127.0.0.1`: no host has such an address"),
            ("10.0.0.1,10.0.0.1", "`10.0.0.1`: named already"),
            ("10.0.0.1-10.0.1.1", "257 addresses are more than 256"),
        ] {
            assert_eq!(text.parse::<NatPool>().unwrap_err(), why, "{text}");
        }
        let text = "10.0.0.0/8,192.0.2.7/32";
        assert_eq!(text.parse::<Untranslated>().unwrap().to_string(), text);
        for (text, why) in [
            (
                "10.0.0.1/8",
                "`10.0.0.1/8` has bits behind its prefix: write 10.0.0.0/8",
            ),
            (
                "10.0.0.0/33",
                "`10.0.0.0/33` is no network such as 10.0.0.0/8",
            ),
            ("1.1.1.1,1.1.1.1", "`1.1.1.1`: named already"),
        ] {
            assert_eq!(text.parse::<Untranslated>().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn the_log_is_a_file_or_syslog() {
        assert_eq!("syslog".parse(), Ok(NatLog::Syslog));
        assert_eq!("./syslog".parse(), Ok(NatLog::File("./syslog".into())));
        assert!("".parse::<NatLog>().is_err() && "/var/log/".parse::<NatLog>().is_err());
    }
}
