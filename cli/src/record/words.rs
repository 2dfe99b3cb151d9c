//! What is noted of each packet, as words.

use switch::frame::{Csum, Gso, Offload};
use switch::trace::Words;
use switch::verdict::Verdict;

const VERDICT: &str = "verdict ";
const OFFLOAD: &str = "offload ";

/// What the comments of a packet note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The verdict it was given first, as [`verdict_words`] has it.
    pub verdict: Option<String>,
    /// What its sender left undone.
    pub offload: Offload,
}

impl Noted {
    /// Reads a packet's comments; `None` where an offload is not to be understood.
    pub fn read<'c>(comments: impl Iterator<Item = std::borrow::Cow<'c, str>>) -> Option<Self> {
        let mut noted = Self {
            verdict: None,
            offload: Offload::PLAIN,
        };
        for comment in comments {
            if comment.starts_with(VERDICT) {
                noted.verdict = Some(comment.into_owned());
            } else if let Some(words) = comment.strip_prefix(OFFLOAD) {
                noted.offload = read_offload(words)?;
            }
        }
        Some(noted)
    }
}

/// The first verdict of a packet: `verdict forward veth2`, `verdict drop NO_ROUTE`.
#[must_use]
pub fn verdict_words(verdict: Verdict, words: &impl Words) -> String {
    let what = match verdict {
        Verdict::Forward(port) => format!("forward {}", words.port(port)),
        Verdict::Route(port) => format!("route {}", words.port(port)),
        Verdict::Flood => "flood".into(),
        Verdict::Answer => "answer".into(),
        Verdict::Absorb => "absorb".into(),
        Verdict::Hold => "hold".into(),
        Verdict::HandOver(worker) => format!("handover {worker}"),
        Verdict::Drop(reason) => format!("drop {}", reason.word()),
    };
    format!("{VERDICT}{what}")
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
                let comments = ["verdict flood".to_owned()].into_iter();
                let comments = comments.chain(offload_words(offload)).map(Cow::Owned);
                let noted = Noted::read(comments).unwrap();
                assert_eq!(noted.offload, offload);
                assert_eq!(noted.verdict.as_deref(), Some("verdict flood"));
            }
        }
        for bad in [
            "offload csum=what gso=none",
            "offload csum=complete gso=udp:0",
        ] {
            assert_eq!(Noted::read([Cow::Borrowed(bad)].into_iter()), None);
        }
    }
}
