//! Names and versions of what goes over the control socket.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident $word:literal;)+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl $name {
            /// The name and version, as JSON has it.
            pub const WORD: &'static str = $word;
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(Self::WORD)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = String::deserialize(from)?;
                if word == Self::WORD {
                    Ok(Self)
                } else {
                    Err(de::Error::custom(format!("schema {word} instead of {}", Self::WORD)))
                }
            }
        }
    )+ };
}

schemas! {
    /// The schema of a [`Port`](super::Port).
    PortSchema "vswitch.port/1";
    /// The schema of an [`FdbEntry`](super::FdbEntry).
    FdbSchema "vswitch.fdb/1";
    /// The schema of a [`Neighbour`](super::Neighbour).
    NeighSchema "vswitch.neigh/1";
    /// The schema of [`Nat`](super::Nat).
    NatSchema "vswitch.nat/1";
    /// The schema of [`Published`](super::Published).
    PublishedSchema "vswitch.published/1";
    /// The schema of [`NatReport`](super::NatReport).
    NatReportSchema "vswitch.nat-report/1";
    /// The schema of a [`NatEvent`](super::NatEvent).
    NatEventSchema "vswitch.nat-event/1";
    /// The schema of [`Traced`](super::Traced).
    TraceSchema "vswitch.trace/1";
    /// The schema of [`WhatIf`](super::WhatIf).
    WhatIfSchema "vswitch.what-if/1";
    /// The schema of an [`Event`](super::Event).
    EventSchema "vswitch.event/1";
    /// The schema of [`Why`](super::Why).
    WhySchema "vswitch.why/1";
    /// The schema of a [`Drop`](super::Drop).
    DropSchema "vswitch.drop/1";
    /// The schema of [`Status`](super::Status).
    StatusSchema "vswitch.status/1";
    /// The schema of what [`crate::replay`] tells.
    ReplaySchema "vswitch.replay/1";
    /// The schema of what was [sent](crate::replay::live).
    ReplaySentSchema "vswitch.replay-sent/1";
    /// The schema of [`Latency`](super::Latency).
    LatencySchema "vswitch.latency/1";
    /// The schema of [`Done`](super::Done).
    DoneSchema "vswitch.done/1";
    /// The schema of an [`Error`](super::Error).
    ErrorSchema "vswitch.error/1";
}
