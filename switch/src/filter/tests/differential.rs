//! The same answer as libpcap for every filter and frame.

use std::cell::Cell;
use std::fmt::Write as _;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::bpf::{self, End};
use super::expressions::{self, Text};
use super::frames::{self, Random};
use crate::filter::{Filter, Subject};

const FILTERS: u32 = 512;
const FRAMES: usize = 240;

/// How often frames ended how, so that a test that asks nothing does not pass.
#[derive(Default)]
struct Tally {
    filters: Cell<u32>,
    refused: Cell<u32>,
    optimized: Cell<u32>,
    accepted: Cell<u32>,
    rejected: Cell<u32>,
    gave_up: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

#[test]
fn every_answer_is_that_of_libpcap() {
    if !bpf::tcpdump_is_here() {
        println!("SKIPPED: no tcpdump here, whose libpcap is what filters are compared with");
        return;
    }
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config {
        cases: if chosen {
            Config::default().cases
        } else {
            FILTERS
        },
        failure_persistence: None,
        ..Config::default()
    };
    let tally = Tally::default();
    let strategy = (expressions::filter(), proptest::num::u64::ANY);
    let result = TestRunner::new(config).run(&strategy, |(text, seed)| agree(&text, seed, &tally));
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let (filters, refused) = (tally.filters.get(), tally.refused.get());
    let [accepted, rejected, gave_up] =
        [&tally.accepted, &tally.rejected, &tally.gave_up].map(Cell::get);
    println!(
        "{filters} filters ({refused} refused by both or too long for libpcap): \
         {accepted} frames accepted, {rejected} rejected, {gave_up} read beyond their end"
    );
    assert!(
        refused * 10 < filters,
        "{refused} of {filters} compare nothing"
    );
    assert!(tally.optimized.get() * 8 > filters);
    assert!(accepted > filters * 10 && rejected > filters * 10 && gave_up > filters);
}

fn agree(text: &Text, seed: u64, tally: &Tally) -> Result<(), TestCaseError> {
    count(&tally.filters);
    let fail = |why: String| Err(TestCaseError::fail(why));
    let (filter, plain) = match (Filter::parse(&text.ours), bpf::compile(&text.theirs, false)) {
        (Ok(filter), Ok(plain)) => (filter, plain),
        (Ok(_), Err(complaint)) if !complaint.contains("registers") => {
            return fail(format!("libpcap refuses: {complaint}"));
        }
        // libpcap looks for these before it computes with constants, we after.
        (Err(error), Ok(_)) if !(error.why.contains("shift") || error.why.contains("division")) => {
            return fail(format!("we refuse: {error}"));
        }
        _ => {
            count(&tally.refused);
            return Ok(());
        }
    };
    // The optimizer takes loads out whose value does not matter, and moves others to the front, so
    // frames that end before such a load are decided otherwise by either program; and some filters
    // it refuses. All other answers must not change.
    let wanted = seed.is_multiple_of(4);
    let optimized = wanted.then(|| bpf::compile(&text.theirs, true));
    let optimized = optimized.and_then(Result::ok);
    if optimized.is_some() {
        count(&tally.optimized);
    }
    let mut random = Random::new(seed);
    for _ in 0..FRAMES {
        let (frame, length) = frames::frame(&mut random);
        let mut subject = Subject::frame(&frame);
        subject.length = length;
        let ours = filter.matches(&subject);
        let end = plain.run(&frame, length);
        count(match end {
            End::Accepted => &tally.accepted,
            End::Rejected => &tally.rejected,
            End::GaveUp => &tally.gave_up,
        });
        if ours != (end == End::Accepted) {
            return fail(format!("{end:?} by libpcap, {ours} by us: {}", hex(&frame)));
        }
        if let Some(optimized) = &optimized {
            let quick = optimized.run(&frame, length);
            let whole = end != End::GaveUp && quick != End::GaveUp;
            if whole && ours != (quick == End::Accepted) {
                return fail(format!(
                    "{quick:?} if optimized, not {ours}: {}",
                    hex(&frame)
                ));
            }
        }
    }
    Ok(())
}

fn hex(frame: &[u8]) -> String {
    let mut text = format!("{} bytes ", frame.len());
    for byte in frame {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
