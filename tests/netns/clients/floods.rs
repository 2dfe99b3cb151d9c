//! Floods from inside and outside: others go on, and nothing grows without bound.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_cli::lab::traffic::tcp::{self, Amount, Pattern};
use vswitch_cli::lab::{Host, Topology};

use super::{OWN, OWN_ARGS, command, installed};
use crate::netns::traffic::ANY;
use crate::netns::world::Times::{Any, AtLeast};
use crate::netns::world::{PATIENCE, SECOND, World, eventually, world};

/// How long a flood lasts, and the time beside it that its effect is compared with.
const FLOOD: Duration = Duration::from_millis(1500);
/// A flood may cost so much memory and no more: the sessions of one container's share, and what the
/// allocator keeps.
const GROWTH_KB: u64 = 32 << 10;
const CHUNK: usize = 64 << 10;

/// A transfer whose every byte is checked, and how far it has come.
struct Transfer {
    pattern: Pattern,
    received: AtomicU64,
}

impl Transfer {
    fn new() -> Self {
        Self {
            pattern: Pattern::new(7),
            received: AtomicU64::new(0),
        }
    }

    fn receive(&self, mut stream: TcpStream) {
        use std::io::Read;
        let mut buffer = vec![0; CHUNK];
        loop {
            let len = stream.read(&mut buffer).expect("the transfer goes on");
            if len == 0 {
                return;
            }
            let before = self.received.load(SeqCst);
            self.pattern
                .check(before, &buffer[..len])
                .expect("the right bytes");
            self.received.store(before + len as u64, SeqCst);
        }
    }

    /// Bytes received while `what` happens.
    fn over(&self, what: impl FnOnce()) -> u64 {
        let before = self.received.load(SeqCst);
        what();
        self.received.load(SeqCst) - before
    }
}

/// Runs `flood` while a transfer from `sender` to `receiver`, who is reached at `ip`, goes on;
/// prints what it cost.
#[expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "the ratio is for the reader of the test's output"
)]
fn transfer_through(
    (sender, receiver): (&Host, &Host),
    to: SocketAddr,
    listen_on: SocketAddr,
    flood: impl FnOnce(),
) {
    let transfer = Transfer::new();
    let listener = tcp::listen(receiver, listen_on).unwrap();
    let to = SocketAddr::new(
        to.ip(),
        listener.local_addr().unwrap().port().max(to.port()),
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = tcp::accept(&listener, PATIENCE).unwrap();
            transfer.receive(stream);
        });
        let stream = tcp::connect(sender, to).unwrap();
        let whole = Amount::For(2 * FLOOD + 2 * SECOND);
        let pattern = &transfer.pattern;
        let sent = scope.spawn(move || tcp::send(&stream, pattern, whole).unwrap());
        thread::sleep(SECOND / 2);
        let before = transfer.over(|| thread::sleep(FLOOD));
        let during = transfer.over(flood);
        assert!(
            before > 0 && during > 0,
            "{before} bytes before, {during} during"
        );
        let sent = sent.join().unwrap();
        let ratio = during as f64 / before as f64;
        println!(
            "{}: {ratio:.2} of the rate before; {sent} bytes",
            test_name()
        );
    });
}

fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// Lets hping3 flood for [`FLOOD`].
fn flood(host: &Host, words: &str) {
    flood_for(FLOOD, host, words);
}

fn flood_for(time: Duration, host: &Host, words: &str) {
    let mut process = host
        .spawn(&mut command(&format!("hping3 -n -q {words}")))
        .unwrap();
    let ended = process.wait(time).unwrap();
    assert!(ended.is_none(), "it gave up: {:#?}", process.stderr());
    process.stop(PATIENCE).unwrap();
}

/// Resident memory of the program, kB.
fn resident(world: &World) -> u64 {
    let path = format!("/proc/{}/status", world.process.id());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kb.unwrap().trim().parse().unwrap()
}

fn assert_flat(world: &World, before: u64) {
    let after = resident(world);
    assert!(after <= before + GROWTH_KB, "{before} kB became {after} kB");
}

/// A new connection from `host` to `to` is there within a few seconds, a lost SYN included.
fn connects_again(host: &Host, to: (Ipv4Addr, u16)) {
    let asked = Instant::now();
    tcp::connect_within(host, to, 5 * SECOND)
        .unwrap_or_else(|err| panic!("no connection within {:?}: {err}", asked.elapsed()));
}

/// A new connection is there before a SYN that was lost would be repeated.
fn connects_at_once(host: &Host, to: (Ipv4Addr, u16)) {
    tcp::connect_within(host, to, SECOND * 9 / 10).expect("none of its SYNs is refused");
}

const KNOWN: [(&str, crate::netns::world::Times); 9] = [
    ("RING_FULL", Any),
    ("EGRESS_FULL", Any),
    ("OTHERHOST", Any),
    ("NAT_UNSOLICITED", Any),
    ("NAT_HALF_OPEN_FULL", Any),
    ("NAT_PORTS_EXHAUSTED", Any),
    ("NAT_HOST_QUOTA", Any),
    ("NAT_TCP_STATE", Any),
    ("HANDOVER_FULL", Any),
];

#[test]
fn f_7_a_container_that_floods_with_syns_takes_nothing_from_others() {
    if !installed(&["hping3"]) {
        return;
    }
    for args in ["", OWN_ARGS] {
        let Some(world) = world().refusals().args(args).start() else {
            return;
        };
        let memory = resident(&world);
        let outside = (Topology::OUTSIDE, 0).into();
        transfer_through((world.c(2), world.o()), outside, ANY.into(), || {
            let words = format!("--flood -S -p ++1 {}", Topology::OUTSIDE);
            flood(world.c(1), &words);
        });
        let listener = tcp::listen(world.o(), ANY).unwrap();
        let port = listener.local_addr().unwrap().port();
        connects_again(world.c(2), (Topology::OUTSIDE, port));
        assert_flat(&world, memory);
        world.finish(&KNOWN);
    }
}

#[test]
fn a4_3_a_container_that_floods_with_datagrams_takes_nothing_from_others() {
    if !installed(&["hping3"]) {
        return;
    }
    let Some(world) = world().refusals().args(OWN_ARGS).start() else {
        return;
    };
    let memory = resident(&world);
    let outside = (Topology::OUTSIDE, 0).into();
    transfer_through((world.c(2), world.o()), outside, ANY.into(), || {
        let words = format!("--flood --udp -s 1024 -p 9 {}", Topology::OUTSIDE);
        flood(world.c(1), &words);
    });
    let listener = tcp::listen(world.o(), ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    connects_again(world.c(2), (Topology::OUTSIDE, port));
    assert_flat(&world, memory);
    world.finish(&KNOWN);
}

#[test]
fn f_6_a_flood_of_fragments_takes_nothing_from_others() {
    if !installed(&["hping3"]) {
        return;
    }
    let Some(world) = world().refusals().args(OWN_ARGS).start() else {
        return;
    };
    let memory = resident(&world);
    let outside = (Topology::OUTSIDE, 0).into();
    transfer_through((world.c(2), world.o()), outside, ANY.into(), || {
        // First fragments that never get a second, and second ones without a first.
        let words = format!("--flood --udp -x -d 64 -p 9 {}", Topology::OUTSIDE);
        flood(world.c(1), &words);
        let words = format!("--flood --udp -g 1480 -d 64 -p 9 {}", Topology::OUTSIDE);
        flood(world.c(1), &words);
    });
    assert_flat(&world, memory);
    let fragments = [("NAT_FRAGMENT_LIMIT", Any), ("NAT_FRAGMENT_TIMEOUT", Any)];
    let mut known = KNOWN.to_vec();
    known.extend(fragments);
    known.push(("NAT_FRAGMENT", Any));
    world.finish(&known);
}

#[test]
fn f_8_a_flood_at_a_published_port_leaves_sessions_alone_and_ends_with_itself() {
    if !installed(&["hping3"]) {
        return;
    }
    let args = format!("{OWN_ARGS} --publish 8080:10.9.0.2:80 --publish 8081:10.9.0.3:81");
    let Some(world) = world().refusals().args(&args).start() else {
        return;
    };
    let memory = resident(&world);
    let web = tcp::listen(world.c(1), (Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    let (here, there) = ((Ipv4Addr::UNSPECIFIED, 81).into(), (OWN, 8081).into());
    // A transfer to another container's published port, and one by a session from inside.
    let words = format!("--flood -S --rand-source -p 8080 {OWN}");
    transfer_through((world.o(), world.c(2)), there, here, || {
        thread::scope(|scope| {
            scope.spawn(|| flood(world.o(), &words));
            // Amid the flood: its first SYN is refused, as a rule, and the second let in.
            thread::sleep(FLOOD / 5);
            connects_again(world.o(), (OWN, 8080));
        });
    });
    connects_again(world.o(), (OWN, 8080));
    let outside = (Topology::OUTSIDE, 0).into();
    transfer_through((world.c(1), world.o()), outside, ANY.into(), || {
        flood(world.o(), &words);
    });
    connects_again(world.o(), (OWN, 8080));
    drop(web);
    assert_flat(&world, memory);
    let mut known = KNOWN.to_vec();
    known.push(("NAT_SYN_FLOOD", AtLeast(1)));
    // Random sources are no addresses at all at times, or nobody's on the uplink's network.
    let random = [
        "IP_INVALID_SOURCE",
        "IP_INVALID_DEST",
        "NEIGH_QUEUEFULL",
        "NEIGH_FAILED",
    ];
    known.extend(random.map(|reason| (reason, Any)));
    world.finish(&known);
}

#[test]
fn f_8_the_kernel_refuses_a_long_flood_and_counts_it() {
    if !installed(&["hping3"]) {
        return;
    }
    // An address that is the host's too, more workers than one, and a quota of less than usual.
    let args = "--workers 2 --publish 8080:10.9.0.2:80 --nat-quota failed=1000";
    let Some(world) = world().refusals().args(args).start() else {
        return;
    };
    let memory = resident(&world);
    let _web = tcp::listen(world.c(1), (Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    let says = |what: &str| {
        let said = world.process.stderr();
        said.iter().any(|line| line.contains(what))
    };
    let words = format!("--flood -S --rand-source -p 8080 {}", Topology::HOST);
    thread::scope(|scope| {
        scope.spawn(|| flood_for(5 * SECOND, world.o(), &words));
        eventually("a flood", || {
            says("a flood of SYNs") || says("floods of SYNs are refused by the workers")
        });
        if says("floods of SYNs are refused by the workers") {
            println!("SKIPPED: no eBPF: {:#?}", world.process.stderr());
            return;
        }
        let refused = world.dropped("NAT_SYN_FLOOD");
        // The filter may change meanwhile, and both ports are reached.
        let published = world.client("nat publish 8082:10.9.0.2:80");
        assert!(published.status.success(), "{published:?}");
        for port in [8080, 8082] {
            // Of six marks the flood overwrites one in a second: who loses his twice gets in with
            // the SYN after the flood, 7 s after his first.
            tcp::connect_within(world.o(), (Topology::HOST, port), PATIENCE).unwrap();
        }
        assert!(world.dropped("NAT_SYN_FLOOD") > refused + 10_000);
        assert!(!says("warning: "), "{:#?}", world.process.stderr());
    });
    eventually("the end of the flood", || says("the flood of SYNs is over"));
    for _ in 0..20 {
        connects_at_once(world.o(), (Topology::HOST, 8080));
    }
    assert_flat(&world, memory);
    let random = ["IP_INVALID_SOURCE", "IP_INVALID_DEST", "NEIGH_QUEUEFULL"];
    let mut known = KNOWN.to_vec();
    known.push(("NAT_SYN_FLOOD", AtLeast(10_000)));
    known.extend(random.map(|reason| (reason, Any)));
    known.push(("NEIGH_FAILED", Any));
    world.finish(&known);
}
