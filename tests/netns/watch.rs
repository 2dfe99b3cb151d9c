//! An observer of the wire outside: it keeps what must not be seen there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use vswitch_cli::lab::Host;
use vswitch_cli::lab::traffic::capture::Capture;
use vswitch_cli::lab::traffic::craft::{self, Seen, tcp_flags};
use vswitch_cli::lab::traffic::frames::{Direction, SeenFrame};

/// What the uplink's end of the wire may look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Ethernet addresses frames may come from.
    pub(super) sources: [[u8; 6]; 2],
    /// Network and mask of the containers: no address of it may be seen.
    pub(super) inside: Option<(u32, u32)>,
    /// The uplink finishes checksums and cuts frames itself, so that each is seen finished: its
    /// checksum is right, and it is no longer than this MTU.
    pub(super) finished: Option<usize>,
    /// Others are on the wire too: their frames are not judged.
    pub(super) shared: bool,
    /// Resets and "unreachable" messages may come from inside.
    pub(super) refusals: bool,
}

/// A running observer.
pub(super) struct Watch {
    capture: Capture,
    why: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    /// Observes what comes in on `interface` of the outside host.
    pub(super) fn start(outside: &Host, interface: &str, rules: Rules) -> Self {
        let why = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&why);
        let capture = Capture::start(outside, interface, move |frame| {
            let violation = violation(frame, &rules);
            if let Some(text) = &violation {
                list.lock().unwrap().push(text.clone());
            }
            violation.is_some()
        });
        Self {
            capture: capture.unwrap(),
            why,
        }
    }

    /// Ends the observation: nothing forbidden may have been seen.
    pub(super) fn finish(self) {
        let frames = self.capture.stop().unwrap();
        let why = self.why.lock().unwrap();
        assert!(
            why.is_empty(),
            "on the wire outside: {why:#?}\nfirst: {:02x?}",
            frames.first()
        );
    }

    /// Waits until whatever is on the way has been seen.
    pub(super) fn settle(&self) {
        let _ = self.capture.wait_for(u64::MAX, Duration::from_millis(30));
    }
}

fn violation(frame: &SeenFrame, rules: &Rules) -> Option<String> {
    if frame.direction == Direction::Out {
        return None;
    }
    let bytes = &frame.bytes;
    let source = bytes.get(6..12)?;
    if !rules.sources.iter().any(|mac| mac == source) {
        return (!rules.shared).then(|| format!("source address {source:02x?}"));
    }
    let Some(packet) = Seen::in_frame(bytes) else {
        let is_arp = bytes.get(12..14)? == craft::ETHERTYPE_ARP.to_be_bytes();
        return (!is_arp).then(|| format!("neither IPv4 nor ARP: {:02x?}", &bytes[12..14]));
    };
    let inside = |ip: std::net::Ipv4Addr| {
        rules
            .inside
            .is_some_and(|(network, mask)| ip.to_bits() & mask == network)
    };
    if inside(packet.source) || inside(packet.destination) {
        return Some(format!("{} > {}", packet.source, packet.destination));
    }
    if !packet.header_checksum_ok {
        return Some("a wrong header checksum".to_owned());
    }
    if !rules.refusals {
        let reset = packet
            .tcp_flags()
            .is_some_and(|flags| flags & tcp_flags::RST != 0);
        if reset || packet.icmp().is_some_and(|(kind, _)| kind == 3) {
            let what = if reset { "a reset" } else { "an unreachable" };
            return Some(format!(
                "{what} from {}: {:?}",
                packet.source,
                packet.ports()
            ));
        }
    }
    let mtu = rules.finished?;
    if bytes.len() > mtu + 14 {
        return Some(format!("{} bytes on a wire of {mtu}", bytes.len()));
    }
    if packet.payload_checksum_ok() == Some(false) {
        return Some(format!("a wrong checksum, protocol {}", packet.protocol));
    }
    None
}
