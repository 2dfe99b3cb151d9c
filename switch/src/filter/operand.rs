//! Addresses, ports, protocols and names, and what they mean behind which words.

use std::net::{Ipv4Addr, Ipv6Addr};

use nat::wire::protocol;

use super::code::{Block, Prefix6, Set, Side, Test};
use super::eval::{IPV6, RARP};
use super::lex::Token;
use super::parse::{Context, Parsed, Parser};
use super::words;
use crate::ethernet;
use crate::mac::Mac;
use crate::verdict::DropReason;

/// A protocol that is a word of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Link,
    Ipv4,
    Ipv6,
    Arp,
    Rarp,
    Icmp,
    Igmp,
    Tcp,
    Udp,
    Sctp,
    Icmp6,
    Ah,
    Esp,
    Pim,
    Vrrp,
}

impl Protocol {
    pub(super) fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "ether" => Self::Link,
            "ip" => Self::Ipv4,
            "ip6" => Self::Ipv6,
            "arp" => Self::Arp,
            "rarp" => Self::Rarp,
            "icmp" => Self::Icmp,
            "igmp" => Self::Igmp,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            "icmp6" => Self::Icmp6,
            "ah" => Self::Ah,
            "esp" => Self::Esp,
            "pim" => Self::Pim,
            "vrrp" => Self::Vrrp,
            _ => return None,
        })
    }

    /// The question whether a frame has it; none for Ethernet, which every frame has.
    pub(super) fn test(self, at: u16) -> Option<Test> {
        let either = Set::IPV4.or(Set::IPV6);
        let ethertype = |value| Some(Test::EtherType { at, value });
        let above = |over, protocol| Some(Test::Transport { at, over, protocol });
        match self {
            Self::Link => None,
            Self::Ipv4 => ethertype(ethernet::IPV4),
            Self::Ipv6 => ethertype(IPV6),
            Self::Arp => ethertype(ethernet::ARP),
            Self::Rarp => ethertype(RARP),
            Self::Icmp => above(Set::IPV4, protocol::ICMP),
            Self::Igmp => above(Set::IPV4, 2),
            Self::Vrrp => above(Set::IPV4, 112),
            Self::Icmp6 => above(Set::IPV6, 58),
            Self::Tcp => above(either, protocol::TCP),
            Self::Udp => above(either, protocol::UDP),
            Self::Sctp => above(either, protocol::SCTP),
            Self::Ah => above(either, 51),
            Self::Esp => above(either, 50),
            Self::Pim => above(either, 103),
        }
    }

    /// The set of it alone, where addresses or ports may be asked of it.
    fn set(self) -> Set {
        match self {
            Self::Ipv4 => Set::IPV4,
            Self::Ipv6 => Set::IPV6,
            Self::Arp => Set::ARP,
            Self::Rarp => Set::RARP,
            Self::Tcp => Set::TCP,
            Self::Udp => Set::UDP,
            Self::Sctp => Set::SCTP,
            Self::Link
            | Self::Icmp
            | Self::Igmp
            | Self::Icmp6
            | Self::Ah
            | Self::Esp
            | Self::Pim
            | Self::Vrrp => Set(0),
        }
    }
}

/// What kind of thing an operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Protocol,
}

impl Kind {
    /// In the order of their words in the grammar.
    pub(super) const ALL: [Self; 5] = [
        Self::Host,
        Self::Net,
        Self::Port,
        Self::PortRange,
        Self::Protocol,
    ];
}

/// The words before an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Qualifier {
    pub(super) protocol: Option<Protocol>,
    pub(super) side: Side,
    pub(super) kind: Kind,
}

const ADDRESSED: Set = Set::IPV4.or(Set::ARP).or(Set::RARP);
const PORTED: Set = Set::TCP.or(Set::UDP).or(Set::SCTP);
const ADDRESS_FORMS: [&str; 2] = ["10.9.0.2", "2001:db8::2"];

impl Qualifier {
    /// Whether the protocol has what is asked for.
    pub(super) fn fits(self) -> bool {
        let Some(protocol) = self.protocol else {
            return true;
        };
        match self.kind {
            Kind::Host if protocol == Protocol::Link => true,
            Kind::Host | Kind::Net => protocol.set().has(ADDRESSED.or(Set::IPV6)),
            Kind::Port | Kind::PortRange => protocol.set().has(PORTED),
            Kind::Protocol => matches!(protocol, Protocol::Link | Protocol::Ipv4 | Protocol::Ipv6),
        }
    }

    /// Why it does not, and what would.
    pub(super) fn misfit(self) -> (&'static str, &'static [&'static str]) {
        match self.kind {
            Kind::Host => (
                "that protocol has no addresses",
                &["ip host", "ip6 host", "arp host", "ether host"],
            ),
            Kind::Net => (
                "that protocol has no subnets",
                &["ip net", "ip6 net", "arp net"],
            ),
            Kind::Port | Kind::PortRange => (
                "that protocol has no ports",
                &["port", "tcp port", "udp port", "sctp port"],
            ),
            Kind::Protocol => (
                "that protocol carries no other by number",
                &["proto", "ip proto", "ip6 proto", "ether proto"],
            ),
        }
    }

    /// Which of `all` are asked for.
    fn of(self, all: Set) -> Set {
        self.protocol.map_or(all, Protocol::set)
    }
}

impl Parser<'_> {
    /// `{ "not" } ( "(" operand { ("and" | "or") operand } ")" | atom )`
    pub(super) fn operand(&mut self, context: Context) -> Parsed<Block> {
        let negated = self.take_nots()?;
        let block = if self.current.is_sign("(") {
            self.open()?;
            self.advance()?;
            let mut block = self.operand(context)?;
            while let Some(and) = self.take_junction()? {
                let next = self.operand(context)?;
                block = self.join(and, block, next);
            }
            self.close(")")?;
            block
        } else {
            self.atom(context)?
        };
        Ok(if negated { block.not() } else { block })
    }

    fn atom(&mut self, context: Context) -> Parsed<Block> {
        let test = match context {
            Context::On => self.port_name()?,
            Context::Reason => self.reason()?,
            Context::Worker => {
                let number = self.number(u32::from(u16::MAX), "a worker's number belongs here")?;
                Test::Worker(u16::try_from(number).unwrap_or(u16::MAX))
            }
            Context::Network(qualifier) => match qualifier.kind {
                Kind::Host => self.host(qualifier)?,
                Kind::Net => self.net(qualifier)?,
                Kind::Port => self.port(qualifier)?,
                Kind::PortRange => self.port_range(qualifier)?,
                Kind::Protocol => return self.protocol_number(qualifier),
            },
            Context::Nothing => return Err(self.unexpected("nothing to compare it with", &[])),
        };
        self.test(test)
    }

    fn port_name(&mut self) -> Parsed<Test> {
        self.lexer.seek(self.current.start);
        self.current = self.lexer.name();
        let Token::Word(name) = self.current.token else {
            return Err(self.unexpected("a port's name belongs here", &["veth1", "tap:web0"]));
        };
        let test = Test::On(name.into());
        self.advance()?;
        Ok(test)
    }

    fn reason(&mut self) -> Parsed<Test> {
        let place = self.current;
        let (Token::Word(word) | Token::Escaped(word)) = place.token else {
            return Err(self.unexpected("a drop's reason belongs here", &["NO_ROUTE", "RING_FULL"]));
        };
        let word = word.to_ascii_uppercase();
        let Some(reason) = DropReason::from_word(&word) else {
            let why = format!("no drop has the reason {word}");
            return Err(self.fail(place, why, &similar_reasons(&word)));
        };
        self.advance()?;
        Ok(Test::Reason(reason.word()))
    }

    fn host(&mut self, qualifier: Qualifier) -> Parsed<Test> {
        let place = self.current;
        let test = match place.token {
            Token::Mac(mac) => return self.mac(qualifier, mac),
            _ if qualifier.protocol == Some(Protocol::Link) => {
                let forms = ["02:00:00:00:00:01"];
                return Err(self.unexpected("an Ethernet address belongs here", &forms));
            }
            Token::Dotted(text) => {
                let Ok(address) = text.parse::<Ipv4Addr>() else {
                    let why = format!("`{text}` is no whole IPv4 address; a part of one is a net");
                    return Err(self.fail(place, why, &["10.9.0.2", "net 10.9"]));
                };
                self.ipv4(qualifier, address.to_bits(), u32::MAX)?
            }
            Token::Ipv6(address) => self.ipv6(qualifier, address, 128)?,
            Token::Word(_) | Token::Escaped(_) => {
                let why = "an address belongs here (names are not looked up)";
                return Err(self.unexpected(why, &ADDRESS_FORMS));
            }
            Token::Number(_) | Token::Sign(_) | Token::End => {
                return Err(self.unexpected("an address belongs here", &ADDRESS_FORMS));
            }
        };
        self.advance()?;
        if self.current.is_sign("/") || self.current.is_word("mask") {
            return Err(self.unexpected("a prefix makes it a net", &["net A/N"]));
        }
        Ok(test)
    }

    fn mac(&mut self, qualifier: Qualifier, mac: Mac) -> Parsed<Test> {
        if qualifier.protocol != Some(Protocol::Link) {
            let why = "an Ethernet address needs `ether` before the direction";
            return Err(self.unexpected(why, &["ether host", "ether src", "ether dst"]));
        }
        self.advance()?;
        let side = qualifier.side;
        Ok(Test::Mac { side, mac })
    }

    fn ipv4(&self, qualifier: Qualifier, net: u32, mask: u32) -> Parsed<Test> {
        let of = qualifier.of(ADDRESSED);
        if !of.has(ADDRESSED) {
            let why = "IPv6 has other addresses";
            return Err(self.fail(self.current, why, &ADDRESS_FORMS[1..]));
        }
        Ok(Test::Ipv4 {
            at: self.at,
            of,
            side: qualifier.side,
            net,
            mask,
        })
    }

    fn ipv6(&self, qualifier: Qualifier, address: Ipv6Addr, bits: u32) -> Parsed<Test> {
        if !qualifier.of(Set::IPV6).has(Set::IPV6) {
            let why = "that protocol has IPv4 addresses";
            return Err(self.fail(self.current, why, &ADDRESS_FORMS[..1]));
        }
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        if address.to_bits() & !mask != 0 {
            let why = format!("bits of {address} are set beyond the prefix of {bits}");
            return Err(self.fail(self.current, why, &[]));
        }
        let prefix = Prefix6 {
            words: words_of(address.to_bits()),
            mask: words_of(mask),
        };
        Ok(Test::Ipv6 {
            at: self.at,
            side: qualifier.side,
            prefix: Box::new(prefix),
        })
    }

    fn net(&mut self, qualifier: Qualifier) -> Parsed<Test> {
        let place = self.current;
        if let Token::Ipv6(address) = place.token {
            self.advance()?;
            let bits = if self.take_sign("/")? {
                self.number(128, "a prefix of 0 to 128 bits belongs here")?
            } else {
                128
            };
            return self.ipv6(qualifier, address, bits);
        }
        let (net, own_mask) = self.part_of_address()?;
        let mask = if self.take_sign("/")? {
            let bits = self.number(32, "a prefix of 0 to 32 bits belongs here")?;
            u32::MAX.checked_shl(32 - bits).unwrap_or(0)
        } else if self.take_word("mask")? {
            let (mask, _) = self.part_of_address()?;
            mask
        } else {
            own_mask
        };
        if net & !mask != 0 {
            let net = Ipv4Addr::from_bits(net);
            let why = format!("bits of {net} are set that the mask does not have");
            return Err(self.fail(place, why, &[]));
        }
        self.ipv4(qualifier, net, mask)
    }

    /// One to four numbers with dots: the first bytes of an address, and a mask of as many.
    fn part_of_address(&mut self) -> Parsed<(u32, u32)> {
        let text = &self.lexer.text[self.current.place()];
        let why = "a subnet belongs here";
        let forms = ["10.9", "10.9.0.0/16", "2001:db8::/32"];
        if !matches!(self.current.token, Token::Number(_) | Token::Dotted(_)) {
            return Err(self.unexpected(why, &forms));
        }
        let mut bytes = [0; 4];
        let mut count = 0;
        for part in text.split('.') {
            let (Some(byte), Ok(value)) = (bytes.get_mut(count), part.parse()) else {
                return Err(self.unexpected(why, &forms));
            };
            *byte = value;
            count += 1;
        }
        if count == 1 && bytes[0] == 0 {
            return Err(self.unexpected("libpcap takes 0 for 0.0.0.0", &["net 0.0.0.0/0"]));
        }
        self.advance()?;
        let mask = [0, 0xff00_0000, 0xffff_0000, 0xffff_ff00, u32::MAX][count];
        Ok((u32::from_be_bytes(bytes), mask))
    }

    fn port(&mut self, qualifier: Qualifier) -> Parsed<Test> {
        let place = self.current;
        let mut of = qualifier.of(PORTED);
        let port = match place.token {
            Token::Number(number) => u16::try_from(number).ok(),
            Token::Word(word) | Token::Escaped(word) => {
                let Some(service) = words::service(word) else {
                    let why = format!("no service `{word}` is known; a port is 0 to 65535");
                    return Err(self.fail(place, why, &["port N", "portrange A-B"]));
                };
                if !(service.tcp && service.udp) {
                    let only = if service.tcp { Set::TCP } else { Set::UDP };
                    if !of.has(only) {
                        let protocol = if service.tcp { "tcp" } else { "udp" };
                        let why = format!("`{word}` is a port of {protocol}");
                        return Err(self.fail(place, why, &[protocol]));
                    }
                    of = only;
                }
                Some(service.port)
            }
            Token::Dotted(_) | Token::Mac(_) | Token::Ipv6(_) | Token::Sign(_) | Token::End => None,
        };
        let Some(port) = port else {
            return Err(self.unexpected("a port of 0 to 65535 belongs here", &["80", "http"]));
        };
        self.advance()?;
        Ok(Test::Ports {
            at: self.at,
            of,
            side: qualifier.side,
            low: port,
            high: port,
        })
    }

    fn port_range(&mut self, qualifier: Qualifier) -> Parsed<Test> {
        let text = &self.lexer.text[self.current.place()];
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text| words::number(text).and_then(|number| u16::try_from(number).ok());
        let (Some(first), Some(last)) = (port(first), port(last)) else {
            let why = "a range of ports belongs here, without blanks";
            return Err(self.unexpected(why, &["1024-65535"]));
        };
        self.advance()?;
        Ok(Test::Ports {
            at: self.at,
            of: qualifier.of(PORTED),
            side: qualifier.side,
            low: first.min(last),
            high: first.max(last),
        })
    }

    fn protocol_number(&mut self, qualifier: Qualifier) -> Parsed<Block> {
        if qualifier.protocol == Some(Protocol::Link) {
            let test = self.ethertype()?;
            return self.test(test);
        }
        let why = "a protocol of 0 to 255 belongs here";
        let forms = ["6", "tcp", "udp", "icmp", "gre"];
        let number = match self.current.token {
            Token::Number(number) => u8::try_from(number).ok(),
            Token::Word(word) | Token::Escaped(word) => words::protocol(word),
            Token::Dotted(_) | Token::Mac(_) | Token::Ipv6(_) | Token::Sign(_) | Token::End => None,
        };
        let Some(protocol) = number else {
            return Err(self.unexpected(why, &forms));
        };
        self.advance()?;
        let over = qualifier.of(Set::IPV4.or(Set::IPV6));
        let at = self.at;
        self.test(Test::Transport { at, over, protocol })
    }

    /// An EtherType, or for the 802.3 frames of up to 1500 bytes an LLC service access point.
    fn ethertype(&mut self) -> Parsed<Test> {
        let at = self.at;
        let number = match self.current.token {
            Token::Number(number) => u16::try_from(number).ok(),
            Token::Word(word) | Token::Escaped(word) => {
                match Protocol::of_word(&word.to_ascii_lowercase()).and_then(|p| p.test(at)) {
                    Some(Test::EtherType { value, .. }) => Some(value),
                    _ => None,
                }
            }
            Token::Dotted(_) | Token::Mac(_) | Token::Ipv6(_) | Token::Sign(_) | Token::End => None,
        };
        let test = match number {
            // IPX and AppleTalk come in several framings, of which a number tells but one.
            Some(0xe0 | 0x809b | 0x80f3) | None => None,
            Some(sap) if sap < 0x100 => u8::try_from(sap).ok().map(|sap| Test::Llc {
                at,
                sap,
                pair: matches!(sap, 0x06 | 0xf0 | 0xfe),
            }),
            Some(value) if value >= 0x600 => Some(Test::EtherType { at, value }),
            Some(_) => None,
        };
        let Some(test) = test else {
            let why = "an EtherType of 0x600 to 0xffff belongs here, or an LLC SAP up to 0xff";
            return Err(self.unexpected(why, &["ip", "ip6", "arp", "rarp", "0x88cc"]));
        };
        self.advance()?;
        Ok(test)
    }
}

fn words_of(bits: u128) -> [u32; 4] {
    let bytes = bits.to_be_bytes();
    let (words, _) = bytes.as_chunks();
    [words[0], words[1], words[2], words[3]].map(u32::from_be_bytes)
}

/// A few reasons that share the beginning of a part of the word; the most alike first.
fn similar_reasons(word: &str) -> Vec<&'static str> {
    let parts = || word.split('_').filter(|part| part.len() > 2);
    let similar = |reason: &&str| {
        let mut own = reason.split('_');
        own.any(|own| parts().any(|part| own.get(..3) == part.get(..3)))
    };
    let alike = |reason: &&str| {
        let pairs = reason.bytes().zip(word.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let reasons = DropReason::ALL.iter().map(|reason| reason.word());
    let mut reasons: Vec<_> = reasons.filter(similar).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(alike(reason)));
    reasons.truncate(3);
    reasons
}
