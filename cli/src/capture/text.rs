//! A packet on a line, as tcpdump's readers know it.

use std::time::Duration;

use switch::ethernet;
use switch::pcapng::{Direction, Packet};
use switch::trace::summary;

use crate::show::moment;

/// How lines look.
pub(super) struct Line {
    ethernet: bool,
}

impl Line {
    pub(super) const fn new(ethernet: bool) -> Self {
        Self { ethernet }
    }

    /// The part before the port's name, and the part behind it.
    pub(super) fn of(&self, packet: &Packet<'_>) -> (String, String) {
        let time = moment::iso_micros(Duration::from_nanos(packet.time.unwrap_or(0)));
        let time = time.split_once('T').map_or("", |(_, time)| time);
        let way = match packet.direction {
            Some(Direction::Inbound) => "In ",
            Some(Direction::Outbound) => "Out",
            None => "   ",
        };
        let mut text = format!("{way}  ");
        if let Some(ethernet) = ethernet::parse(packet.bytes).filter(|_| self.ethernet) {
            text += &format!("{} > {}  ", ethernet.source, ethernet.destination);
        }
        text += &format!("{}, {} bytes", summary(packet.bytes), packet.original_bytes);
        for comment in packet.comments() {
            text += &format!("  [{comment}]");
        }
        (time.trim_end_matches('Z').to_owned(), text)
    }
}
