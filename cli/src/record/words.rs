//! What is noted of each packet, as words.

use switch::frame::{Csum, Gso, Offload};
use switch::port::PortIndex;
use switch::trace::{SnapRef, Words};
use switch::verdict::Verdict;

use super::digest::of_frame;

const VERDICT: &str = "verdict ";
const TURN: &str = "turn ";
const PLACE: &str = "port ";
const OFFLOAD: &str = "offload ";

/// What the comments of a packet note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The worker's turn it came in; 0 where that is not noted.
    pub turn: u64,
    /// What became of it first, as [`fate_words`] has it.
    pub fate: Option<String>,
    /// What its sender left undone.
    pub offload: Offload,
}

impl Noted {
    /// Reads a packet's comments; `None` where an offload is not to be understood.
    pub fn read<'c>(comments: impl Iterator<Item = std::borrow::Cow<'c, str>>) -> Option<Self> {
        let mut noted = Self {
            turn: 0,
            fate: None,
            offload: Offload::PLAIN,
        };
        for comment in comments {
            if let Some(fate) = comment.strip_prefix(VERDICT) {
                noted.fate = Some(fate.into());
            } else if let Some(turn) = comment.strip_prefix(TURN) {
                noted.turn = turn.parse().ok()?;
            } else if let Some(words) = comment.strip_prefix(OFFLOAD) {
                noted.offload = read_offload(words)?;
            }
        }
        Some(noted)
    }
}

/// The comment of a turn.
#[must_use]
pub fn turn_words(turn: u64) -> String {
    format!("{TURN}{turn}")
}

/// The comment of what became of a packet.
#[must_use]
pub fn comment_words(fate: &str) -> String {
    format!("{VERDICT}{fate}")
}

/// The description of a port's interface: names come and go, and one may be another port's later.
#[must_use]
pub fn place_words(port: PortIndex) -> String {
    format!("{PLACE}{}", port.0)
}

/// The port of an interface, by its description.
#[must_use]
pub fn place_of(description: &str) -> Option<PortIndex> {
    let index = description.strip_prefix(PLACE)?.parse().ok()?;
    Some(PortIndex(index))
}

/// What became of a packet first: its verdict, with the index of a port behind its name, and if it
/// left changed, as what: `drop NO_ROUTE`, `route eth0#2 as 1f0c55e09d3a7b42`.
#[must_use]
pub fn fate_words(verdict: Verdict, after: Option<SnapRef<'_>>, words: &impl Words) -> String {
    let verdict = verdict_words(verdict, words);
    match after {
        None => verdict,
        Some(after) => format!("{verdict} as {:016x}", of_frame(after)),
    }
}

/// True where two fates are the same, whatever their ports were called.
#[must_use]
pub fn same_fate(one: &str, other: &str) -> bool {
    parts(one).eq(parts(other))
}

/// Each word, of ports the index only.
fn parts(fate: &str) -> impl Iterator<Item = &str> {
    // A name may have blanks where a port is gone; what is before the last sign is all name.
    let (head, tail) = fate.split_once(' ').unwrap_or((fate, ""));
    let tail = tail.rsplit_once('#').map_or(tail, |(_, tail)| tail);
    [head, tail].into_iter()
}

/// For people: without the indexes.
#[must_use]
pub fn plain_fate(fate: &str) -> String {
    let Some((front, behind)) = fate.rsplit_once('#') else {
        return fate.into();
    };
    let rest = behind.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{front}{rest}")
}

fn verdict_words(verdict: Verdict, words: &impl Words) -> String {
    match verdict {
        Verdict::Forward(port) => format!("forward {}#{}", words.port(port), port.0),
        Verdict::Route(port) => format!("route {}#{}", words.port(port), port.0),
        Verdict::Flood => "flood".into(),
        Verdict::Answer => "answer".into(),
        Verdict::Absorb => "absorb".into(),
        Verdict::Hold => "hold".into(),
        Verdict::HandOver(worker) => format!("handover {worker}"),
        Verdict::Drop(reason) => format!("drop {}", reason.word()),
    }
}

/// What a sender left undone; `None` where that is nothing.
#[must_use]
pub fn offload_words(offload: Offload) -> Option<String> {
    if offload == Offload::PLAIN {
        return None;
    }
    let csum = match offload.csum {
        Csum::Unchecked => "unchecked".to_owned(),
        Csum::Complete => "complete".to_owned(),
        Csum::Partial { start, offset } => format!("partial:{start}:{offset}"),
    };
    let gso = match offload.gso {
        Gso::None => "none".to_owned(),
        Gso::Tcp4 { mss, ecn } => format!("tcp4:{mss}:{}", u8::from(ecn)),
        Gso::Tcp6 { mss, ecn } => format!("tcp6:{mss}:{}", u8::from(ecn)),
        Gso::Udp { size } => format!("udp:{size}"),
    };
    Some(format!("{OFFLOAD}csum={csum} gso={gso}"))
}

fn read_offload(words: &str) -> Option<Offload> {
    let (csum, gso) = words.strip_prefix("csum=")?.split_once(" gso=")?;
    let fields: Vec<&str> = csum.split(':').collect();
    let csum = match fields[..] {
        ["unchecked"] => Csum::Unchecked,
        ["complete"] => Csum::Complete,
        ["partial", start, offset] => Csum::Partial {
            start: start.parse().ok()?,
            offset: offset.parse().ok()?,
        },
        _ => return None,
    };
    let size = |text: &str| text.parse().ok().filter(|size| *size > 0);
    let fields: Vec<&str> = gso.split(':').collect();
    let gso = match fields[..] {
        ["none"] => Gso::None,
        ["tcp4", mss, ecn] => Gso::Tcp4 {
            mss: size(mss)?,
            ecn: ecn == "1",
        },
        ["tcp6", mss, ecn] => Gso::Tcp6 {
            mss: size(mss)?,
            ecn: ecn == "1",
        },
        ["udp", bytes] => Gso::Udp { size: size(bytes)? },
        _ => return None,
    };
    Some(Offload { csum, gso })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn fates_are_the_same_whatever_ports_are_called() {
        let gone = "route port 1 (gone)#1 as 00ff";
        assert!(same_fate(gone, "route veth2#1 as 00ff"));
        for other in [
            "route veth2#2 as 00ff",
            "route veth2#1 as 00fe",
            "route veth2#1",
            "forward veth2#1 as 00ff",
            "drop NO_ROUTE",
        ] {
            assert!(!same_fate(gone, other), "{other}");
        }
        assert!(same_fate("flood", "flood") && !same_fate("drop RING_FULL", "drop NO_ROUTE"));
        assert_eq!(plain_fate(gone), "route port 1 (gone) as 00ff");
        assert_eq!(plain_fate("drop NO_ROUTE"), "drop NO_ROUTE");
        assert_eq!(place_of(&place_words(PortIndex(7))), Some(PortIndex(7)));
        assert_eq!(place_of("eth0@web"), None);
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let csums = [
            Csum::Unchecked,
            Csum::Complete,
            Csum::Partial {
                start: 34,
                offset: 16,
            },
        ];
        let gsos = [
            Gso::None,
            Gso::Tcp4 {
                mss: 1448,
                ecn: true,
            },
            Gso::Tcp6 {
                mss: 1428,
                ecn: false,
            },
            Gso::Udp { size: 1472 },
        ];
        for csum in csums {
            for gso in gsos {
                let offload = Offload { csum, gso };
                let comments = [comment_words("flood"), turn_words(12)].into_iter();
                let comments = comments.chain(offload_words(offload)).map(Cow::Owned);
                let noted = Noted::read(comments).unwrap();
                assert_eq!(noted.offload, offload);
                assert_eq!((noted.fate.as_deref(), noted.turn), (Some("flood"), 12));
            }
        }
        for bad in [
            "offload csum=what gso=none",
            "offload csum=complete gso=udp:0",
            "turn of the tide",
        ] {
            assert_eq!(Noted::read([Cow::Borrowed(bad)].into_iter()), None);
        }
    }
}
