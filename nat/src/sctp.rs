//! The SCTP association tracker: which packets move a session, and where.
//!
//! # Theory of operation
//! The states and their names are those of Linux (nf_conntrack_proto_sctp.c). As with TCP the
//! tracker serves time-outs and the rule who may open a session, and judges nothing else: what
//! cannot belong to the association is discarded by its receiver.
//!
//! Each side chose a *verification tag* in its INIT or INIT ACK, and the other side's packets
//! carry it (RFC 9260 section 8.5). Both are kept, so that an ABORT or a SHUTDOWN COMPLETE closes
//! a session only with the tag its receiver will accept (section 8.5.1: the receiver's own, or
//! with the T bit the sender's); one that strangers forged passes and changes nothing. A tag not
//! known, as after a pick-up in mid-stream, is 0 and matches any. An association that restarts
//! (section 5.2) chooses new tags which are not learned: its end is then seen by its time-out.
//!
//! Only the first chunk that can move a state is looked at, and the search ends at the first
//! DATA chunk, since control chunks come before data (section 6.10).

use crate::tcp::Role;
use crate::wire::{Sctp, sctp_chunk as chunk};

/// Control chunks searched for one that moves a state; a sender bundles two or three.
const CHUNKS_MAX: usize = 8;
/// The T bit of ABORT and SHUTDOWN COMPLETE: the tag is the sender's own, reflected.
const REFLECTED: u8 = 0x01;

/// Where an association stands; the names are those of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Closed,
    CookieWait,
    CookieEchoed,
    Established,
    /// The originator began to close.
    ShutdownSent,
    /// The responder began to close.
    ShutdownReceived,
    ShutdownAckSent,
    /// Only heartbeats have been seen.
    HeartbeatSent,
}

impl State {
    /// Returns the word that `conntrack -L` prints.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECD",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }
}

/// What a packet does, by the first of its chunks that can move a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Init,
    InitAck,
    CookieEcho,
    CookieAck,
    Shutdown,
    ShutdownAck,
    ShutdownComplete,
    Abort,
    Heartbeat,
    /// Data, acknowledgements, errors, extensions.
    Data,
}

/// A packet as the tracker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) what: What,
    /// The verification tag of the common header.
    tag: u32,
    /// The tag that the sender of an INIT or INIT ACK chose; else 0.
    chosen: u32,
    /// The T bit.
    reflected: bool,
}

impl Event {
    /// Reads a packet.
    pub(crate) fn of<B: AsRef<[u8]>>(packet: &Sctp<B>) -> Self {
        let mut event = Self {
            what: What::Data,
            tag: packet.verification_tag(),
            chosen: 0,
            reflected: false,
        };
        for (kind, flags, value) in packet.chunks().take(CHUNKS_MAX) {
            let what = match kind {
                chunk::DATA => break,
                chunk::INIT => What::Init,
                chunk::INIT_ACK => What::InitAck,
                chunk::COOKIE_ECHO => What::CookieEcho,
                chunk::COOKIE_ACK => What::CookieAck,
                chunk::SHUTDOWN => What::Shutdown,
                chunk::SHUTDOWN_ACK => What::ShutdownAck,
                chunk::SHUTDOWN_COMPLETE => What::ShutdownComplete,
                chunk::ABORT => What::Abort,
                chunk::HEARTBEAT => {
                    event.what = What::Heartbeat;
                    continue;
                }
                _ => continue,
            };
            event.what = what;
            if matches!(what, What::Init | What::InitAck) {
                let chosen = value.first_chunk::<4>();
                event.chosen = chosen.map_or(0, |&tag| u32::from_be_bytes(tag));
            }
            event.reflected = flags & REFLECTED != 0;
            break;
        }
        event
    }
}

/// What the tracker makes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to the session, whose state is up to date.
    Pass,
    /// It passes, but its receiver will discard it: nothing changed, and it refreshes nothing.
    Ignore,
    /// It opens a new association on the endpoints of one that has ended.
    Reopen,
}

/// The state of one association. Packed, so that a session has room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(2))]
pub(crate) struct Tracker {
    /// The tags that packets from the originator, and from the responder, carry; 0: not known.
    tags: [u32; 2],
    state: State,
}

impl Tracker {
    /// Starts tracking at a session's first packet, or `None` if that cannot be one.
    ///
    /// All but an INIT begins a session in mid-stream (the table was lost, or flushed): the
    /// caller lets only inside hosts do that.
    pub(crate) fn open(event: Event) -> Option<Self> {
        let state = match event.what {
            What::Init => State::CookieWait,
            What::CookieEcho => State::CookieEchoed,
            What::Heartbeat => State::HeartbeatSent,
            What::Data | What::CookieAck => State::Established,
            What::Shutdown => State::ShutdownSent,
            What::ShutdownAck => State::ShutdownAckSent,
            What::InitAck | What::ShutdownComplete | What::Abort => return None,
        };
        Some(Self {
            tags: [event.tag, event.chosen],
            state,
        })
    }

    /// Goes on with an association of which no more is known than whether both sides have spoken.
    pub(crate) fn resume(replied: bool) -> Self {
        let state = match replied {
            true => State::Established,
            false => State::CookieWait,
        };
        Self {
            tags: [0; 2],
            state,
        }
    }

    pub(crate) fn state(self) -> State {
        self.state
    }

    /// Takes in a packet.
    pub(crate) fn step(&mut self, event: Event, from: Role) -> Step {
        let (own, other) = match from {
            Role::Originator => (0, 1),
            Role::Responder => (1, 0),
        };
        match event.what {
            What::Init => return self.init(event, from),
            What::InitAck if self.state == State::CookieWait => self.tags[other] = event.chosen,
            What::CookieEcho if self.state == State::CookieWait => self.state = State::CookieEchoed,
            What::CookieAck if self.state == State::CookieEchoed => self.state = State::Established,
            What::Shutdown if self.state == State::Established => {
                self.state = match from {
                    Role::Originator => State::ShutdownSent,
                    Role::Responder => State::ShutdownReceived,
                };
            }
            What::ShutdownAck => {
                if matches!(self.state, State::ShutdownSent | State::ShutdownReceived) {
                    self.state = State::ShutdownAckSent;
                }
            }
            What::ShutdownComplete | What::Abort => {
                let expected = self.tags[if event.reflected { other } else { own }];
                if expected != 0 && event.tag != expected || self.state == State::Closed {
                    return Step::Ignore;
                }
                self.state = State::Closed;
            }
            // A path is alive once both sides have spoken on it.
            What::Heartbeat | What::Data if self.state == State::HeartbeatSent => {
                if from == Role::Responder {
                    self.state = State::Established;
                }
            }
            What::InitAck
            | What::CookieEcho
            | What::CookieAck
            | What::Shutdown
            | What::Heartbeat
            | What::Data => {}
        }
        Step::Pass
    }

    fn init(&mut self, event: Event, from: Role) -> Step {
        match (self.state, from) {
            (State::Closed | State::ShutdownAckSent, _) => return Step::Reopen,
            // Sent again, perhaps with another tag.
            (State::CookieWait, Role::Originator) => self.tags[1] = event.chosen,
            // Both at once (RFC 9260 section 5.2.1), or a restart: the receiver sorts it out.
            (
                State::CookieWait
                | State::CookieEchoed
                | State::Established
                | State::ShutdownSent
                | State::ShutdownReceived
                | State::HeartbeatSent,
                _,
            ) => {}
        }
        Step::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Role::{Originator as O, Responder as R};

    fn event(what: What, tag: u32, chosen: u32) -> Event {
        Event {
            what,
            tag,
            chosen,
            reflected: false,
        }
    }

    /// An association that the originator opened: it chose 7, the responder 9.
    fn established() -> Tracker {
        let mut tracker = Tracker::open(event(What::Init, 0, 7)).unwrap();
        for (what, tag, chosen, from, state) in [
            (What::InitAck, 7, 9, R, State::CookieWait),
            (What::CookieEcho, 9, 0, O, State::CookieEchoed),
            (What::CookieAck, 7, 0, R, State::Established),
        ] {
            assert_eq!(tracker.step(event(what, tag, chosen), from), Step::Pass);
            assert_eq!(tracker.state(), state);
        }
        tracker
    }

    #[test]
    fn a1_17_open_and_close() {
        for (closer, other, first) in [(O, R, State::ShutdownSent), (R, O, State::ShutdownReceived)]
        {
            let mut tracker = established();
            let tag = |from| if from == O { 9 } else { 7 };
            for (what, from, state) in [
                (What::Data, O, State::Established),
                (What::Heartbeat, R, State::Established),
                (What::Init, closer, State::Established),
                (What::Shutdown, closer, first),
                (What::Data, other, first),
                (What::ShutdownAck, other, State::ShutdownAckSent),
                (What::ShutdownComplete, closer, State::Closed),
            ] {
                let step = tracker.step(event(what, tag(from), 0), from);
                assert_eq!((step, tracker.state()), (Step::Pass, state), "{what:?}");
            }
            assert_eq!(tracker.step(event(What::Init, 0, 3), O), Step::Reopen);
            assert_eq!(tracker.step(event(What::Abort, tag(O), 0), O), Step::Ignore);
        }
    }

    #[test]
    fn a1_17_an_abort_needs_the_receivers_tag() {
        for (from, right, reflected) in [(O, 9, 7), (R, 7, 9)] {
            let mut tracker = established();
            for forged in [reflected, 0, 8] {
                let step = tracker.step(event(What::Abort, forged, 0), from);
                assert_eq!((step, tracker.state()), (Step::Ignore, State::Established));
            }
            let mut copy = tracker;
            assert_eq!(copy.step(event(What::Abort, right, 0), from), Step::Pass);
            assert_eq!(copy.state(), State::Closed);
            let mut t_bit = event(What::Abort, reflected, 0);
            t_bit.reflected = true;
            assert_eq!(tracker.step(t_bit, from), Step::Pass);
            assert_eq!(tracker.state(), State::Closed);
        }
    }

    #[test]
    fn a1_17_first_packets() {
        for (what, state) in [
            (What::Data, Some(State::Established)),
            (What::Heartbeat, Some(State::HeartbeatSent)),
            (What::CookieEcho, Some(State::CookieEchoed)),
            (What::InitAck, None),
            (What::Abort, None),
            (What::ShutdownComplete, None),
        ] {
            assert_eq!(Tracker::open(event(what, 9, 0)).map(Tracker::state), state);
        }
        let mut probed = Tracker::open(event(What::Heartbeat, 9, 0)).unwrap();
        probed.step(event(What::Heartbeat, 9, 0), O);
        assert_eq!(probed.state(), State::HeartbeatSent);
        probed.step(event(What::Data, 7, 0), R);
        assert_eq!(probed.state(), State::Established);
    }
}
