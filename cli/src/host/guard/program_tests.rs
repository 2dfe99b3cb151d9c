use std::os::fd::AsFd;

use proptest::prelude::*;
use switch::port::sys::bpf;

use super::*;

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
const POOL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

/// What a frame is about, for the reference model.
#[derive(Debug, Clone)]
struct Packet {
    ethertype: u16,
    destination: Ipv4Addr,
    proto: u8,
    fragment: u16,
    options: usize,
    port: u16,
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(self.ethertype.to_be_bytes());
        let words = u8::try_from(5 + self.options).unwrap();
        frame.extend([0x40 | words, 0, 0, 40, 0, 0]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.proto, 0, 0]);
        frame.extend([198, 51, 100, 7]);
        frame.extend(self.destination.octets());
        frame.extend(std::iter::repeat_n(1, self.options * 4));
        frame.extend([0, 80]);
        frame.extend(self.port.to_be_bytes());
        frame.extend([0; 20]);
        frame
    }

    /// The rule in plain words.
    fn is_dropped_by(&self, rule: &Rule) -> bool {
        let v4_to = |addr: Ipv4Addr| self.ethertype == 0x0800 && self.destination == addr;
        match rule {
            Rule::All => true,
            Rule::Nothing => false,
            Rule::Addresses(alone) => alone.iter().any(|addr| v4_to(*addr)),
            Rule::Ports(shared) => {
                let ports = match self.proto {
                    6 => &shared.tcp,
                    17 => &shared.udp,
                    132 => &shared.sctp,
                    _ => &PortSet::default(),
                };
                shared.alone.iter().any(|addr| v4_to(*addr))
                    || v4_to(shared.addr)
                        && self.fragment & 0x1fff == 0
                        && ports.contains(self.port)
            }
        }
    }
}

fn packet() -> impl Strategy<Value = Packet> {
    let anywhere = any::<u32>().prop_map(Ipv4Addr::from_bits);
    let address = prop_oneof![3 => Just(HOST), 1 => Just(POOL), 1 => anywhere];
    let port = prop_oneof![
        any::<u16>(),
        60_998..61_003_u16,
        79..83_u16,
        Just(0),
        Just(u16::MAX)
    ];
    let fragment = prop_oneof![3 => Just(0x4000), 1 => any::<u16>(), 1 => Just(0x2000)];
    let ethertype = prop_oneof![4 => Just(0x0800), 1 => any::<u16>()];
    let proto = prop_oneof![2 => Just(6), 2 => Just(17), 1 => Just(132), 1 => any::<u8>()];
    (ethertype, address, proto, fragment, 0..=10_usize, port).prop_map(
        |(ethertype, destination, proto, fragment, options, port)| Packet {
            ethertype,
            destination,
            proto,
            fragment,
            options,
            port,
        },
    )
}

fn rules() -> Vec<Rule> {
    let nat = PortSet::range(61_000, 65_535);
    let port = |port| PortSet::range(port, port);
    // More ports than one conditional jump of classic BPF spans.
    let many = (0..512).fold(nat.clone(), |set, i| set.union(&port(2 * i + 1)));
    let shared = Shared::of_ports(HOST, &nat);
    vec![
        Rule::All,
        Rule::Nothing,
        Rule::Addresses(vec![HOST]),
        Rule::Addresses(vec![POOL, HOST]),
        Rule::Ports(shared.clone()),
        Rule::Ports(Shared {
            tcp: nat.union(&port(80)).union(&port(82)),
            udp: PortSet::default(),
            sctp: PortSet::range(0, u16::MAX),
            alone: vec![POOL],
            ..shared.clone()
        }),
        Rule::Ports(Shared {
            tcp: many.clone(),
            udp: many,
            ..shared
        }),
    ]
}

/// The instructions the classic programs use, as the kernel defines them.
fn run_classic(program: &[Classic], frame: &[u8]) -> i32 {
    let (mut a, mut x, mut pc) = (0_u32, 0_u32, 0_usize);
    let read = |at: u32, len: usize| -> Option<u32> {
        let at = usize::try_from(at).unwrap();
        let bytes = frame.get(at..at + len)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    };
    loop {
        let op = program[pc];
        pc += 1;
        let mut jump = |holds: bool| pc += usize::from(if holds { op.then } else { op.otherwise });
        let loaded = match op.code {
            0x20 => read(op.k, 4),
            0x28 => read(op.k, 2),
            0x30 => read(op.k, 1),
            0x48 => read(x + op.k, 2),
            0xb1 => {
                x = (u32::from(frame[usize::try_from(op.k).unwrap()]) & 0xf) * 4;
                continue;
            }
            0x05 => {
                pc += usize::try_from(op.k).unwrap();
                continue;
            }
            0x15 => {
                jump(a == op.k);
                continue;
            }
            0x25 => {
                jump(a > op.k);
                continue;
            }
            0x35 => {
                jump(a >= op.k);
                continue;
            }
            0x45 => {
                jump(a & op.k != 0);
                continue;
            }
            0x06 => return op.k.cast_signed(),
            other => panic!("unexpected instruction {other:#x}"),
        };
        match loaded {
            Some(value) => a = value,
            None => return 0,
        }
    }
}

proptest! {
    #[test]
    fn the_classic_programs_do_what_the_rules_say(packet in packet()) {
        for rule in rules() {
            let expected = if packet.is_dropped_by(&rule) { DROP } else { NEXT };
            prop_assert_eq!(run_classic(&classic(&rule), &packet.bytes()), expected, "{:?}", rule);
        }
    }
}

/// In the kernel itself, by `BPF_PROG_TEST_RUN`.
#[test]
fn the_ebpf_programs_do_what_the_rules_say() {
    let mut programs = Vec::new();
    for rule in rules() {
        match bpf::load_classifier(&ebpf(&rule), "vsw_test") {
            Ok(program) => programs.push((rule, program)),
            Err(err) => return println!("SKIPPED ebpf: {err}"),
        }
    }
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(&packet(), |packet| {
            for (rule, program) in &programs {
                let verdict = bpf::try_program(program.as_fd(), &packet.bytes()).unwrap();
                let expected = if packet.is_dropped_by(rule) {
                    DROP
                } else {
                    NEXT
                };
                prop_assert_eq!(verdict, expected, "{:?}", rule);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_program_grows_by_no_more_than_its_ports() {
    let nat = PortSet::range(1, 2);
    let rule = Rule::Ports(Shared::of_ports(HOST, &nat));
    assert_eq!(ebpf(&rule).len(), 50);
    assert_eq!(ebpf(&Rule::All).len(), 2);
    assert_eq!(classic(&rule).len(), 37);
}

#[test]
fn a_runt_is_not_dropped() {
    // Out of the frame's bounds the kernel ends the program with 0: the frame goes on to the host.
    assert_eq!(
        run_classic(&classic(&Rule::Addresses(vec![HOST])), &[0x08; 14]),
        NEXT
    );
    let mut runt = vec![0; 12];
    runt.extend([0x08, 0x00]);
    assert_eq!(
        run_classic(&classic(&Rule::Addresses(vec![HOST])), &runt),
        0
    );
}
