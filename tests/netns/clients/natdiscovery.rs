//! What coturn's tester says about the translation (RFC 5780), class words and all.

use std::net::Ipv4Addr;

use vswitch_cli::lab::traffic::udp;
use vswitch_cli::lab::{Process, Topology};

use super::{Dir, OWN, OWN_ARGS, Said, command, installed, run};
use crate::netns::world::Times::{Any, AtLeast};
use crate::netns::world::{SECOND, Setup, World, eventually, world};

const PROGRAMS: [&str; 2] = ["turnserver", "turnutils_natdiscovery"];
const STUN_PORT: u16 = 3478;
/// The second address of container 1, whose sockets collide with those of the first.
const ALIAS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 77);

/// A STUN server outside with two addresses and two ports, as RFC 5780 needs it.
struct Stun {
    _server: Process,
    _dir: Dir,
}

fn stun(world: &World) -> Stun {
    let dir = Dir::new();
    let words = format!(
        "turnserver -n -L {} -L {} -p {STUN_PORT} --alt-listening-port=3479 -S --no-tls --no-dtls \
         --no-cli --simple-log -l {} --pidfile {}",
        Topology::OUTSIDE,
        Topology::OUTSIDE_SECOND,
        dir.file("log"),
        dir.file("pid"),
    );
    let mut command = command(&words);
    let server = world.o().spawn(command.current_dir(dir.path())).unwrap();
    // A binding request without attributes (RFC 8489 section 5), answered from every socket.
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"vswitch test"].concat();
    for (ip, port) in [
        (Topology::OUTSIDE, STUN_PORT),
        (Topology::OUTSIDE_SECOND, STUN_PORT + 1),
    ] {
        let asker = udp::bind(world.o(), (ip, 0)).unwrap();
        let answers = || udp::exchange(&asker, (ip, port), &request, SECOND / 10);
        eventually(&format!("STUN at {ip}:{port}"), || {
            answers().is_ok_and(|answer| answer.is_some())
        });
    }
    Stun {
        _server: server,
        _dir: dir,
    }
}

fn start(setup: Setup) -> Option<(World, Stun)> {
    if !installed(&PROGRAMS) {
        return None;
    }
    let world = setup.start()?;
    let stun = stun(&world);
    Some((world, stun))
}

fn discover(world: &World, i: usize, words: &str) -> Said {
    let words = format!("turnutils_natdiscovery {words} {}", Topology::OUTSIDE);
    let said = run(world.c(i), &words);
    said.expect("No ALG: Mapped == XOR-Mapped");
    said
}

/// The external addresses that the tester was told.
fn mapped(said: &Said) -> Vec<&str> {
    let lines = said.lines.iter();
    lines
        .filter_map(|line| line.split_once("UDP reflexive addr: "))
        .map(|(_, address)| address)
        .collect()
}

/// Holds source ports of container 2 that container 1 will use as well, so that the classes are
/// seen where ports cannot be kept.
fn occupy(world: &World, ports: std::ops::Range<u16>) {
    for port in ports {
        let socket = udp::bind(world.c(2), (Ipv4Addr::UNSPECIFIED, port)).unwrap();
        socket.send_to(b"mine", (Topology::OUTSIDE, 9)).unwrap();
    }
}

const INDEPENDENT: &str = "NAT with Endpoint Independent Mapping!";

#[test]
fn a1_1_mapping_is_endpoint_independent_with_a_shared_address_an_own_one_and_in_fragments() {
    for (args, external) in [("", Topology::HOST), (OWN_ARGS, OWN)] {
        let Some((world, _stun)) = start(world().refusals().args(args)) else {
            return;
        };
        occupy(&world, 5555..5557);
        for words in [
            "-m",
            "-m -P",
            "-m -L 10.9.0.2 -l 5555",
            "-m -P -L 10.9.0.2 -l 5556",
        ] {
            let said = discover(&world, 1, words);
            said.expect(INDEPENDENT);
            let seen = mapped(&said);
            assert_eq!(seen.len(), 2, "{:#?}", said.lines);
            assert_eq!(seen[0], seen[1]);
            assert!(seen[0].starts_with(&format!("{external}:")), "{seen:?}");
            assert!(!seen[0].ends_with(":5555") && !seen[0].ends_with(":5556"));
        }
        world.finish(&[("OTHERHOST", Any)]);
    }
}

#[test]
fn a1_8_filtering_is_of_the_class_that_was_asked_for() {
    const EIF: &str = "NAT with Endpoint Independent Filtering!";
    let classes = [
        ("apdf", "NAT with Address and Port Dependent Filtering!"),
        ("adf", "NAT with Address Dependent Filtering!"),
        ("eif", EIF),
        ("udp=eif,tcp=apdf", EIF),
    ];
    // The tester waits three seconds for every answer that is filtered.
    std::thread::scope(|scope| {
        for (filter, class) in classes {
            for own in ["", OWN_ARGS] {
                let one = move || one_filter(&format!("--nat-filter {filter} {own}"), class);
                scope.spawn(one);
            }
        }
    });
}

fn one_filter(args: &str, class: &str) {
    let Some((world, _stun)) = start(world().refusals().args(args)) else {
        return;
    };
    occupy(&world, 5555..5556);
    let padded = run_both(&world, ["-f", "-f -P -L 10.9.0.2 -l 5555"]);
    for said in padded {
        said.expect(class);
    }
    // What the filter stops is counted, and nothing else.
    let stopped = if class.contains("Endpoint") {
        Any
    } else {
        AtLeast(2)
    };
    world.finish(&[("NAT_UNSOLICITED", stopped), ("OTHERHOST", Any)]);
}

fn run_both(world: &World, words: [&str; 2]) -> [Said; 2] {
    std::thread::scope(|scope| {
        let both = words.map(|words| scope.spawn(move || discover(world, 1, words)));
        both.map(|one| one.join().unwrap())
    })
}

#[test]
fn a1_9_hairpins_are_turned_back_by_every_filter() {
    for filter in ["apdf", "adf", "eif"] {
        for own in ["", OWN_ARGS] {
            let args = format!("--nat-filter {filter} {own}");
            let Some((world, _stun)) = start(world().args(&args)) else {
                return;
            };
            occupy(&world, 5555..5556);
            // It sends from one socket to the external address of another.
            for words in ["-H", "-H -P", "-H -L 10.9.0.2 -l 5555"] {
                discover(&world, 1, words)
                    .expect("Received a request (maybe a successful hairpinning)");
            }
            world.finish(&[("OTHERHOST", Any)]);
        }
    }
}

#[test]
fn a1_11_sockets_that_collide_have_ports_of_their_own_and_the_same_classes() {
    let setup = world().refusals().args(OWN_ARGS).prepare(|net| {
        net.c(1).address("eth0", ALIAS, 24).unwrap();
    });
    let Some((world, _stun)) = start(setup) else {
        return;
    };
    let said = discover(&world, 1, &format!("-c -L 10.9.0.2 -l 5555 -A {ALIAS}"));
    let seen = mapped(&said);
    assert_eq!(seen.len(), 2, "{:#?}", said.lines);
    assert_eq!(seen[0], format!("{OWN}:5555"), "a free port is kept");
    assert_ne!(seen[0], seen[1], "two inside addresses share a port");
    // Both keep their mapping towards the other server.
    for (ip, external) in [("10.9.0.2", seen[0]), ("10.9.0.77", seen[1])] {
        let again = discover(&world, 1, &format!("-m -L {ip} -l 5555"));
        again.expect(INDEPENDENT);
        assert_eq!(mapped(&again), [external, external]);
    }
    world.finish(&[("OTHERHOST", Any)]);
}

#[test]
fn a1_5_a_mapping_outlives_a_pause_as_seen_by_the_tester() {
    let Some((world, _stun)) = start(world().refusals()) else {
        return;
    };
    // It asks from a second socket that the answer be sent to the first one's mapping.
    let said = discover(&world, 1, "-t -T 2");
    said.expect("RFC 5780 response 2");
    assert!(!said.has("timeout"), "{:#?}", said.lines);
    world.finish(&[("NAT_UNSOLICITED", Any)]);
}
