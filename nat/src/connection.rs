//! The state of a session whose protocol has states.

use crate::flow::Flow;
use crate::outcome::Reason;
use crate::{sctp, tcp};

/// Where a connection stands, by the tracker of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// The protocol has no states.
    None,
    Tcp(tcp::Tracker),
    Sctp(sctp::Tracker),
}

impl Connection {
    /// Starts tracking at a session's first packet.
    ///
    /// # Errors
    /// That packet cannot be one.
    pub(crate) fn open(flow: &Flow) -> Result<Self, Reason> {
        if let Some(segment) = flow.segment {
            let tracker = tcp::Tracker::open(segment).ok_or(Reason::TcpOutOfState)?;
            return Ok(Self::Tcp(tracker));
        }
        if let Some(event) = flow.event {
            let tracker = sctp::Tracker::open(event).ok_or(Reason::SctpRefused)?;
            return Ok(Self::Sctp(tracker));
        }
        Ok(Self::None)
    }

    /// Returns whether this is TCP and the handshake is under way.
    pub(crate) fn is_half_open(self) -> bool {
        match self {
            Self::Tcp(tracker) => tracker.state().is_half_open(),
            Self::None | Self::Sctp(_) => false,
        }
    }

    /// Returns whether this is TCP and the connection is over: a SYN opens another in its place.
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::Tcp(tracker) => tracker.state().is_over(),
            Self::None | Self::Sctp(_) => false,
        }
    }

    /// Returns the state of a TCP connection.
    pub(crate) fn tcp(self) -> Option<tcp::Tracker> {
        match self {
            Self::Tcp(tracker) => Some(tracker),
            Self::None | Self::Sctp(_) => None,
        }
    }
}
