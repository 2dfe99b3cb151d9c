//! The ways a frame can take through a worker, each as a world and a round in it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use switch::frame::Offload;
use switch::latency::Clocks;
use switch::limits::BATCH_FRAMES_MAX;
use switch::mac::Mac;
use switch::pipeline::Verdicts;
use switch::verdict::Verdict;

use super::cables::{Cables, ROUTER_MAC, UNFINISHED, UPLINK_MAC, drain, taken};
use super::world::{GATEWAY_MAC, Ring, World, frame, switched, translated};

/// One round of a scene; returns how long the switch worked.
pub(super) type Round = Box<dyn FnMut() -> Duration>;

/// A way that frames take.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Rounds that make a run under callgrind; a batch each.
    pub(super) rounds: u32,
    /// Frames of a round.
    pub(super) frames: u32,
    pub(super) make: fn(Option<Clocks>) -> Round,
}

impl Scene {
    /// True of what uses sessions or neighbours up, so that it cannot go on for long.
    pub(super) fn ends(&self) -> bool {
        matches!(self.name, "new session" | "held for ARP")
    }
}

const fn scene(
    name: &'static str,
    (rounds, frames): (u32, u32),
    make: fn(Option<Clocks>) -> Round,
) -> Scene {
    Scene {
        name,
        rounds,
        frames,
        make,
    }
}

/// Frames of a full batch.
const FULL: u32 = 64;

/// No more than wait for one neighbour.
const HELD: u32 = 8;

/// All of them. The first three are the pipeline by itself, the others whole workers.
pub(super) const SCENES: [Scene; 15] = [
    scene("process: L2 hit", (4000, FULL), |_| decided(2, switched(0))),
    scene("process: flood to 64", (4000, FULL), |_| {
        decided(65, switched(9))
    }),
    scene("process: NAT hit", (1000, FULL), |_| {
        decided(2, translated(0))
    }),
    scene("L2 hit", (1000, FULL), |it| unicast(it, FULL)),
    scene("L2 hit, single", (8000, 1), |it| unicast(it, 1)),
    scene("flood to 4", (300, FULL), |it| flood(it, 4, FULL)),
    scene("flood to 64", (30, FULL), |it| flood(it, 64, FULL)),
    scene("flood to 64, single", (300, 1), |it| flood(it, 64, 1)),
    scene("dropped", (1000, FULL), dropped),
    scene("NAT hit, out", (500, FULL), |it| outbound(it, FULL, false)),
    scene("NAT hit, out, single", (4000, 1), |it| {
        outbound(it, 1, false)
    }),
    scene("NAT hit, in", (500, FULL), |it| inbound(it, 1)),
    scene("new session", (400, FULL), |it| outbound(it, FULL, true)),
    scene("handed over", (300, FULL), |it| inbound(it, 2)),
    scene("held for ARP", (500, HELD), held),
];

const NEAR: Mac = Mac([2, 0, 0, 0, 0, 1]);
const FAR: Mac = Mac([2, 0, 0, 0, 0, 2]);
const MEMBER: [u8; 4] = [10, 9, 1, 2];
const REMOTE: [u8; 4] = [198, 51, 100, 9];

/// The pipeline alone: batches of one frame, in slots as in a ring.
fn decided(members: u16, frame: [u8; super::world::FRAME_BYTES]) -> Round {
    #[inline(never)]
    fn counted_process(world: &mut World, batch: &mut switch::frame::Batch<'_>) -> Verdicts {
        black_box(world.process(batch, nat::Nanos(3)))
    }
    let mut world = World::new(members, 1);
    let mut ring = Ring::new(vec![frame]);
    Box::new(move || {
        let mut batch = ring.fill();
        #[expect(clippy::disallowed_methods, reason = "it measures real time")]
        let began = std::time::Instant::now();
        let verdicts = counted_process(&mut world, &mut batch);
        let spent = began.elapsed();
        assert!(!matches!(verdicts[0], Verdict::Drop(_)));
        spent
    })
}

fn unicast(latency: Option<Clocks>, frames: u32) -> Round {
    let mut world = Cables::new(1, 2, latency);
    let back = frame((FAR, NEAR), ([10, 9, 0, 3], [10, 9, 0, 2]), 9);
    world.members[1].send(&back, UNFINISHED);
    let _ = world.poll(0);
    drain(&world.members[0]);
    let bytes = frame((NEAR, FAR), ([10, 9, 0, 2], [10, 9, 0, 3]), 4000);
    Box::new(move || {
        let spent = world.round(frames as usize, &bytes);
        assert_eq!(drain(&world.members[1]), frames as usize);
        spent
    })
}

fn flood(latency: Option<Clocks>, copies: u16, frames: u32) -> Round {
    let mut world = Cables::new(1, copies + 1, latency);
    let bytes = frame((NEAR, FAR), ([10, 9, 0, 2], [10, 9, 0, 3]), 4000);
    Box::new(move || {
        let spent = world.round(frames as usize, &bytes);
        for host in &world.members[1..] {
            assert_eq!(drain(host), frames as usize);
        }
        spent
    })
}

fn dropped(latency: Option<Clocks>) -> Round {
    let mut world = Cables::new(1, 2, latency);
    // No bridge forwards what is sent to this address (802.1Q 8.6.3).
    let reserved = Mac([1, 0x80, 0xc2, 0, 0, 3]);
    let bytes = frame((NEAR, reserved), ([10, 9, 0, 2], [10, 9, 0, 3]), 4000);
    Box::new(move || {
        let spent = world.round(BATCH_FRAMES_MAX, &bytes);
        assert_eq!(drain(&world.members[1]), 0);
        spent
    })
}

/// From a member out; by sessions that there are, or by a new one each.
fn outbound(latency: Option<Clocks>, frames: u32, fresh: bool) -> Round {
    let mut world = Cables::new(1, 2, latency).with_uplink();
    let mut next = 0u32;
    Box::new(move || {
        world.go_on();
        for place in 0..frames {
            let number = if fresh { next } else { place };
            next += 1;
            world.members[0].send(&to_outside(number, REMOTE), UNFINISHED);
        }
        let spent = world.poll(0);
        assert_eq!(drain(&world.uplink[0]), frames as usize);
        spent
    })
}

/// The `number`-th flow of a member to `remote`.
fn to_outside(number: u32, remote: [u8; 4]) -> [u8; super::world::FRAME_BYTES] {
    let port = 1024 + u16::try_from(number % 60_000).unwrap();
    frame((NEAR, GATEWAY_MAC), (MEMBER, remote), port)
}

/// Answers from outside; where there are two workers, to the one that has not the sessions.
fn inbound(latency: Option<Clocks>, workers: u16) -> Round {
    let mut world = Cables::new(workers, 2, latency).with_uplink();
    world.introduce(MEMBER, NEAR);
    for number in 0..FULL {
        world.members[0].send(&to_outside(number, REMOTE), UNFINISHED);
    }
    let _ = world.poll(0);
    let answers: Vec<Vec<u8>> = taken(&world.uplink[0])
        .map(|frame| answer(frame.bytes()))
        .collect();
    assert_eq!(answers.len(), BATCH_FRAMES_MAX);
    let last = usize::from(workers) - 1;
    Box::new(move || {
        world.go_on();
        for bytes in &answers {
            world.uplink[last].send(bytes, UNFINISHED);
        }
        let mut spent = Duration::ZERO;
        for worker in (0..=last).rev() {
            spent += world.poll(worker);
        }
        assert_eq!(drain(&world.members[0]), BATCH_FRAMES_MAX);
        spent
    })
}

/// What the other side answers to a UDP packet: addresses and ports change places, so the sums
/// stay.
fn answer(bytes: &[u8]) -> Vec<u8> {
    let mut answer = bytes.to_vec();
    answer[0..6].copy_from_slice(&UPLINK_MAC.0);
    answer[6..12].copy_from_slice(&ROUTER_MAC.0);
    answer[26..30].copy_from_slice(&bytes[30..34]);
    answer[30..34].copy_from_slice(&bytes[26..30]);
    answer[34..36].copy_from_slice(&bytes[36..38]);
    answer[36..38].copy_from_slice(&bytes[34..36]);
    answer
}

/// Packets for a neighbour that is not known yet, and its answer; another each round.
fn held(latency: Option<Clocks>) -> Round {
    let mut world = Cables::new(1, 2, latency).with_uplink();
    let mut next = 0u16;
    Box::new(move || {
        world.go_on();
        next += 1;
        let [high, low] = next.to_be_bytes();
        let remote = [203, 0, 128 + high, low];
        for _ in 0..HELD {
            world.members[0].send(&to_outside(0, remote), UNFINISHED);
        }
        let mut spent = world.poll(0);
        let question = world.uplink[0].receive().unwrap();
        assert_eq!(question.bytes()[12..14], [8, 6]);
        let reply = arp_reply(question.bytes(), Mac::local(u64::from(next)));
        world.uplink[0].send(&reply, Offload::PLAIN);
        spent += world.poll(0);
        assert_eq!(drain(&world.uplink[0]), HELD as usize);
        spent
    })
}

/// RFC 826: sender and target change places, and the sender is whom it asked for.
fn arp_reply(question: &[u8], mac: Mac) -> Vec<u8> {
    let mut reply = question.to_vec();
    reply[0..6].copy_from_slice(&question[6..12]);
    reply[6..12].copy_from_slice(&mac.0);
    reply[20..22].copy_from_slice(&[0, 2]);
    reply[22..28].copy_from_slice(&mac.0);
    reply[28..32].copy_from_slice(&question[38..42]);
    reply[32..42].copy_from_slice(&question[22..32]);
    reply
}

/// The scenes of whole workers, by time.
pub(super) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch over cables");
    let workers = |scene: &&Scene| !scene.name.starts_with("process");
    for scene in SCENES.iter().filter(workers).filter(|it| !it.ends()) {
        group.throughput(Throughput::Elements(u64::from(scene.frames)));
        let mut round = (scene.make)(None);
        group.bench_function(scene.name, |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| round()).sum());
        });
    }
    group.finish();
}
