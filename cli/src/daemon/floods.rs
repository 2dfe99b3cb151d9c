//! Floods of SYNs at the uplink: refused in the kernel while they last.
//!
//! # Theory of operation
//! The workers refuse what of a flood is beyond the quota; while that is much, a program in the
//! kernel does it before the rings (`switch::port`'s floodgate), which costs others less. It lets
//! so many unrepeated SYNs pass and no more, whether their handshakes would complete or not; the
//! workers know better. So every ten seconds they have a look at all of it again: if they refuse
//! little, the flood is over, and who opened many connections meanwhile was never a flood.
//!
//! ```text
//! calm     --the workers refuse many------------>  closed
//! closed   --few are refused-------------------->  calm
//! closed   --ten seconds later------------------>  ajar
//! ajar     --the workers refuse many------------>  closed
//! ajar     --they do not------------------------>  calm
//! any      --the kernel refuses the program----->  unrefused
//! unrefused --few are refused------------------->  calm
//! ```

use nat::Nanos;
use switch::port::FloodgateSettings;
use switch::verdict::DropReason;

use super::Daemon;

/// Refused SYNs a second that are many: of so few a transfer beside them feels nothing.
const MANY: f64 = 10_000.0;

/// And that are few, so that one rate is not both by turns.
const FEW: f64 = MANY / 2.0;

/// How long the kernel refuses before the workers look again.
const CLOSED: Nanos = Nanos(10_000_000_000);

/// Whether there is a flood, and who refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Flood {
    /// There is none.
    #[default]
    Calm,
    /// The kernel refuses it since then.
    Closed(Nanos),
    /// There was one ten seconds ago; the workers are asked again.
    Ajar,
    /// The kernel does not take the program: the workers refuse all.
    Unrefused,
}

impl Flood {
    /// Takes a look: SYNs refused a second, by whomever.
    fn look(self, rate: f64, now: Nanos) -> Self {
        match self {
            Self::Calm | Self::Ajar if rate >= MANY => Self::Closed(now),
            Self::Calm | Self::Ajar => Self::Calm,
            Self::Closed(_) | Self::Unrefused if rate < FEW => Self::Calm,
            Self::Closed(since) if now.saturating_sub(since) >= CLOSED => Self::Ajar,
            Self::Closed(_) | Self::Unrefused => self,
        }
    }

    /// Whether the kernel is to refuse.
    pub(super) const fn is_closed(self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl Daemon {
    /// Has floods refused in the kernel, or no longer.
    pub(super) fn mind_floods(&mut self) {
        let (now, floodgate) = (self.clock.now(), self.floodgate());
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let place = (uplink.index.0, DropReason::NatSynFlood);
        let rate = self.rates.now.get(&place).copied().unwrap_or_default();
        let before = uplink.flood;
        uplink.flood = before.look(rate, now);
        let set = if uplink.flood == before {
            Ok(())
        } else {
            uplink.set_filters(floodgate)
        };
        let refused = set.err().or(uplink.unrefused.take());
        let text = match (refused, uplink.flood) {
            (Some(error), _) => format!("warning: {error}"),
            (None, Flood::Closed(_)) if before == Flood::Calm => format!(
                "{}  a flood of SYNs: the kernel refuses those that are not repeated",
                uplink.device
            ),
            (None, Flood::Calm) if before != Flood::Calm => {
                format!("{}  the flood of SYNs is over", uplink.device)
            }
            (None, _) => return,
        };
        self.say(&text);
    }

    /// How the kernel is to refuse: half of the handshakes that may come to nothing, so that there
    /// is room for those that are repeated.
    pub(super) fn floodgate(&self) -> FloodgateSettings {
        let members = (self.gateway_cidr().network(), self.gateway.prefix);
        FloodgateSettings {
            // What is not translated is under no quota.
            except: (!self.settings.no_nat_for.is_empty()).then_some(members),
            per_sec: self.settings.nat_quota.failed_per_sec / 2,
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(looks: &[(u64, f64)]) -> Vec<Flood> {
        let mut flood = Flood::Calm;
        let mut all = Vec::new();
        for (millis, rate) in looks {
            flood = flood.look(*rate, Nanos::from_millis(*millis));
            all.push(flood);
        }
        all
    }

    #[test]
    fn f_8_the_kernel_refuses_a_flood_until_it_is_over() {
        let closed = |millis| Flood::Closed(Nanos::from_millis(millis));
        let seen = run(&[
            (500, 9_999.0),
            (1_000, 10_000.0),
            (1_500, 150_000.0),
            (2_000, 5_000.0),
            (2_500, 4_999.0),
        ]);
        let expected = [
            Flood::Calm,
            closed(1_000),
            closed(1_000),
            closed(1_000),
            Flood::Calm,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn f_8_the_workers_look_again_every_ten_seconds() {
        let closed = |millis| Flood::Closed(Nanos::from_millis(millis));
        let looks = [
            (500, 1e5),
            (10_000, 1e5),
            (10_500, 1e5),
            (11_000, 1e5),
            (21_000, 1e5),
        ];
        let seen = run(&looks);
        let expected = [
            closed(500),
            closed(500),
            Flood::Ajar,
            closed(11_000),
            Flood::Ajar,
        ];
        assert_eq!(seen, expected);
        let seen = [(9_000.0, Flood::Unrefused), (4_000.0, Flood::Calm)];
        for (rate, expected) in seen {
            assert_eq!(Flood::Unrefused.look(rate, Nanos::ZERO), expected);
        }
        // Connections that complete are refused by no worker.
        let seen = run(&[(500, 1e5), (10_500, 1e5), (11_000, 20.0)]);
        assert_eq!(seen, [closed(500), Flood::Ajar, Flood::Calm]);
    }
}
