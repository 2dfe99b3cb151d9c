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

/// What was counted at a moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) at: Nanos,
    pub(super) counts: Counts,
}

/// The bursts under way.
#[derive(Debug, Default)]
pub(super) struct Bursts(HashMap<Place, Burst>);

#[derive(Debug)]
struct Burst {
    /// The port as it is called when it begins: at the end it may be gone, or its place another's.
    port: String,
    began: Nanos,
    /// Drops before it, and up to the last look.
    before: u64,
    last: u64,
    /// Looks with few drops since the last with many.
    few: u8,
}

/// A burst that begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) place: Place,
    pub(super) port: String,
    pub(super) is_end: bool,
    pub(super) rate: f64,
    /// Since the beginning.
    pub(super) count: u64,
    pub(super) seconds: f64,
}

impl Look {
    /// The count that one of now goes on from. One that has gone back is that of another port with
    /// the same index, and ports count from nothing.
    fn before(&self, place: Place, now: u64) -> u64 {
        let before = self.counts.get(&place).copied();
        before.filter(|before| *before <= now).unwrap_or(0)
    }

    /// Drops a second at each place since an earlier look.
    pub(super) fn rates(&self, before: &Self) -> HashMap<Place, f64> {
        let counts = self.counts.iter();
        let rate = |(place, count): (&Place, &u64)| (*place, self.rate(before, *place, *count));
        counts.map(rate).collect()
    }

    fn rate(&self, before: &Self, place: Place, count: u64) -> f64 {
        per_second(count - before.before(place, count), before.at, self.at)
    }
}

impl Bursts {
    /// Takes a look, and the one before it; ports as `name` calls them.
    pub(super) fn look(
        &mut self,
        before: &Look,
        now: &Look,
        name: impl Fn(u16) -> String,
    ) -> Vec<Turn> {
        // A port that is gone drops nothing any more, and one that has its index is another.
        let is_another = |place: &Place, burst: &mut Burst| {
            let count = now.counts.get(place);
            count.is_none_or(|count| *count < burst.last)
        };
        let gone = self.0.extract_if(is_another);
        let mut turns: Vec<Turn> = gone
            .map(|(place, burst)| burst.turn(place, true, now.at))
            .collect();
        for (&place, &count) in &now.counts {
            let is_many = now.rate(before, place, count) >= MANY_PER_SECOND;
            if let Some(burst) = self.0.get_mut(&place) {
                burst.few = if is_many { 0 } else { burst.few + 1 };
                burst.last = count;
            } else if is_many {
                let burst = Burst {
                    port: name(place.0),
                    began: before.at,
                    before: before.before(place, count),
                    last: count,
                    few: 0,
                };
                turns.push(burst.turn(place, false, now.at));
                self.0.insert(place, burst);
            }
        }
        let over = self.0.extract_if(|_, burst| burst.few >= FEW_MAX);
        turns.extend(over.map(|(place, burst)| burst.turn(place, true, now.at)));
        // Of one place the end of the old comes before the beginning of the new: the sort is
        // stable.
        turns.sort_by_key(|turn| (turn.place.0, turn.place.1.index()));
        turns
    }
}

impl Burst {
    fn turn(&self, place: Place, is_end: bool, now: Nanos) -> Turn {
        let count = self.last - self.before;
        Turn {
            place,
            port: self.port.clone(),
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

    fn look(at: u64, count: Option<u64>) -> Look {
        Look {
            at: Nanos::from_millis(500 * at),
            counts: count.map(|count| (PLACE, count)).into_iter().collect(),
        }
    }

    fn name(port: u16) -> String {
        format!("veth{port}")
    }

    /// The turns of looks half a second apart, with the number of the look; what is counted at each
    /// is given.
    fn turns(counts: &[Option<u64>]) -> Vec<(u64, Turn)> {
        let (mut bursts, mut before) = (Bursts::default(), look(0, None));
        let mut all = Vec::new();
        for (number, count) in (1..).zip(counts) {
            let now = look(number, *count);
            let turns = bursts.look(&before, &now, name).into_iter();
            all.extend(turns.map(|turn| (number, turn)));
            before = now;
        }
        all
    }

    /// The counts after so many drops each.
    fn totals(drops: &[u64]) -> Vec<Option<u64>> {
        let mut total = 0;
        let count = |count: &u64| {
            total += count;
            Some(total)
        };
        drops.iter().map(count).collect()
    }

    #[test]
    fn a_burst_begins_at_once_and_ends_when_two_looks_saw_few() {
        assert_eq!(turns(&totals(&[0, 49, 49, 49, 0])), [], "few");
        let told = turns(&totals(&[7, 100, 0, 60, 10, 10, 0]));
        assert_eq!(told.len(), 2);
        let (look, begin) = &told[0];
        assert_eq!((*look, begin.is_end, begin.count), (2, false, 100));
        assert!((begin.rate - 200.0).abs() < 1e-9);
        let (look, end) = &told[1];
        assert_eq!((*look, end.is_end, end.count), (6, true, 180));
        assert!((end.seconds - 2.5).abs() < 1e-9);
        assert!((end.rate - 72.0).abs() < 1e-9);
        assert_eq!((end.place, end.port.as_str()), (PLACE, "veth3"));
    }

    #[test]
    fn a_burst_ends_with_its_port() {
        let told = turns(&[Some(1000), None, None]);
        assert_eq!(told.len(), 2);
        let (look, end) = &told[1];
        assert_eq!((*look, end.is_end, end.count), (2, true, 1000));
    }

    #[test]
    fn a_burst_ends_when_its_port_makes_way_for_another() {
        let ends = |counts: &[Option<u64>]| -> Vec<_> {
            let told = turns(counts).into_iter();
            told.map(|(look, turn)| (look, turn.is_end, turn.count))
                .collect()
        };
        let quiet = ends(&[Some(40), Some(540), Some(1040), Some(3), Some(3)]);
        assert_eq!(quiet, [(2, false, 500), (4, true, 1000)]);
        // The other one drops as many at once: a burst of its own, after the end of the old.
        let busy = ends(&[Some(40), Some(540), Some(300), Some(300), Some(300)]);
        let expected = [
            (2, false, 500),
            (3, true, 500),
            (3, false, 300),
            (5, true, 300),
        ];
        assert_eq!(busy, expected);
    }

    #[test]
    fn a_rate_is_of_what_was_dropped_since_the_look_before() {
        let rate = |before, now| look(2, now).rates(&look(1, before)).remove(&PLACE);
        assert_eq!(rate(Some(10), Some(60)), Some(100.0));
        assert_eq!(rate(None, Some(60)), Some(120.0));
        assert_eq!(rate(Some(1000), Some(60)), Some(120.0), "another port");
        assert_eq!(rate(Some(1000), None), None);
    }
}
