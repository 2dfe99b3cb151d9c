//! What one run of a test over one forwarder found.

use std::time::Duration;

/// What one run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The figure by which forwarders are compared, in the test's unit.
    pub value: f64,
    /// How long it ran.
    pub elapsed: Duration,
    /// Payload bits that arrived (0 where the test counts none).
    pub bits: f64,
    /// Frames that arrived (0 where the test counts none).
    pub frames: u64,
    /// Frames sent, where the test offers frames whether they arrive or not.
    pub offered: Option<u64>,
    /// Round trips or transactions, where the test times each.
    pub latency: Option<Latency>,
    /// What it cost.
    pub cpu: Cpu,
}

/// Processor time spent while a test ran.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cpu {
    /// By the forwarder's own processes; zero for one that lives in the kernel.
    pub forwarder: Duration,
    /// By the whole machine: everything but idle and waiting for disks.
    pub machine: Duration,
}

/// How long the things took that a test timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// How many were timed.
    pub count: u64,
    /// Half took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// 999 of 1,000 took no longer.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

impl Sample {
    /// The part of the offered frames that did not arrive, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let offered = self.offered.filter(|&offered| offered > 0)?;
        Some(offered.saturating_sub(self.frames) as f64 / offered as f64)
    }

    /// Processor seconds for one Gbit that arrived: of the forwarder, of the machine.
    #[must_use]
    pub fn cpu_per_gbit(&self) -> Option<(f64, f64)> {
        self.cpu_per(self.bits / 1e9)
    }

    /// Processor seconds for one million frames that arrived: of the forwarder, of the machine.
    #[must_use]
    pub fn cpu_per_million(&self) -> Option<(f64, f64)> {
        self.cpu_per(self.frames as f64 / 1e6)
    }

    fn cpu_per(&self, amount: f64) -> Option<(f64, f64)> {
        (amount > 0.0).then(|| {
            (
                self.cpu.forwarder.as_secs_f64() / amount,
                self.cpu.machine.as_secs_f64() / amount,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_and_losses_are_of_what_arrived() {
        let sample = Sample {
            value: 1.0,
            elapsed: Duration::from_secs(2),
            bits: 4e9,
            frames: 2_000_000,
            offered: Some(2_500_000),
            latency: None,
            cpu: Cpu {
                forwarder: Duration::from_secs(1),
                machine: Duration::from_secs(3),
            },
        };
        assert_eq!(sample.loss(), Some(0.2));
        assert_eq!(sample.cpu_per_gbit(), Some((0.25, 0.75)));
        assert_eq!(sample.cpu_per_million(), Some((0.5, 1.5)));
        let nothing = Sample {
            bits: 0.0,
            frames: 0,
            offered: None,
            ..sample
        };
        assert_eq!((nothing.loss(), nothing.cpu_per_gbit()), (None, None));
    }
}
