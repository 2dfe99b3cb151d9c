//! Which packets of a file are printed, and how much of them.
//!
//! Each packet of a file is asked by itself. What is about the record is answered by what the file
//! says of the packet: `on PORT` by its interface, `worker N` by its queue, `-Q` by its direction.
//! The words that no file answers are refused before it is opened ([`crate::args`]).

use switch::filter::{About, Metadata, Subject};
use switch::pcapng::{Direction, Packet};

use crate::control::watch::{DROPS, Form, Watch};

/// What is asked.
pub(super) struct Choice<'w> {
    watch: &'w Watch,
    direction: Option<Direction>,
    snap_bytes: usize,
    /// Words of the filter.
    asks_port: bool,
    asks_worker: bool,
}

impl<'w> Choice<'w> {
    pub(super) fn new(watch: &'w Watch) -> Self {
        let (direction, snap_bytes) = match watch.form {
            Form::Capture(capture) => (capture.direction, capture.snap_bytes),
            Form::Trace => (None, u32::MAX),
        };
        let asks = |it: fn(About<'_>) -> bool| watch.filter.about().any(it);
        Self {
            watch,
            direction,
            snap_bytes: usize::try_from(snap_bytes).unwrap_or(usize::MAX),
            asks_port: asks(|about| matches!(about, About::Port(_))),
            asks_worker: asks(|about| matches!(about, About::Worker(_))),
        }
    }

    /// Whether a packet is one of those asked for.
    ///
    /// # Errors
    /// Why its file cannot say.
    pub(super) fn wants(&self, packet: &Packet<'_>) -> Result<bool, &'static str> {
        let worker = packet.queue.and_then(|queue| u16::try_from(queue).ok());
        if self.asks_port && packet.interface_name.is_empty() {
            return Err("it does not say at which ports its packets were");
        }
        if self.asks_worker && worker.is_none() {
            return Err("it does not say which worker decided on its packets");
        }
        let is_way = match (self.direction, packet.direction) {
            (None, _) => true,
            (Some(wanted), Some(is)) => wanted == is,
            // What was dropped had come in.
            (Some(wanted), None) if packet.interface_name == DROPS => wanted == Direction::Inbound,
            (Some(_), None) => {
                return Err("it does not say which of its packets came in and which went out");
            }
        };
        let subject = Subject {
            frame: packet.bytes,
            length: packet.original_bytes,
            metadata: Some(Metadata {
                ports: &[packet.interface_name],
                worker: worker.unwrap_or(0),
                ..Metadata::default()
            }),
        };
        Ok(is_way && self.watch.filter.matches(&subject))
    }

    /// Leaves no more bytes of the packet than are wanted.
    pub(super) fn cut(&self, packet: &mut Packet<'_>) {
        packet.bytes = packet.bytes.get(..self.snap_bytes).unwrap_or(packet.bytes);
    }
}
