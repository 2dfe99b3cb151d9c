use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::machine::{MARKS, Machine, STATE};
use super::*;
use crate::port::steer::filter;
use crate::port::steer::tests::{EXTERNAL, Packet, fullest, packet, run, taken, uplink_filter};

const PASSES: u32 = u32::MAX;
const REFUSED: u32 = 0;

/// Ten that are not repeated pass in a second, and two at once.
const SETTINGS: FloodgateSettings = FloodgateSettings {
    per_sec: 10,
    except: None,
    seed: 7,
};

/// A TCP packet to port 80.
fn tcp(client: (Ipv4Addr, u16), flags: u8) -> Packet {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x46, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(client.0.octets());
    frame.extend(EXTERNAL.octets());
    // An option: the header has 24 bytes.
    frame.extend([1; 4]);
    frame.extend(client.1.to_be_bytes());
    frame.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    Packet {
        frame,
        kind: 0,
        tci: 0,
    }
}

fn syn(n: u16) -> Packet {
    let [high, low] = n.to_be_bytes();
    tcp((Ipv4Addr::new(198, 51, high, low), 1024 + n), 0x02)
}

fn program_of(settings: FloodgateSettings, filter: &Program) -> Vec<Insn> {
    let mut code = Code::default();
    let recipe = Recipe::new(settings);
    recipe.append(&mut code, filter, MARKS, STATE).unwrap();
    code.finish().unwrap()
}

fn program() -> Vec<Insn> {
    let filter = uplink_filter(EXTERNAL, &[80..=80]);
    program_of(SETTINGS, &filter)
}

/// The rules in plain words.
#[derive(Default)]
struct Model {
    seen: HashMap<u16, u64>,
    due: u64,
}

impl Model {
    fn passes(&mut self, n: u16, now: u64) -> bool {
        let unit = now >> nat::KNOCK_UNIT_SHIFT;
        let age = self.seen.insert(n, unit).map(|seen| (unit - seen) % 256);
        if age.is_some_and(|age| nat::KNOCK_GAP.contains(&u8::try_from(age).unwrap())) {
            return true;
        }
        let due = self.due.max(now);
        let passes = due - now <= 125_000_000;
        if passes {
            self.due = due + 100_000_000;
        }
        passes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn f_8_the_program_takes_what_the_filter_takes(
        packet in packet(), taken in prop::collection::vec(taken(), 0..7),
    ) {
        let classic = filter(&taken);
        let program = program_of(SETTINGS, &classic);
        prop_assert_eq!(Machine::new().run(&program, &packet), run(&classic, &packet, 0));
    }

    #[test]
    fn f_8_who_repeats_a_syn_passes_and_others_at_their_pace(
        steps in prop::collection::vec((0u16..12, prop_oneof![0u64..200, 0u64..20_000]), 1..80),
    ) {
        let (program, mut machine, mut model) = (program(), Machine::new(), Model::default());
        let mut refused = 0;
        for (n, millis) in steps {
            machine.now += millis * 1_000_000;
            let passes = model.passes(n, machine.now);
            refused += u64::from(!passes);
            let expected = if passes { PASSES } else { REFUSED };
            prop_assert_eq!(machine.run(&program, &syn(n)), expected);
            prop_assert_eq!(machine.refused(), refused);
        }
    }
}

#[test]
fn f_8_in_a_flood_all_but_syns_pass() {
    let (program, mut machine) = (program(), Machine::new());
    for n in 0..1000 {
        machine.run(&program, &syn(n));
    }
    let refused = machine.refused();
    assert_eq!(refused, 998);
    let client = (Ipv4Addr::new(192, 0, 2, 77), 999);
    for flags in 0..=u8::MAX {
        let is_syn = flags & 0x17 == 0x02;
        let verdict = machine.run(&program, &tcp(client, flags));
        assert_eq!(verdict, if is_syn { REFUSED } else { PASSES }, "{flags:#x}");
    }
    // Parts of a packet, datagrams, and what is too short for a worker to read it.
    let with = |at: usize, byte: u8| {
        let mut other = syn(5000);
        other.frame[at] = byte;
        other
    };
    for other in [with(20, 0x20), with(21, 3), with(23, 1)] {
        assert_eq!(machine.run(&program, &other), PASSES);
    }
    let mut short = syn(5000);
    short.frame.truncate(14 + 24 + 19);
    assert_eq!(machine.run(&program, &short), PASSES);
    assert_eq!(machine.run(&program, &syn(5000)), REFUSED);
}

#[test]
fn f_8_to_whom_there_is_no_quota_all_syns_pass() {
    let settings = FloodgateSettings {
        except: Some((Ipv4Addr::new(192, 0, 2, 99), 24)),
        ..SETTINGS
    };
    let filter = uplink_filter(EXTERNAL, &[80..=80]);
    let (program, mut machine) = (program_of(settings, &filter), Machine::new());
    for n in 0..50 {
        assert_eq!(machine.run(&program, &syn(n)), PASSES);
    }
    assert_eq!(machine.refused(), 0);
}

/// `None`, with a printed reason, where the kernel does not let us load programs.
fn loaded(settings: FloodgateSettings) -> Option<Floodgate> {
    match Floodgate::new(settings) {
        Ok(gate) => Some(gate),
        Err(err) => {
            println!("SKIPPED bpf: {err}");
            None
        }
    }
}

/// The kernel takes an Ethernet header off before it shows a packet to a socket filter.
fn in_kernel(program: &OwnedFd, packet: &Packet) -> u32 {
    let framed = [&[0; 14], packet.frame.as_slice()].concat();
    bpf::try_program(program.as_fd(), &framed)
        .unwrap()
        .cast_unsigned()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel's clock cannot be turned"
)]
fn f_8_the_kernel_runs_it_as_the_machine_does() {
    let Some(gate) = loaded(SETTINGS) else { return };
    let program = gate
        .program(&uplink_filter(EXTERNAL, &[80..=80]), None)
        .unwrap();
    let passed = (0..500).filter(|n| in_kernel(&program, &syn(*n)) == PASSES);
    let passed = u64::try_from(passed.count()).unwrap();
    assert!((2..100).contains(&passed), "{passed}");
    assert_eq!(gate.refused(), 500 - passed);
    assert_eq!(in_kernel(&program, &tcp((EXTERNAL, 1), 0x10)), PASSES);
    std::thread::sleep(Duration::from_millis(1100));
    // Who comes again after a second; another filter knows them too.
    let other = gate
        .program(&uplink_filter(EXTERNAL, &[79..=81]), None)
        .unwrap();
    drop(program);
    for n in 0..500 {
        assert_eq!(in_kernel(&other, &syn(n)), PASSES, "{n}");
    }
    assert_eq!(gate.refused(), 500 - passed);
}

#[test]
fn f_8_the_kernel_takes_the_fullest_filter() {
    let Some(gate) = loaded(SETTINGS) else { return };
    gate.program(&fullest(), None).unwrap();
    // Of 1,024 apart the verifier tires, and the workers go on refusing by themselves.
    let many: Vec<RangeInclusive<u16>> = (0..512u16).map(|n| 3 * n..=3 * n + 1).collect();
    gate.program(&uplink_filter(EXTERNAL, &many), None).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn f_8_in_the_kernel_it_takes_what_the_filter_takes(
        packet in packet(), taken in prop::collection::vec(taken(), 0..7),
    ) {
        let settings = FloodgateSettings { per_sec: 1_000_000, ..SETTINGS };
        let Some(gate) = loaded(settings) else { return Ok(()) };
        let classic = filter(&taken);
        let plain = Packet { kind: 0, tci: 0, ..packet };
        let verdict = in_kernel(&gate.program(&classic, None).unwrap(), &plain);
        prop_assert_eq!(verdict, run(&classic, &plain, 0));
    }
}
