//! Goal: the path of a frame takes no memory, and nor does the end of one that is dropped. Method:
//! batches of frames through the pipeline and the dispatch, on a thread whose allocations are
//! counted.

use nat::Nanos;
use switch::counters::WorkerCounters;
use switch::dispatch::{self, Dispatcher};
use switch::drops::{Account, Drops};
use switch::frame::Batch;
use switch::limits::BATCH_FRAMES_MAX;
use switch::pipeline::Verdicts;
use switch::port::Tx;
use switch::trace::Off;
use switch::verdict::{DropReason, Verdict};

use super::bench_world::{Ring, World, scattered, switched, translated};

/// From the gateway's own address.
fn spoofed() -> [u8; 60] {
    let mut frame = switched(0);
    frame[6..12].copy_from_slice(&translated(0)[..6]);
    frame
}

/// Whether a verdict is the one that a case is about.
type Expected = fn(&Verdict) -> bool;

#[test]
fn a_frame_on_its_usual_path_allocates_nothing() {
    let cases: [(&str, Vec<_>, Expected); 4] = [
        ("switched", scattered(1000).map(switched).collect(), |v| {
            matches!(v, Verdict::Forward(_))
        }),
        ("flooded", vec![switched(5000)], |v| {
            matches!(v, Verdict::Flood)
        }),
        (
            "translated",
            scattered(1000).map(translated).collect(),
            |v| matches!(v, Verdict::Route(_)),
        ),
        ("dropped", vec![spoofed()], |v| {
            matches!(v, Verdict::Drop(DropReason::SourceIsGateway))
        }),
    ];
    for (name, frames, expected) in cases {
        let mut world = World::new(8, 1000);
        let mut ring = Ring::new(frames);
        let counters = WorkerCounters::default();
        let mut drops = Drops::default();
        let mut dispatcher = Dispatcher::new(Tx::without_sockets());
        let mut pass = |world: &mut World, batch: &mut Batch<'_>| -> Verdicts {
            let mut verdicts = world.process(batch, Nanos(2));
            dispatch::finish(batch, &mut verdicts);
            let mut account = Account {
                counters: &counters,
                drops: &mut drops,
                now: Nanos(2),
            };
            for (frame, verdict) in batch.iter().zip(&verdicts) {
                account.verdict(*verdict, frame);
            }
            dispatcher.batch(&world.view, (account, Off), batch, &verdicts);
            verdicts
        };
        // Sessions come to be, and vectors get their size, in rounds that do not count.
        for _ in 0..40 {
            let verdicts = pass(&mut world, &mut ring.fill());
            assert!(verdicts.iter().all(expected), "{name}: {verdicts:?}");
        }
        let mut count = 0;
        let allocations = allocation_counter::measure(|| {
            for _ in 0..50 {
                count += pass(&mut world, &mut ring.fill()).len();
            }
        });
        assert_eq!(count, 50 * BATCH_FRAMES_MAX);
        assert_eq!(allocations.count_total, 0, "{name}");
        // The cables of this world are cut: every copy is a drop as well.
        let kept = drops.records(None);
        assert!(!kept.is_empty(), "{name}");
    }
}
