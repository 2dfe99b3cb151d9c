//! `POST /trace/what-if`: what would become of a packet.
//!
//! Whoever may read the tables may ask: the answer holds nothing but the asker's own packet and
//! what `/fdb`, `/neigh` and `/nat` tell all the same, and nothing changes. It is no GET because a
//! frame may be longer than a path.

use axum::extract::State;
use switch::what_if::Packet;

use super::api::{self, TracedFrame};
use super::request::Request;
use super::server::{Answer, Body, Failure, Gate, read};

/// A packet to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Try {
    /// In words.
    Packet(Packet),
    /// As a whole frame, at least an Ethernet header long.
    Frame(Vec<u8>),
}

const EXAMPLE: &str = r#"{"port":"veth1","packet":"icmp 10.77.0.11 > 1.1.1.1"}"#;

pub(super) async fn what_if(State(gate): State<Gate>, body: Body) -> Answer<api::WhatIf> {
    let asked: api::WhatIfAsked = read(body, EXAMPLE)?;
    let bad = |why: &str| Failure::bad("/trace/what-if", why, EXAMPLE);
    let what = match (asked.packet, asked.frame) {
        (Some(packet), None) => {
            let packet = Packet::parse(&packet).map_err(|error| {
                let what = format!("packet:{}", error.column + 1);
                Failure::bad(&what, &error.why, EXAMPLE)
            })?;
            Try::Packet(packet)
        }
        (None, Some(digits)) => Try::Frame(frame(digits).map_err(bad)?),
        (Some(_), Some(_)) | (None, None) => return Err(bad("either packet or frame, and one")),
    };
    gate.ask(|reply| Request::WhatIf(asked.port, what, reply))
        .await
}

fn frame(digits: String) -> Result<Vec<u8>, &'static str> {
    let length = u32::try_from(digits.len() / 2).unwrap_or(u32::MAX);
    let bytes = TracedFrame {
        length,
        bytes: digits,
    }
    .to_bytes();
    let bytes = bytes.ok_or("a frame is written in hexadecimal digits")?;
    if bytes.len() < switch::ethernet::HEADER_BYTES {
        return Err("a frame has an Ethernet header of 14 bytes at least");
    }
    if bytes.len() > switch::limits::FRAME_BYTES_MAX {
        return Err("no frame is that long");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_at_least_a_header_and_no_longer_than_any() {
        assert_eq!(frame("00".repeat(14)), Ok(vec![0; 14]));
        assert_eq!(
            frame("ff".repeat(65_557)).map(|frame| frame.len()),
            Ok(65_557)
        );
        for bad in [
            "",
            "00",
            &"0".repeat(29),
            &"0g".repeat(14),
            &"00".repeat(65_558),
        ] {
            assert!(frame(bad.to_owned()).is_err(), "{}", bad.len());
        }
    }
}
