//! One port of the switch and the device behind it.

use std::io;

use switch::fdb::Flush;
use switch::mac::Mac;
use switch::port::{Egress, PortIndex, Rx, TapDevice};

use crate::config::{PortSpec, PortWord};
use crate::control::api::OperState;
use crate::error::CliError;
use crate::host::guard::PortGuard;
use crate::host::journal::{Ticket, Undone};
use crate::host::link::Link;
use crate::host::peer::Peer;

use super::Daemon;

/// A port as its owner knows it.
pub(super) struct Port {
    pub(super) index: PortIndex,
    pub(super) spec: PortSpec,
    pub(super) link: Link,
    pub(super) state: OperState,
    pub(super) ring_bytes: u64,
    pub(super) peer: Option<Peer>,
    /// What keeps the host's stack off it; `None` on a TAP, whose host end is the container's.
    pub(super) guard: Option<PortGuard>,
    /// The journal's note that it was down before.
    pub(super) brought_up: Option<Ticket>,
    /// Why it could not be opened again the last time, so that it is said once.
    pub(super) trouble: Option<String>,
}

/// A device just opened, before it is a port.
pub(super) struct Opened {
    pub(super) rx: Rx,
    pub(super) egress: Egress,
    pub(super) link: Link,
    pub(super) ring_bytes: u64,
    pub(super) peer: Option<Peer>,
    pub(super) guard: Option<PortGuard>,
    pub(super) brought_up: Option<Ticket>,
}

impl Port {
    pub(super) fn device(&self) -> &str {
        self.spec.word.device()
    }

    pub(super) const fn is_tap(&self) -> bool {
        matches!(self.spec.word, PortWord::Tap(_))
    }
}

/// Whether a link can carry frames.
pub(super) const fn state_of(link: &Link) -> OperState {
    if link.up && link.carrier {
        OperState::Up
    } else {
        OperState::Down
    }
}

impl Daemon {
    /// Fixes a station to a port.
    pub(super) fn fix_station(
        &self,
        mac: Mac,
        index: PortIndex,
        word: &PortWord,
    ) -> Result<(), CliError> {
        self.switch
            .tables()
            .add_static(0, mac, index, self.clock.now())
            .map_err(|error| CliError::failed(word.to_string(), error.to_string(), ""))
    }

    pub(super) fn open_tap(&mut self, index: PortIndex, device: &str) -> Result<Opened, CliError> {
        let tap = TapDevice::open(device).map_err(|error| from_port(&error))?;
        let mut link = self.link(device)?;
        let mut brought_up = None;
        if tap.created() {
            // pasta's 0.24 Gbit/s at MTU 1500 came of the default of 1,000: a TAP drops silently.
            self.netlink
                .set_tx_queue_len(link.index, TAP_QUEUE_FRAMES)
                .map_err(|error| unusable(device, &error))?;
            let mut up = self.bring_up(vec![link])?;
            (link, brought_up) = up.pop().ok_or_else(|| gone(device))?;
        }
        Ok(Opened {
            egress: Egress::Tap(tap.egress()),
            rx: Rx::Tap(tap.into_rx(index)),
            link,
            ring_bytes: 0,
            peer: None,
            guard: None,
            brought_up,
        })
    }

    pub(super) fn link(&mut self, device: &str) -> Result<Link, CliError> {
        self.netlink
            .link_named(device)
            .map_err(|error| unusable(device, &error))
    }

    /// Gives a device back to the host as it was.
    pub(super) fn take_down(&self, brought_up: Option<Ticket>, guard: Option<PortGuard>) {
        // The last change first: what is down says nothing any more when its guard goes.
        let mut undone: Vec<Undone> = brought_up
            .and_then(|ticket| self.journal.undo(ticket))
            .into_iter()
            .collect();
        undone.extend(guard.map(PortGuard::remove).unwrap_or_default());
        for undone in undone.iter().filter(|undone| undone.failed()) {
            self.say(&format!("warning: not restored: {undone}"));
        }
    }

    /// Follows the device of the port at `place`, which is `link` now: it went down or up, was
    /// deleted, or came back under its name, as another device or as the same.
    pub(super) fn follow(&mut self, place: usize, link: Option<&Link>) {
        let Some(port) = self.ports.get(place) else {
            return;
        };
        if port.is_tap() {
            return self.follow_tap(place, link.cloned());
        }
        match link {
            None => self.lose_port(place),
            Some(link) if link.index == port.link.index && port.state != OperState::NotPresent => {
                self.update_port(place, link.clone());
            }
            // Another device under the name, or the same one, which has been away: the kernel
            // closed our ring when it left for another namespace, and we did when it was renamed.
            Some(link) => {
                let link = link.clone();
                self.lose_port(place);
                self.reopen_port(place, |daemon, index, spec| {
                    super::check::interface(&link.name, daemon.gateway_cidr())?;
                    daemon.open_interface(index, spec, link)
                });
            }
        }
    }

    /// A TAP that moved into a container is not to be seen here and works all the same, by the
    /// descriptor. One that was deleted, with its container or by hand, is made anew.
    fn follow_tap(&mut self, place: usize, link: Option<Link>) {
        let Some(port) = self.ports.get(place) else {
            return;
        };
        match link {
            Some(link) if port.state != OperState::NotPresent => self.update_port(place, link),
            _ if !self.tap_is_gone(port.index) => {
                // Up or down is the container's business now, and a TAP that is down refuses
                // frames by itself.
                self.say_moved(place);
            }
            _ => {
                self.lose_port(place);
                self.reopen_port(place, |daemon, index, spec| {
                    daemon.open_tap(index, spec.word.device())
                });
            }
        }
    }

    /// Whether the TAP behind a port was deleted.
    pub(super) fn tap_is_gone(&self, index: PortIndex) -> bool {
        let port = self.switch.view().ports.get(index.index());
        match port.and_then(Option::as_ref).map(|port| &port.egress) {
            Some(Egress::Tap(tap)) => tap.is_gone(),
            Some(_) | None => false,
        }
    }

    /// Whether a TAP that moved to another namespace was deleted there, of which no news comes.
    pub(super) fn lost_a_tap(&self) -> bool {
        let mut away = (self.ports.iter()).filter(|port| port.is_tap() && port.link.index == 0);
        away.any(|port| self.tap_is_gone(port.index))
    }

    fn say_moved(&mut self, place: usize) {
        let Some(port) = self.ports.get_mut(place) else {
            return;
        };
        let (index, before) = (port.index, port.state);
        port.state = OperState::Up;
        // No link of this namespace is the one that left, even if it gets its index.
        if std::mem::take(&mut port.link.index) == 0 {
            return;
        }
        let text = format!("{}  moved to another namespace", port.device());
        if before != OperState::Up {
            self.set_port_up(index, true, None);
        }
        self.say(&text);
    }

    fn lose_port(&mut self, place: usize) {
        let Some(port) = self.ports.get_mut(place) else {
            return;
        };
        if port.state == OperState::NotPresent {
            return;
        }
        port.state = OperState::NotPresent;
        port.peer = None;
        let (index, guard, brought_up) = (port.index, port.guard.take(), port.brought_up.take());
        let text = format!("{}  gone; waiting for it", port.device());
        self.set_port_up(index, false, None);
        self.switch.stop_receiving(index);
        self.forget_stations(index);
        // Under another name, or in the host's hands again, it is to be as it was.
        self.take_down(brought_up, guard);
        self.say(&text);
    }

    /// Forgets who is behind a port: whoever comes back may have other addresses.
    fn forget_stations(&self, index: PortIndex) {
        let (fdb, neighbours) = (self.switch.fdb(), self.switch.neighbours());
        let now = self.clock.now();
        for entry in neighbours.entries(now) {
            let there = |mac| fdb.lookup(NETWORK, mac, now) == Some(index);
            if entry.link == self.gateway.link() && entry.mac.is_some_and(there) {
                let tables = self.switch.tables();
                tables.remove_neighbour(entry.link, entry.address);
            }
        }
        self.switch.tables().flush(Flush::Port(index));
    }

    /// Opens the device that came back. Should that fail, because it is half set up by whoever
    /// makes it, the next tick tries again.
    fn reopen_port(
        &mut self,
        place: usize,
        open: impl FnOnce(&mut Self, PortIndex, &PortSpec) -> Result<Opened, CliError>,
    ) {
        let Some(port) = self.ports.get(place) else {
            return;
        };
        let (index, spec) = (port.index, port.spec.clone());
        let opened = match open(self, index, &spec) {
            Ok(opened) => opened,
            Err(error) => return self.keep_trying(place, &error),
        };
        let Some(port) = self.ports.get_mut(place) else {
            return;
        };
        let (mtu, state) = (opened.link.mtu, state_of(&opened.link));
        port.ring_bytes = opened.ring_bytes;
        port.guard = opened.guard;
        port.brought_up = opened.brought_up;
        port.peer = opened.peer;
        port.link = opened.link;
        port.state = state;
        port.trouble = None;
        self.switch.receive(index, opened.rx);
        self.switch.update(|view| {
            if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                port.egress = opened.egress;
                port.mtu = mtu;
                port.up = state == OperState::Up;
            }
        });
        self.say(&format!("{}  back", spec.word.device()));
    }

    fn keep_trying(&mut self, place: usize, error: &CliError) {
        self.look_again = true;
        let text = error.to_string();
        if let Some(port) = self.ports.get_mut(place)
            && port.trouble.as_ref() != Some(&text)
        {
            port.trouble = Some(text.clone());
            self.say(&format!("warning: {text}"));
        }
    }

    fn update_port(&mut self, place: usize, link: Link) {
        let Some(port) = self.ports.get_mut(place) else {
            return;
        };
        let state = state_of(&link);
        let changed = port.state != state || port.link.mtu != link.mtu;
        let (index, mtu) = (port.index, link.mtu);
        let text = format!("{}  {state}  mtu {mtu}", link.name);
        port.link = link;
        port.state = state;
        if changed {
            self.set_port_up(index, state == OperState::Up, Some(mtu));
            self.say(&text);
        }
    }

    pub(super) fn set_port_up(&mut self, index: PortIndex, up: bool, mtu: Option<u32>) {
        self.switch.update(|view| {
            if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                port.up = up;
                port.mtu = mtu.unwrap_or(port.mtu);
            }
        });
    }

    /// Takes a port out and gives its device back to the host as it was.
    pub(super) fn close_port(&mut self, place: usize) {
        let port = self.ports.remove(place);
        self.switch.remove_port(port.index);
        self.switch.tables().set_port_limit(port.index, None);
        for entry in self.switch.fdb().entries(self.clock.now()) {
            if entry.port == port.index {
                self.switch.tables().remove(entry.network, entry.mac);
            }
        }
        self.take_down(port.brought_up, port.guard);
    }
}

/// The one network of this version.
const NETWORK: u16 = 0;

/// Frames a TAP queues for us: 10,000 of 1.5 KB are 15 MB at the worst.
pub(super) const TAP_QUEUE_FRAMES: u32 = 10_000;

/// A failure of the data plane's, whose message is `what: why; fix` already.
pub(super) fn from_port(error: &switch::port::PortError) -> CliError {
    let text = error.to_string();
    let (what, rest) = text.split_once(": ").unwrap_or(("port", &text));
    let (why, fix) = rest.rsplit_once("; ").unwrap_or((rest, ""));
    CliError::failed(what, why, fix)
}

pub(super) fn unusable(device: &str, error: &io::Error) -> CliError {
    CliError::failed(device, error.to_string(), format!("ip link show {device}"))
}

/// A device that went while it was being opened.
pub(super) fn gone(device: &str) -> CliError {
    unusable(device, &io::ErrorKind::NotFound.into())
}
