//! How a copy has to go out, and which frames may not go out at all.

use super::*;
use crate::config::Role;
use crate::frame::{Offload, OwnedFrame};
use crate::mac::Mac;
use crate::port::Egress;
use crate::port::sim::{CableOptions, cable};

fn port(mtu: u32) -> PortView {
    PortView {
        network: NetworkIndex(0),
        role: Role::Member,
        egress: Egress::Sim(cable(PortIndex(0), CableOptions::default()).1),
        mtu,
        up: true,
        nat_worker: 0,
        isolated: false,
    }
}

#[test]
fn only_a_routed_plain_packet_is_fragmented() {
    let shape = |longest, tagged, routed, gso| Shape {
        longest,
        tagged,
        routed,
        gso,
        tunnel: false,
    };
    let too_long = Way::Refused(DropReason::EgressMtu);
    let tcp = Gso::Tcp4 {
        mss: 1460,
        ecn: false,
    };
    let port = port(1500);
    for (shape, refuses, way) in [
        (shape(1500, false, false, Gso::None), false, Way::Plain),
        (shape(1500, false, false, Gso::None), true, Way::Cut),
        (shape(1500, false, false, tcp), true, Way::Cut),
        (shape(1501, false, true, Gso::None), false, Way::Cut),
        (shape(1501, false, false, Gso::None), false, too_long),
        (shape(1501, true, true, Gso::None), false, too_long),
        (shape(1501, false, true, tcp), true, too_long),
    ] {
        assert_eq!(shape.way(&port, refuses), way, "{shape:?}");
    }
}

#[test]
fn a_checksum_that_cannot_be_placed_stops_only_what_leaves() {
    let mut bytes = crate::ethernet::header(Mac::local(1), Mac::local(2), 0x0800).to_vec();
    bytes.extend([0x45, 0, 0, 40]);
    bytes.resize(54, 0);
    let finished = |csum, verdict| {
        let gso = Gso::None;
        let mut owned = OwnedFrame::new(&bytes, Offload { csum, gso }, PortIndex(0));
        let mut batch: Batch<'_> = [owned.borrow()].into_iter().collect();
        let mut verdicts: Verdicts = [verdict].into_iter().collect();
        finish(&mut batch, &mut verdicts);
        verdicts[0]
    };
    let partial = |start, offset| Csum::Partial { start, offset };
    let refused = Verdict::Drop(DropReason::UnknownOffload);
    for (csum, verdict) in [
        (partial(34, 16), Verdict::Flood),
        (partial(52, 0), Verdict::Flood),
        (partial(53, 0), refused),
        (partial(34, u16::MAX), refused),
        (partial(33, 0), refused),
        (partial(0, 6), refused),
    ] {
        assert_eq!(finished(csum, Verdict::Flood), verdict, "{csum:?}");
        assert_eq!(finished(csum, Verdict::Absorb), Verdict::Absorb);
    }
}
