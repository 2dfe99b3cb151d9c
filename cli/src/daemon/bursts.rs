//! When many frames are dropped for one reason at one port, and when no longer.

use std::collections::HashMap;

use nat::Nanos;
use switch::verdict::DropReason;

/// Drops a second that are many: a lone ping or a name that is looked up again and again stays
/// below, a transfer that gets nowhere does not.
pub(super) const MANY_PER_SECOND: f64 = 100.0;

/// Looks with few drops after which a burst is over: half a second apart, and one could be chance.
const FEW_MAX: u8 = 2;

/// A reason at a port.
pub(super) type Place = (u16, DropReason);

/// How often each applied.
pub(super) type Counts = HashMap<Place, u64>;

/// The bursts under way.
#[derive(Debug, Default)]
pub(super) struct Bursts(HashMap<Place, Burst>);

#[derive(Debug, Clone, Copy)]
struct Burst {
    began: Nanos,
    /// Drops before it, and up to the last look.
    before: u64,
    last: u64,
    /// Looks with few drops since the last with many.
    few: u8,
}

/// A burst that begins or ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    pub(super) place: Place,
    pub(super) is_end: bool,
    pub(super) rate: f64,
    /// Since the beginning.
    pub(super) count: u64,
    pub(super) seconds: f64,
}

impl Bursts {
    /// Takes a look: the counts at the last look and now, and when those were.
    pub(super) fn look(&mut self, before: (&Counts, Nanos), now: (&Counts, Nanos)) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (place, count) in now.0 {
            let earlier = before.0.get(place).copied().unwrap_or(0).min(*count);
            let rate = per_second(count - earlier, before.1, now.1);
            let is_many = rate >= MANY_PER_SECOND;
            if let Some(burst) = self.0.get_mut(place) {
                burst.few = if is_many { 0 } else { burst.few + 1 };
                burst.last = *count;
            } else if is_many {
                let burst = Burst {
                    began: before.1,
                    before: earlier,
                    last: *count,
                    few: 0,
                };
                self.0.insert(*place, burst);
                turns.push(burst.turn(*place, false, now.1));
            }
        }
        // A port that is gone drops nothing any more.
        let is_over =
            |place: &Place, burst: &Burst| burst.few >= FEW_MAX || !now.0.contains_key(place);
        let over = self.0.extract_if(|place, burst| is_over(place, burst));
        turns.extend(over.map(|(place, burst)| burst.turn(place, true, now.1)));
        turns.sort_by_key(|turn| (turn.place.0, turn.place.1.index()));
        turns
    }
}

impl Burst {
    fn turn(self, place: Place, is_end: bool, now: Nanos) -> Turn {
        let count = self.last - self.before;
        Turn {
            place,
            is_end,
            rate: per_second(count, self.began, now),
            count,
            seconds: super::answer::seconds(now.saturating_sub(self.began)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(count: u64, from: Nanos, to: Nanos) -> f64 {
    count as f64 / super::answer::seconds(to.saturating_sub(from)).max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (3, DropReason::NoRoute);

    /// The turns of looks half a second apart, the drops before each given.
    fn turns(drops: &[u64]) -> Vec<(usize, Turn)> {
        let mut bursts = Bursts::default();
        let (mut before, mut total, mut all) = (Counts::new(), 0, Vec::new());
        for (look, count) in (0_u64..).zip(drops) {
            total += count;
            let now = Counts::from([(PLACE, total)]);
            let at = |look: u64| Nanos::from_millis(500 * look);
            let turns = bursts.look((&before, at(look)), (&now, at(look + 1)));
            let look = usize::try_from(look).unwrap();
            all.extend(turns.into_iter().map(|turn| (look, turn)));
            before = now;
        }
        all
    }

    #[test]
    fn a_burst_begins_at_once_and_ends_when_two_looks_saw_few() {
        assert_eq!(turns(&[0, 49, 49, 49, 0]), [], "few");
        let told = turns(&[7, 100, 0, 60, 10, 10, 0]);
        assert_eq!(told.len(), 2);
        let (look, begin) = told[0];
        assert_eq!((look, begin.is_end, begin.count), (1, false, 100));
        assert!((begin.rate - 200.0).abs() < 1e-9);
        let (look, end) = told[1];
        assert_eq!((look, end.is_end, end.count), (5, true, 180));
        assert!((end.seconds - 2.5).abs() < 1e-9);
        assert!((end.rate - 72.0).abs() < 1e-9);
        assert_eq!(end.place, PLACE);
    }

    #[test]
    fn a_burst_ends_with_its_port() {
        let mut bursts = Bursts::default();
        let (none, many) = (Counts::new(), Counts::from([(PLACE, 1000)]));
        let at = Nanos::from_millis;
        assert_eq!(bursts.look((&none, at(0)), (&many, at(500))).len(), 1);
        let ends = bursts.look((&many, at(500)), (&none, at(1000)));
        assert!(ends[0].is_end && ends[0].count == 1000);
        assert_eq!(bursts.look((&none, at(1000)), (&none, at(1500))), []);
    }
}
