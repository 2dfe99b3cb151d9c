//! What would become of a packet.

use std::sync::Arc;

use switch::frame::{Offload, OwnedFrame};
use switch::what_if::{Addresses, Known, Packet};

use crate::control::what_if::Try;
use crate::control::{Refusal, api};

use super::super::answer::{Answer, no_port};
use super::trace::traced;
use super::{Daemon, Wall};

impl Daemon {
    /// Asks the workers, and waits for their answer: two seconds at most.
    pub(in crate::daemon) fn what_if(&self, device: &str, what: Try) -> Answer<api::WhatIf> {
        self.name_ports();
        let port = self.index_of(device)?;
        let (bytes, addresses) = match what {
            Try::Packet(packet) => self.frame_of(&packet, port),
            Try::Frame(bytes) => (bytes, None),
        };
        let clock = self.clock;
        let frame = OwnedFrame::new(&bytes, Offload::PLAIN, port);
        let asked = self.switch.what_if(frame, Arc::new(move || clock.now()));
        let asked = asked.ok_or_else(|| no_port(device))?;
        let tried = asked.answer().ok_or_else(|| Refusal::Failed {
            what: "what-if".into(),
            why: "a worker does not answer".into(),
            fix: "vswitch status".into(),
        })?;
        let wall = Wall::of(self.clock);
        let names = &self.watches.names;
        let own = tried.last().map(|record| traced(record, names, wall));
        let (reason, story, fix) =
            own.map_or_else(Default::default, |own| (own.reason, own.story, own.fix));
        let station = |(mac, known): (switch::mac::Mac, Known)| api::WhatIfStation {
            mac: mac.to_string(),
            known: known.to_string(),
        };
        Ok(api::WhatIf {
            schema: api::WhatIfSchema,
            port: device.to_owned(),
            from: addresses.map(|addresses| station(addresses.from)),
            to: addresses.map(|addresses| station(addresses.to)),
            dropped: tried.is_drop(),
            reason,
            story,
            fix,
            records: (tried.records.iter())
                .map(|record| traced(record, names, wall))
                .collect(),
        })
    }

    fn frame_of(
        &self,
        packet: &Packet,
        port: switch::port::PortIndex,
    ) -> (Vec<u8>, Option<Addresses>) {
        let addresses = packet.addresses(&self.switch, port, self.clock.now());
        (packet.frame(addresses), Some(addresses))
    }
}
