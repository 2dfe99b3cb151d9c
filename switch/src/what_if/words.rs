//! From words to a packet.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use nat::wire::TcpFlags;

use super::{Chunk, Kind, Packet, TcpOptions};
use crate::filter::FilterError;
use crate::mac::Mac;

/// What is asked about begins like this.
const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp", "sctp", "arp"];
/// What may stand behind the addresses.
const OF_TCP: &[&str] = &[
    "syn", "ack", "fin", "rst", "psh", "urg", "mss", "wscale", "sackOK", "ttl", "len", "df",
    "frag", "more", "vlan", "from", "to",
];
const OF_UDP: &[&str] = &["ttl", "len", "df", "frag", "more", "vlan", "from", "to"];
const OF_ICMP: &[&str] = &[
    "reply", "id", "seq", "ttl", "len", "df", "frag", "more", "vlan", "from", "to",
];
const OF_SCTP: &[&str] = &[
    "init",
    "init-ack",
    "cookie-echo",
    "cookie-ack",
    "data",
    "heartbeat",
    "abort",
    "shutdown",
    "shutdown-ack",
    "shutdown-complete",
    "tag",
    "ttl",
    "len",
    "df",
    "frag",
    "more",
    "vlan",
    "from",
    "to",
];
const OF_ARP: &[&str] = &["reply", "vlan", "from", "to"];

const FLAGS: [(&str, TcpFlags); 6] = [
    ("syn", TcpFlags::SYN),
    ("ack", TcpFlags::ACK),
    ("fin", TcpFlags::FIN),
    ("rst", TcpFlags::RST),
    ("psh", TcpFlags::PSH),
    ("urg", TcpFlags::URG),
];

/// A client's port, where none is said: the first that Linux takes is 32768.
const SOURCE_PORT: u16 = 40_000;
const TTL: u8 = 64;
/// The last number is reserved (IEEE 802.1Q table 9-2).
const VLAN_MAX: u16 = 4094;
/// RFC 7323 section 2.3.
const WINDOW_SCALE_MAX: u8 = 14;
const ARROW: char = '>';

/// What is read so far.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    protocol: &'t str,
    ends: Option<(End, End)>,
    packet: Packet,
}

/// An address with the port that was said, and where it stands.
#[derive(Clone)]
struct End {
    address: Ipv4Addr,
    port: Option<u16>,
    place: Range<usize>,
}

pub(super) fn parse(text: &str) -> Result<Packet, FilterError> {
    let mut reader = Reader::new(text);
    reader.protocol()?;
    while let Some(place) = reader.next() {
        reader.word(place)?;
    }
    reader.finish()
}

impl<'t> Reader<'t> {
    const fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            protocol: "",
            ends: None,
            packet: Packet {
                kind: Kind::Arp { reply: false },
                source: Ipv4Addr::UNSPECIFIED,
                destination: Ipv4Addr::UNSPECIFIED,
                ttl: TTL,
                len: None,
                dont_fragment: false,
                fragment: None,
                vlan: None,
                from: None,
                to: None,
            },
        }
    }

    /// Where the next word is; the arrow is one by itself.
    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..)?;
        let start = self.at + rest.find(|c: char| !c.is_whitespace())?;
        let word = self.text.get(start..)?;
        let len = if word.starts_with(ARROW) {
            ARROW.len_utf8()
        } else {
            let is_end = |c: char| c.is_whitespace() || c == ARROW;
            word.find(is_end).unwrap_or(word.len())
        };
        self.at = start + len;
        Some(start..self.at)
    }

    fn at(&self, place: &Range<usize>) -> &'t str {
        self.text.get(place.clone()).unwrap_or_default()
    }

    fn error(
        &self,
        place: Range<usize>,
        why: impl Into<String>,
        expected: &[&'static str],
    ) -> FilterError {
        let error = FilterError::new(self.text, place, why, &[]);
        // All of them: a packet has fewer words than a filter.
        let expected = expected.to_vec();
        FilterError { expected, ..error }
    }

    /// The next word, or why the text may not end here.
    fn need(&mut self, why: &str, expected: &[&'static str]) -> Result<Range<usize>, FilterError> {
        let end = self.text.len()..self.text.len();
        match self.next() {
            Some(place) => Ok(place),
            None => Err(self.error(end, why, expected)),
        }
    }

    fn protocol(&mut self) -> Result<(), FilterError> {
        let place = self.need("a packet begins with its protocol", PROTOCOLS)?;
        let word = self.at(&place);
        self.packet.kind = match word {
            "tcp" => Kind::Tcp {
                ports: (0, 0),
                flags: TcpFlags(0),
                options: TcpOptions::default(),
            },
            "sctp" => Kind::Sctp {
                ports: (0, 0),
                chunk: Chunk::Init,
                tag: None,
            },
            "udp" => Kind::Udp { ports: (0, 0) },
            "icmp" => Kind::Icmp {
                reply: false,
                id: 1,
                sequence: 1,
            },
            "arp" => Kind::Arp { reply: false },
            _ => {
                let why = format!("`{word}` is no protocol that a packet can be asked about by");
                return Err(self.error(place, why, PROTOCOLS));
            }
        };
        self.protocol = word;
        Ok(())
    }

    const fn options(&self) -> &'static [&'static str] {
        match self.packet.kind {
            Kind::Tcp { .. } => OF_TCP,
            Kind::Udp { .. } => OF_UDP,
            Kind::Icmp { .. } => OF_ICMP,
            Kind::Sctp { .. } => OF_SCTP,
            Kind::Arp { .. } => OF_ARP,
        }
    }

    fn word(&mut self, place: Range<usize>) -> Result<(), FilterError> {
        let word = self.at(&place);
        let is_ip = !matches!(self.packet.kind, Kind::Arp { .. });
        match (word, &mut self.packet.kind) {
            ("reply", Kind::Icmp { reply, .. } | Kind::Arp { reply }) => *reply = true,
            ("id" | "seq", Kind::Icmp { .. })
            | ("mss" | "wscale", Kind::Tcp { .. })
            | ("tag", Kind::Sctp { .. }) => self.number_of_kind(word)?,
            ("sackOK", Kind::Tcp { options, .. }) => options.sack = true,
            ("vlan", _) => self.packet.vlan = Some(self.number("vlan", 0..=VLAN_MAX)?),
            ("from", _) => self.packet.from = Some(self.mac("from")?),
            ("to", _) => self.packet.to = Some(self.mac("to")?),
            ("ttl", _) if is_ip => self.packet.ttl = self.number("ttl", 0..=u8::MAX)?,
            ("len", _) if is_ip => self.packet.len = Some(self.number("len", 1..=u16::MAX)?),
            ("df", _) if is_ip => self.packet.dont_fragment = true,
            ("frag", _) if is_ip => {
                let offset = self.offset()?;
                let more = self.packet.fragment.is_some_and(|(_, more)| more);
                self.packet.fragment = Some((offset, more));
            }
            ("more", _) if is_ip => {
                let offset = self.packet.fragment.map_or(0, |(offset, _)| offset);
                self.packet.fragment = Some((offset, true));
            }
            (flag, Kind::Tcp { flags, .. }) if FLAGS.iter().any(|(name, _)| *name == flag) => {
                let said = FLAGS.iter().find(|(name, _)| *name == flag);
                *flags = said.map_or(*flags, |(_, said)| flags.union(*said));
            }
            (name, Kind::Sctp { chunk, .. }) if Chunk::ALL.iter().any(|(it, _)| *it == name) => {
                let said = Chunk::ALL.iter().find(|(it, _)| *it == name);
                *chunk = said.map_or(*chunk, |(_, said)| *said);
            }
            _ if self.ends.is_none() => self.ends = Some(self.ends(place)?),
            _ => {
                let why = format!("`{word}` is nothing that a packet of {} has", self.protocol);
                return Err(self.error(place, why, self.options()));
            }
        }
        Ok(())
    }

    /// The number behind a word that only packets of this kind have.
    fn number_of_kind(&mut self, word: &str) -> Result<(), FilterError> {
        let mut kind = self.packet.kind;
        match &mut kind {
            Kind::Icmp { id, .. } if word == "id" => *id = self.number(word, 0..=u16::MAX)?,
            Kind::Icmp { sequence, .. } => *sequence = self.number(word, 0..=u16::MAX)?,
            Kind::Tcp { options, .. } if word == "mss" => {
                options.mss = Some(self.number(word, 0..=u16::MAX)?);
            }
            Kind::Tcp { options, .. } => {
                options.window_scale = Some(self.number(word, 0..=WINDOW_SCALE_MAX)?);
            }
            Kind::Sctp { tag, .. } => *tag = Some(self.number(word, 0..=u32::MAX)?),
            Kind::Udp { .. } | Kind::Arp { .. } => {}
        }
        self.packet.kind = kind;
        Ok(())
    }

    /// Who speaks to whom; `place` is the first address.
    fn ends(&mut self, place: Range<usize>) -> Result<(End, End), FilterError> {
        let source = self.end(place)?;
        let arrow = self.need("from one address to another", &[">"])?;
        if self.at(&arrow) != ">" {
            let found = self.at(&arrow);
            let why = format!("`{found}` stands where an arrow should");
            return Err(self.error(arrow, why, &[">"]));
        }
        let to = self.need("an address is missing, that the packet goes to", &[])?;
        Ok((source, self.end(to)?))
    }

    fn end(&self, place: Range<usize>) -> Result<End, FilterError> {
        let word = self.at(&place);
        let (address, port) = match word.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (word, None),
        };
        let Ok(address) = Ipv4Addr::from_str(address) else {
            let why = format!("`{address}` is no IPv4 address");
            let expected: &[&str] = if self.protocol.is_empty() {
                PROTOCOLS
            } else {
                &[]
            };
            return Err(self.error(place, why, expected));
        };
        let has_ports = matches!(
            self.packet.kind,
            Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Sctp { .. }
        );
        let port = match port {
            None => None,
            Some(_) if !has_ports => {
                let why = format!("a packet of {} has no ports", self.protocol);
                return Err(self.error(place, why, &[]));
            }
            Some(port) => match port.parse() {
                Ok(port) => Some(port),
                Err(_) => {
                    let why = format!("`{port}` is no port: 0 to 65535");
                    return Err(self.error(place, why, &[]));
                }
            },
        };
        Ok(End {
            address,
            port,
            place,
        })
    }

    /// The number behind `word`, one of these.
    fn number<N: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        word: &str,
        numbers: RangeInclusive<N>,
    ) -> Result<N, FilterError> {
        let place = self.need(&format!("a number is missing behind `{word}`"), &[])?;
        let found = self.at(&place);
        let number = found.parse().ok().filter(|number| numbers.contains(number));
        number.ok_or_else(|| {
            let most = numbers.end();
            let why = format!("`{found}` is no number for `{word}`: up to {most}");
            self.error(place, why, &[])
        })
    }

    fn offset(&mut self) -> Result<u16, FilterError> {
        let before = self.at;
        let offset: u16 = self.number("frag", 0..=u16::MAX)?;
        if offset.is_multiple_of(8) {
            return Ok(offset);
        }
        let why = "a fragment begins at a multiple of 8 bytes (RFC 791 section 3.2)";
        self.at = before;
        let place = self.need(why, &[])?;
        Err(self.error(place, why, &[]))
    }

    fn mac(&mut self, word: &str) -> Result<Mac, FilterError> {
        let why = format!("an Ethernet address is missing behind `{word}`");
        let place = self.need(&why, &[])?;
        let found = self.at(&place);
        found.parse().map_err(|_| {
            let why = format!("`{found}` is no Ethernet address like 02:00:00:00:00:01");
            self.error(place, why, &[])
        })
    }

    /// Fills in what was left out.
    fn finish(mut self) -> Result<Packet, FilterError> {
        let Some((source, destination)) = self.ends.take() else {
            let end = self.text.len()..self.text.len();
            let why = "a packet goes from one address to another: 10.77.0.11 > 1.1.1.1";
            return Err(self.error(end, why, &[]));
        };
        (self.packet.source, self.packet.destination) = (source.address, destination.address);
        let mut kind = self.packet.kind;
        if let Kind::Tcp { ports, .. } | Kind::Udp { ports } | Kind::Sctp { ports, .. } = &mut kind
        {
            let Some(port) = destination.port else {
                let why = format!("{} needs a port of the destination", self.protocol);
                return Err(self.error(destination.place, why, &[]));
            };
            *ports = (source.port.unwrap_or(SOURCE_PORT), port);
        }
        if let Kind::Tcp { flags, .. } = &mut kind
            && *flags == TcpFlags(0)
        {
            *flags = TcpFlags::SYN;
        }
        self.packet.kind = kind;
        self.check_len()?;
        Ok(self.packet)
    }

    fn check_len(&self) -> Result<(), FilterError> {
        let (least, end) = (self.packet.len_min(), self.text.len()..self.text.len());
        let len = self.packet.len.unwrap_or(least);
        let offset = self.packet.fragment.map_or(0, |(offset, _)| offset);
        if len < least {
            let why = format!("the headers alone take {least} bytes, which is more than {len}");
            return Err(self.error(end, why, &[]));
        }
        let is_whole = matches!(self.packet.kind, Kind::Sctp { .. }) && offset == 0;
        if is_whole && !len.is_multiple_of(4) {
            let why = "an SCTP packet has a multiple of 4 bytes (RFC 9260 section 3.2)";
            return Err(self.error(end, why, &[]));
        }
        // RFC 791 section 3.1: a datagram has 65,535 bytes at most, wherever it is cut.
        if u32::from(len) + u32::from(offset) > u32::from(u16::MAX) {
            let why = "no datagram is longer than 65535 bytes";
            return Err(self.error(end, why, &[]));
        }
        Ok(())
    }
}
