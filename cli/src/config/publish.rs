//! Published ports in words: `[IP:]HPORT[-HPORT]:TARGET[:CPORT][,TARGET…][/PROTO][/source]`.
//!
//! ```text
//! 8080:10.77.0.11:80                    one port, to an address
//! 8000-8010:veth1:9000-9010/udp         a range, to whoever is behind the port veth1
//! 127.0.0.1:8443:veth1:443              for this host only
//! 0:veth1:80                            any free port
//! 80:veth1,veth2:8080/source            two targets; a client keeps the one it got
//! ```

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::settings::PortRange;
use super::words::{self, Why};
use crate::error::CliError;

/// The most publishes of one switch. Each may be a range of its own to the guard's program, which
/// the kernel bounds to 4,096 instructions (`BPF_MAXINSNS`), three a range.
pub const PUBLISHES_MAX: usize = 512;
/// The most targets behind one port.
pub const TARGETS_MAX: usize = 64;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// Its name in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transport {
    type Err = Why;
    fn from_str(text: &str) -> Result<Self, Why> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(format!("`{text}` is none of tcp, udp, sctp, source")),
        }
    }
}

/// Where a published port is: what `unpublish` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedAt {
    /// The address; `None`: every one.
    pub address: Option<Ipv4Addr>,
    /// The ports; 0 to 0 stands for a free one, to be chosen.
    pub ports: PortRange,
    /// The protocol.
    pub transport: Transport,
}

impl PublishedAt {
    /// Whether the port is still to be chosen.
    #[must_use]
    pub const fn is_any_port(&self) -> bool {
        self.ports.low == 0
    }

    /// Whether it is for this host only.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }

    /// Whether the two have a port in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let chosen = !self.is_any_port() && !other.is_any_port();
        let address = match (self.address, other.address) {
            (Some(one), Some(two)) => one == two,
            // One socket listens on every address, so no other can have the port on one of them.
            (None, _) | (_, None) => true,
        };
        chosen
            && address
            && self.transport == other.transport
            && self.ports.low <= other.ports.high
            && other.ports.low <= self.ports.high
    }
}

impl fmt::Display for PublishedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        write!(f, "{address}:{}/{}", ports_text(self.ports), self.transport)
    }
}

impl FromStr for PublishedAt {
    type Err = Why;
    /// `[IP:]HPORT[-HPORT][/PROTO]`.
    fn from_str(text: &str) -> Result<Self, Why> {
        let (text, transport) = match text.split_once('/') {
            Some((text, transport)) => (text, transport.parse()?),
            None => (text, Transport::Tcp),
        };
        let fields: Vec<&str> = text.split(':').collect();
        let (address, ports) = match fields[..] {
            [ports] => (None, ports),
            [address, ports] => (host_address(address)?, ports),
            _ => return Err("not [IP:]HPORT[/PROTO]".into()),
        };
        Ok(Self {
            address,
            ports: host_ports(ports)?,
            transport,
        })
    }
}

/// Who is behind a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetHost {
    /// A station by its address.
    Address(Ipv4Addr),
    /// Whoever is behind the port of that device.
    Port(String),
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Port(device) => f.write_str(device),
        }
    }
}

/// One target of a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishTarget {
    /// Who.
    pub host: TargetHost,
    /// Its port behind the first published one; `None`: the same number.
    pub port: Option<u16>,
}

/// One publish, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSpec {
    /// Where it is.
    pub at: PublishedAt,
    /// Who is behind it; at least one.
    pub targets: Vec<PublishTarget>,
    /// Whether a client keeps one target.
    pub by_source: bool,
}

impl PublishSpec {
    /// The target's port behind the first published one.
    #[must_use]
    pub fn target_port(&self, target: &PublishTarget) -> u16 {
        target.port.unwrap_or(self.at.ports.low)
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.at.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:", ports_text(self.at.ports))?;
        for (index, target) in self.targets.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", target.host)?;
            if let Some(port) = target.port {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.at.transport)?;
        if self.by_source {
            f.write_str("/source")?;
        }
        Ok(())
    }
}

impl FromStr for PublishSpec {
    type Err = Why;
    fn from_str(text: &str) -> Result<Self, Why> {
        let mut parts = text.split('/');
        let body = parts.next().unwrap_or_default();
        let (mut transport, mut by_source) = (None, false);
        for part in parts {
            let twice = match part {
                "source" => std::mem::replace(&mut by_source, true),
                _ => transport.replace(part.parse()?).is_some(),
            };
            if twice {
                return Err(format!("`/{part}`: said already"));
            }
        }
        let (address, rest) = match body.split_once(':') {
            Some((first, rest)) if first.contains('.') => (host_address(first)?, rest),
            Some(_) | None => (None, body),
        };
        let (ports, targets) = rest
            .split_once(':')
            .filter(|(_, targets)| !targets.is_empty())
            .ok_or("the target is missing: HPORT:TARGET[:CPORT]")?;
        let ports = host_ports(ports)?;
        let targets: Vec<PublishTarget> = targets
            .split(',')
            .map(|word| target(word, ports))
            .collect::<Result<_, _>>()?;
        if targets.len() > TARGETS_MAX {
            return Err(format!("more than {TARGETS_MAX} targets"));
        }
        Ok(Self {
            at: PublishedAt {
                address,
                ports,
                transport: transport.unwrap_or_default(),
            },
            targets,
            by_source,
        })
    }
}

/// The host's address; 0.0.0.0 is every one.
fn host_address(text: &str) -> Result<Option<Ipv4Addr>, Why> {
    let address: Ipv4Addr = text
        .parse()
        .map_err(|_| format!("`{text}` is no IPv4 address"))?;
    if address.is_multicast() || address.is_broadcast() {
        return Err(format!("{address} is no host's address"));
    }
    Ok(Some(address).filter(|address| !address.is_unspecified()))
}

/// `8080`, `8000-8010`, or `0` for a free one.
fn host_ports(text: &str) -> Result<PortRange, Why> {
    let wrong = || format!("`{text}` is no port from 1 to 65535, no range of them, and not 0");
    match text.split_once('-') {
        None => {
            let port = port(text).ok_or_else(wrong)?;
            Ok(PortRange {
                low: port,
                high: port,
            })
        }
        Some((low, high)) => match (port(low), port(high)) {
            (Some(low), Some(high)) if low > 0 && low <= high => Ok(PortRange { low, high }),
            _ => Err(wrong()),
        },
    }
}

/// Digits only: `u16`'s own reader takes a sign as well.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `TARGET`, `TARGET:CPORT` or `TARGET:CPORT-CPORT`.
fn target(text: &str, published: PortRange) -> Result<PublishTarget, Why> {
    let (host, ports) = match text.split_once(':') {
        Some(("tap", rest)) => match rest.split_once(':') {
            Some((device, ports)) => (device, Some(ports)),
            None => (rest, None),
        },
        Some((host, ports)) => (host, Some(ports)),
        None => (text, None),
    };
    let host = match host.parse::<Ipv4Addr>() {
        Ok(address) => TargetHost::Address(address),
        Err(_) => words::interface(host)
            .map(TargetHost::Port)
            .map_err(|why| format!("target `{text}`: {why}"))?,
    };
    let Some(ports) = ports else {
        if published.low == 0 {
            return Err(format!(
                "target `{text}`: a free host port needs a target port"
            ));
        }
        return Ok(PublishTarget { host, port: None });
    };
    let range = host_ports(ports).map_err(|_| format!("target `{text}`: no port `{ports}`"))?;
    if range.low == 0 {
        return Err(format!("target `{text}`: port 0 is none"));
    }
    let more = published.high - published.low;
    let ranged = range.high > range.low;
    if ranged && range.high - range.low != more {
        return Err(format!(
            "{} host ports to {} target ports: the ranges must have the same length",
            u32::from(more) + 1,
            u32::from(range.high - range.low) + 1,
        ));
    }
    if range.low.checked_add(more).is_none() {
        return Err(format!("target `{text}`: its ports end beyond 65535"));
    }
    let port = Some(range.low).filter(|port| *port != published.low);
    Ok(PublishTarget { host, port })
}

fn ports_text(ports: PortRange) -> String {
    if ports.low == ports.high {
        ports.low.to_string()
    } else {
        ports.to_string()
    }
}

/// Checks that publishes can be there together, and beside the NAT's own ports where those are
/// taken from an address shared with the host.
///
/// # Errors
/// Too many; two with a port in common; one within the NAT's range.
pub fn check(publishes: &[PublishSpec], shared_nat: Option<PortRange>) -> Result<(), CliError> {
    if publishes.len() > PUBLISHES_MAX {
        let why = format!(
            "{} publishes are more than {PUBLISHES_MAX}",
            publishes.len()
        );
        let fix = "publish a range instead: 8000-8999:veth1";
        return Err(CliError::usage("--publish", why, fix));
    }
    for (index, spec) in publishes.iter().enumerate() {
        let before = publishes[..index].iter();
        alone(spec, before, shared_nat)?;
    }
    Ok(())
}

/// Checks that one publish can be added to others.
///
/// # Errors
/// As [`check`].
pub fn alone<'a>(
    spec: &PublishSpec,
    mut others: impl Iterator<Item = &'a PublishSpec>,
    shared_nat: Option<PortRange>,
) -> Result<(), CliError> {
    let what = format!("--publish {spec}");
    if let Some(other) = others.find(|other| other.at.overlaps(&spec.at)) {
        let why = format!("port is already published by {other}");
        let fix = format!("another host port, or vswitch nat unpublish {}", other.at);
        return Err(CliError::usage(what, why, fix));
    }
    let ports = spec.at.ports;
    if let Some(nat) = shared_nat
        && !spec.at.is_loopback()
        && ports.low <= nat.high
        && nat.low <= ports.high
    {
        let why = format!("within {nat}, the ports that NAT takes of the shared address");
        return Err(CliError::usage(what, why, outside_of(nat)));
    }
    Ok(())
}

/// Both ways out of a clash with the NAT's range.
fn outside_of(nat: PortRange) -> String {
    let half = nat.low + (nat.high - nat.low) / 2 + 1;
    format!(
        "a host port below {}, or move the range: --nat-ports {half}-{}",
        nat.low, nat.high
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_1_what_is_written_is_what_is_meant() {
        for (text, shown) in [
            ("8080:veth1", "8080:veth1/tcp"),
            ("8080:veth1:80", "8080:veth1:80/tcp"),
            ("8080:veth1:8080/tcp", "8080:veth1/tcp"),
            ("0.0.0.0:8080:tap:web0:80", "8080:web0:80/tcp"),
            ("127.0.0.1:53:10.77.0.9/udp", "127.0.0.1:53:10.77.0.9/udp"),
            ("8000-8010:veth1:9000-9010", "8000-8010:veth1:9000/tcp"),
            ("8000-8010:veth1:9000/sctp", "8000-8010:veth1:9000/sctp"),
            ("8000-8010:veth1", "8000-8010:veth1/tcp"),
            ("0:veth1:80", "0:veth1:80/tcp"),
            (
                "80:a:1,10.0.0.1:2,c/source/udp",
                "80:a:1,10.0.0.1:2,c/udp/source",
            ),
        ] {
            let spec: PublishSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), shown);
            assert_eq!(shown.parse::<PublishSpec>().unwrap(), spec, "{shown}");
        }
        let spec: PublishSpec = "8000-8010:veth1:9000".parse().unwrap();
        assert_eq!(spec.target_port(&spec.targets[0]), 9000);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        for (text, why) in [
            ("", "the target is missing: HPORT:TARGET[:CPORT]"),
            ("8080", "the target is missing: HPORT:TARGET[:CPORT]"),
            ("8080:", "the target is missing: HPORT:TARGET[:CPORT]"),
            (
                "1.2.3.4:8080",
                "the target is missing: HPORT:TARGET[:CPORT]",
            ),
            ("1.2.3:80:a", "`1.2.3` is no IPv4 address"),
            ("224.0.0.1:80:a", "224.0.0.1 is no host's address"),
            ("80:a/icmp", "`icmp` is none of tcp, udp, sctp, source"),
            ("80:a/udp/tcp", "`/tcp`: said already"),
            ("80:a:0", "target `a:0`: port 0 is none"),
            ("80:a:x", "target `a:x`: no port `x`"),
            ("0:a", "target `a`: a free host port needs a target port"),
            (
                "80-90:a:1-10",
                "11 host ports to 10 target ports: the ranges must have the same length",
            ),
            (
                "80-90:a:65530",
                "target `a:65530`: its ports end beyond 65535",
            ),
            ("80:a,", "target ``: an interface name is missing"),
        ] {
            assert_eq!(text.parse::<PublishSpec>().unwrap_err(), why, "{text}");
        }
        for ports in ["65536", "-1", "+1", "90-80", "0-5", "1-", "a"] {
            let why = format!("`{ports}` is no port from 1 to 65535, no range of them, and not 0");
            assert_eq!(host_ports(ports).unwrap_err(), why);
        }
    }

    #[test]
    fn what_is_published_is_named_without_its_target() {
        for (text, shown) in [
            ("8080", "0.0.0.0:8080/tcp"),
            ("127.0.0.1:53/udp", "127.0.0.1:53/udp"),
            ("0.0.0.0:80-90/sctp", "0.0.0.0:80-90/sctp"),
        ] {
            assert_eq!(text.parse::<PublishedAt>().unwrap().to_string(), shown);
        }
        for bad in ["a:1:2", "80/icmp", "1.2.3.4", "::1:80"] {
            assert!(bad.parse::<PublishedAt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a6_4_overlaps_are_found_between_any_two() {
        let at = |text: &str| text.parse::<PublishSpec>().unwrap();
        for (one, two, overlap) in [
            ("80:a", "80:b", true),
            ("80:a", "80:b/udp", false),
            ("80-90:a", "90-99:b", true),
            ("80-89:a", "90-99:b", false),
            ("127.0.0.1:80:a", "80:b", true),
            ("127.0.0.1:80:a", "127.0.0.2:80:b", false),
            ("0:a:80", "0:b:80", false),
        ] {
            let list = [at(one), at(two)];
            assert_eq!(check(&list, None).is_err(), overlap, "{one} {two}");
        }
        let nat = Some(PortRange {
            low: 61_000,
            high: 65_535,
        });
        assert!(check(&[at("60999:a")], nat).is_ok());
        assert!(check(&[at("127.0.0.1:61000:a")], nat).is_ok());
        let error = check(&[at("60000-61000:a")], nat).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error: --publish 60000-61000:a/tcp: within 61000-65535, the ports that NAT takes of \
             the shared address; fix: a host port below 61000, or move the range: \
             --nat-ports 63268-65535"
        );
    }
}
