//! What is measured, and in which order.

use std::time::Duration;

use super::words::{Forwarder, Test};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// This program first, then those beside it.
    pub forwarders: Vec<Forwarder>,
    /// In this order.
    pub tests: Vec<Test>,
    /// Of each counted run.
    pub time: Duration,
    /// How many rounds are counted.
    pub pairs: u32,
    /// How many ports [`Test::Ports`] has.
    pub ports_count: u16,
    /// The offered loads of the load-loss curve, in % of what each forwarder delivered at most;
    /// empty: no curve.
    pub loads: Vec<u32>,
}

/// Why nothing is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Of what.
    pub forwarder: Forwarder,
    /// In which test; none: in all of them.
    pub test: Option<Test>,
    /// Why.
    pub reason: String,
    /// The command that makes it possible, where there is one.
    pub fix: Option<String>,
}

/// One run: whose, in which round, how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From 1; 0 is the warm-up, which is not counted.
    pub round: u32,
    /// Whose turn it is.
    pub forwarder: Forwarder,
    /// How long.
    pub time: Duration,
}

/// All turns of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The test.
    pub test: Test,
    /// Who takes part.
    pub forwarders: Vec<Forwarder>,
    /// Their turns, in order.
    pub turns: Vec<Turn>,
    /// Whether the load-loss curve follows.
    pub curve: bool,
}

/// What is measured, and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Test by test; one that nobody can take part in is left out.
    pub parts: Vec<Part>,
    /// What was asked for and is left out.
    pub skipped: Vec<Skip>,
}

/// How long the warm-up is: caches, ARP, the clock rate of processors.
#[must_use]
pub fn warm_up(time: Duration) -> Duration {
    time / 4
}

/// The plan for what is `wanted` where `missing` says which program and Debian package a forwarder
/// lacks, and `unable` why it cannot do a test.
#[must_use]
pub fn plan(
    wanted: &Wanted,
    missing: impl Fn(Forwarder) -> Option<(&'static str, &'static str)>,
    unable: impl Fn(Forwarder, Test) -> Option<&'static str>,
) -> Plan {
    let mut skipped = Vec::new();
    let mut there = Vec::new();
    for &forwarder in &wanted.forwarders {
        match missing(forwarder) {
            None => there.push(forwarder),
            Some((program, package)) => skipped.push(Skip {
                forwarder,
                test: None,
                reason: format!("no program {program}"),
                fix: Some(format!("sudo apt install {package}")),
            }),
        }
    }
    let mut parts = Vec::new();
    for &test in &wanted.tests {
        let mut forwarders = Vec::new();
        for &forwarder in &there {
            match unable(forwarder, test) {
                None => forwarders.push(forwarder),
                Some(reason) => skipped.push(Skip {
                    forwarder,
                    test: Some(test),
                    reason: reason.to_owned(),
                    fix: None,
                }),
            }
        }
        if !forwarders.is_empty() {
            parts.push(Part {
                test,
                turns: turns(&forwarders, wanted.pairs, wanted.time),
                forwarders,
                curve: test == Test::Udp64 && !wanted.loads.is_empty(),
            });
        }
    }
    Plan { parts, skipped }
}

/// A B C for the warm-up, then A B C for each round.
fn turns(forwarders: &[Forwarder], pairs: u32, time: Duration) -> Vec<Turn> {
    let round = |round| {
        forwarders.iter().map(move |&forwarder| Turn {
            round,
            forwarder,
            time: if round == 0 { warm_up(time) } else { time },
        })
    };
    (0..=pairs).flat_map(round).collect()
}

impl Part {
    /// How long its loads run if none fails; the curve has `points` of `time` for each forwarder.
    #[must_use]
    pub fn time(&self, points: usize, time: Duration) -> Duration {
        let turns: Duration = self.turns.iter().map(|turn| turn.time).sum();
        let points = if self.curve {
            points * self.forwarders.len()
        } else {
            0
        };
        turns + time * u32::try_from(points).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Forwarder::{Bridge, Direct, Ovs, Vswitch};

    fn wanted() -> Wanted {
        Wanted {
            forwarders: vec![Vswitch, Bridge, Ovs, Direct],
            tests: vec![Test::Udp64, Test::NatCrr],
            time: Duration::from_secs(4),
            pairs: 2,
            ports_count: 256,
            loads: vec![50, 100],
        }
    }

    #[test]
    fn forwarders_take_turns_after_a_short_warm_up() {
        let plan = plan(&wanted(), |_| None, |_, _| None);
        let order: Vec<_> = plan.parts[0]
            .turns
            .iter()
            .map(|turn| (turn.round, turn.forwarder, turn.time.as_secs()))
            .collect();
        let round = |round, secs| [Vswitch, Bridge, Ovs, Direct].map(|one| (round, one, secs));
        assert_eq!(order, [round(0, 1), round(1, 4), round(2, 4)].concat());
        assert_eq!(plan.skipped, []);
        let tests: Vec<_> = plan
            .parts
            .iter()
            .map(|part| (part.test, part.curve))
            .collect();
        assert_eq!(tests, [(Test::Udp64, true), (Test::NatCrr, false)]);
    }

    #[test]
    fn what_cannot_be_is_left_out_with_its_reason() {
        let missing = |one| (one == Ovs).then_some(("ovs-vswitchd", "openvswitch-switch"));
        let unable = |one, test: Test| {
            (one == Direct && test.needs_nat()).then_some("a cable does not translate")
        };
        let plan = plan(&wanted(), missing, unable);
        assert_eq!(plan.parts[0].forwarders, [Vswitch, Bridge, Direct]);
        assert_eq!(plan.parts[1].forwarders, [Vswitch, Bridge]);
        let skipped: Vec<_> = plan
            .skipped
            .iter()
            .map(|skip| {
                (
                    skip.forwarder,
                    skip.test,
                    &*skip.reason,
                    skip.fix.as_deref(),
                )
            })
            .collect();
        let install = Some("sudo apt install openvswitch-switch");
        assert_eq!(
            skipped,
            [
                (Ovs, None, "no program ovs-vswitchd", install),
                (
                    Direct,
                    Some(Test::NatCrr),
                    "a cable does not translate",
                    None
                ),
            ]
        );
    }

    #[test]
    fn a_test_that_nobody_can_do_is_no_part() {
        let plan = plan(
            &wanted(),
            |_| None,
            |_, test| test.needs_nat().then_some("no"),
        );
        assert_eq!(plan.parts.len(), 1);
        assert_eq!(plan.skipped.len(), 4);
    }

    #[test]
    fn the_time_it_takes_is_known_before() {
        let plan = plan(&wanted(), |_| None, |_, _| None);
        let time = |part: &Part| part.time(2, Duration::from_secs(4)).as_secs();
        assert_eq!(time(&plan.parts[0]), 4 * (1 + 4 + 4) + 2 * 4 * 4);
        assert_eq!(time(&plan.parts[1]), 4 * (1 + 4 + 4));
    }
}
