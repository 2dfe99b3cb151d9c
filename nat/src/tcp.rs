//! The TCP connection tracker: which segments move a session, and where.
//!
//! # Theory of operation
//! The states and their names are those of Linux (nf_conntrack_proto_tcp.c, `tcp_conntracks`),
//! so that `conntrack` users read our tables. The tracker serves timeouts and the rule who may
//! open a session; it never judges sequence numbers, and a segment that is merely old or repeated
//! passes: its receiver knows better. Two things are kept beside the state:
//! * who sent the first FIN, so that a repeated FIN is told from the other side's;
//! * who sent the RST that closed an established session. If that side goes on talking, the RST
//!   was forged and the session is established again (RFC 7857 section 2.2; the RST's victim
//!   talking on proves nothing, its segments may be in flight).

use crate::wire::TcpFlags;

/// Where a connection stands; the names are those of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    SynSent,
    SynSent2,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
}

impl State {
    const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynSent2,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
    ];

    /// Returns the word that `conntrack -L` prints.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynSent2 => "SYN_SENT2",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
        }
    }

    /// Returns whether the handshake has been completed and no RST has come.
    pub(crate) const fn is_open(self) -> bool {
        matches!(
            self,
            Self::Established | Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait
        )
    }

    /// Returns whether the connection is over, so that a SYN opens another in its place.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// Returns whether the handshake is under way.
    pub(crate) const fn is_half_open(self) -> bool {
        matches!(self, Self::SynSent | Self::SynSent2 | Self::SynReceived)
    }
}

/// Which end of the session sent a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The end whose packet created the session.
    Originator,
    Responder,
}

/// What a segment does, by its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

impl Segment {
    /// Reads the flags; PSH, ECE and CWR do not count. Returns `None` for sets no TCP sends (the
    /// kernel's `tcp_valid_flags` accepts the same ones).
    pub(crate) fn of(flags: TcpFlags) -> Option<Self> {
        const FIN: u8 = TcpFlags::FIN.0;
        const SYN: u8 = TcpFlags::SYN.0;
        const RST: u8 = TcpFlags::RST.0;
        const ACK: u8 = TcpFlags::ACK.0;
        const FIN_ACK: u8 = FIN | ACK;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        let urgent = flags.contains(TcpFlags::URG);
        match flags.0 & (FIN | SYN | RST | ACK) {
            SYN => Some(Self::Syn),
            RST if !urgent => Some(Self::Rst),
            ACK => Some(Self::Ack),
            FIN_ACK => Some(Self::Fin),
            SYN_ACK if !urgent => Some(Self::SynAck),
            RST_ACK if !urgent => Some(Self::Rst),
            _ => None,
        }
    }
}

/// What the tracker makes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It belongs to the session, whose state is up to date.
    Pass,
    /// It opens a new connection on the endpoints of a finished one.
    Reopen,
    /// It cannot belong to this connection; nothing changed.
    Invalid,
}

/// The state of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracker {
    state: State,
    /// Who sent the first FIN, or the RST.
    closer: Role,
    /// In `Close`: the connection was established when the RST came, and only `closer` sent one.
    resumable: bool,
}

impl Tracker {
    /// Starts tracking at a session's first segment, or `None` if that cannot be one.
    ///
    /// An ACK begins a session in mid-stream (the table was lost, or flushed): the caller lets
    /// only inside hosts do that.
    pub(crate) fn open(segment: Segment) -> Option<Self> {
        let state = match segment {
            Segment::Syn => State::SynSent,
            Segment::Ack => State::Established,
            Segment::SynAck | Segment::Fin | Segment::Rst => return None,
        };
        Some(Self {
            state,
            closer: Role::Originator,
            resumable: false,
        })
    }

    pub(crate) fn state(self) -> State {
        self.state
    }

    /// Returns whether both ends are done with the connection; `inside` is the role of the inside
    /// host, whose own RST is believed. Another's may be forged while the connection can resume.
    pub(crate) fn is_finished(self, inside: Role) -> bool {
        match self.state {
            State::TimeWait => true,
            State::Close => !self.resumable || self.closer == inside,
            State::SynSent
            | State::SynSent2
            | State::SynReceived
            | State::Established
            | State::FinWait
            | State::CloseWait
            | State::LastAck => false,
        }
    }

    /// Packs it into one byte: the state, who closed, whether it is resumable.
    pub(crate) fn to_byte(self) -> u8 {
        let closed_by_responder = u8::from(self.closer == Role::Responder);
        self.state as u8 | closed_by_responder << 6 | u8::from(self.resumable) << 7
    }

    /// Unpacks what [`Tracker::to_byte`] packed; `None` if there is no such state.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let state = State::ALL
            .into_iter()
            .find(|state| *state as u8 == byte & 0x3f)?;
        Some(Self {
            state,
            closer: if byte & 0x40 == 0 {
                Role::Originator
            } else {
                Role::Responder
            },
            resumable: byte & 0x80 != 0,
        })
    }

    /// Takes in a segment.
    pub(crate) fn step(&mut self, segment: Segment, from: Role) -> Step {
        match segment {
            Segment::Syn => self.syn(from),
            Segment::SynAck => self.syn_ack(from),
            Segment::Fin => self.fin(from),
            Segment::Ack => self.ack(from),
            Segment::Rst => self.rst(from),
        }
    }

    fn syn(&mut self, from: Role) -> Step {
        match (self.state, from) {
            // Simultaneous open (RFC 5382 REQ-2).
            (State::SynSent, Role::Responder) => self.state = State::SynSent2,
            (State::TimeWait | State::Close, _) => return Step::Reopen,
            // Repeated, or a new one that the receiver answers with a challenge ACK or a RST.
            (
                State::SynSent
                | State::SynSent2
                | State::SynReceived
                | State::Established
                | State::FinWait
                | State::CloseWait
                | State::LastAck,
                _,
            ) => {}
        }
        Step::Pass
    }

    fn syn_ack(&mut self, from: Role) -> Step {
        match (self.state, from) {
            (State::SynSent, Role::Originator) => return Step::Invalid,
            (State::SynSent, Role::Responder) | (State::SynSent2, _) => {
                self.state = State::SynReceived;
            }
            (
                State::SynReceived
                | State::Established
                | State::FinWait
                | State::CloseWait
                | State::LastAck
                | State::TimeWait
                | State::Close,
                _,
            ) => {}
        }
        Step::Pass
    }

    fn fin(&mut self, from: Role) -> Step {
        match self.state {
            State::SynSent | State::SynSent2 => return Step::Invalid,
            State::SynReceived | State::Established => {
                self.state = State::FinWait;
                self.closer = from;
            }
            State::FinWait | State::CloseWait if from != self.closer => {
                self.state = State::LastAck;
            }
            State::FinWait | State::CloseWait | State::LastAck | State::TimeWait | State::Close => {
            }
        }
        Step::Pass
    }

    fn ack(&mut self, from: Role) -> Step {
        match (self.state, from) {
            (State::SynSent, Role::Originator) => return Step::Invalid,
            (State::SynReceived, Role::Originator) => self.state = State::Established,
            (State::FinWait, from) if from != self.closer => self.state = State::CloseWait,
            (State::LastAck, _) => self.state = State::TimeWait,
            (State::Close, from) if self.resumable && from == self.closer => {
                self.state = State::Established;
            }
            (
                State::SynSent
                | State::SynSent2
                | State::SynReceived
                | State::Established
                | State::FinWait
                | State::CloseWait
                | State::TimeWait
                | State::Close,
                _,
            ) => {}
        }
        Step::Pass
    }

    fn rst(&mut self, from: Role) -> Step {
        if self.state == State::Close {
            self.resumable &= from == self.closer;
        } else {
            self.resumable = self.state == State::Established;
            self.closer = from;
            self.state = State::Close;
        }
        Step::Pass
    }
}

#[cfg(test)]
mod tests;
