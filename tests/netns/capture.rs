//! Captures of a running switch, judged by the programs that people read captures with.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp;

use super::clients::installed;
use super::reader::Reader;
use super::traffic::ANY;
use super::world::Times::{Any, Exactly};
use super::world::{SECOND, World, eventually, world};

/// What a program prints; it must succeed.
pub(super) fn output(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    let ended = command.args(arguments).arg(file).output().unwrap();
    assert!(
        ended.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    String::from_utf8(ended.stdout).unwrap()
}

pub(super) fn tshark(arguments: &str, file: &Path) -> String {
    let words: Vec<&str> = arguments.split(' ').chain(["-r"]).collect();
    output("tshark", &words, file)
}

fn capturing(world: &World, name: &str, words: &str) -> (Reader, PathBuf) {
    let file = world.run_dir().join(name);
    let reader = Reader::start(world, &format!("capture -w {} {words}", file.display()));
    (reader, file)
}

/// Ends a capture as Ctrl-C does, and returns what it said.
fn ended(mut reader: Reader) -> String {
    reader.signal(Signal::SIGINT);
    assert_eq!(reader.wait().code(), Some(0), "{}", reader.errors());
    reader.errors()
}

fn through_nat_and_dropped(world: &World) {
    let ping = Ping::to(Topology::OUTSIDE);
    world.ping_perfectly(world.c(1), &ping);
    let dropped = world.ping(world.c(2), &Ping { ttl: 1, ..ping });
    assert_eq!(dropped.received, 0);
}

/// What other programs say of those seven packets, and our own lines of them.
fn judged(world: &World, file: &Path, live: &str) {
    // Wireshark's experts object to nothing; that a packet's time to live is 1 they note.
    let experts = tshark("-q -z expert,warn", file);
    assert!(
        !experts.contains("Warns") && !experts.contains("Errors"),
        "{experts}"
    );
    let counts = output("capinfos", &["-M", "-c", "-T"], file);
    assert!(counts.trim_end().ends_with("\t7"), "{counts}");
    let ours = world.text(&format!("capture -r {}", file.display()));
    assert_eq!(ours.lines().count(), 7);
    assert_eq!(ours.lines().map(|l| &l[16..]).collect::<Vec<_>>(), {
        live.lines().map(|l| l[16..].to_owned()).collect::<Vec<_>>()
    });
    let theirs = output("tcpdump", &["-n", "-r"], file);
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        let ends = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let middle = words.iter().position(|word| *word == ">").unwrap();
            [
                words[middle - 1].to_owned(),
                words[middle + 1].trim_end_matches(':').to_owned(),
            ]
        };
        assert_eq!((ends(ours), &ours[..12]), (ends(theirs), &theirs[..12]));
    }
    assert_eq!(theirs.lines().count(), 7);
}

#[test]
fn capture_shows_both_sides_of_the_nat_and_drops_to_wireshark() {
    if !installed(&["tshark", "capinfos", "tcpdump"]) {
        return;
    }
    let Some(world) = world().start() else { return };
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    world.ping_perfectly(world.c(2), &Ping::to(Topology::OUTSIDE));
    let (reader, file) = capturing(&world, "all.pcapng", "icmp");
    let mut text = Reader::start(&world, "capture icmp");
    through_nat_and_dropped(&world);
    eventually("seven lines", || text.lines().len() == 7);
    assert_eq!(ended(reader), "7 packets captured, 0 lost\n");
    text.signal(Signal::SIGINT);
    assert_eq!(text.wait().code(), Some(0));
    let fields = "-T fields -E separator=; -e frame.interface_name -e frame.packet_id -e ip.src \
                  -e frame.comment";
    let fields = tshark(fields, &file);
    let rows: Vec<Vec<&str>> = fields
        .lines()
        .map(|line| line.split(';').collect())
        .collect();
    let places: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(
        places,
        ["veth1", "eth0", "eth0", "veth1", "veth2", "drops", "veth2"]
    );
    let id = |row: usize| rows[row][1];
    assert!(
        id(0) == id(1) && id(2) == id(3) && id(4) == id(5),
        "{fields}"
    );
    assert!(id(0) != id(2) && id(4) != id(6), "{fields}");
    assert_eq!(rows[0][2], world.ip(1).to_string());
    assert_eq!(rows[1][2], Topology::HOST.to_string());
    assert!(
        rows[0][3].starts_with("FORWARDED veth1 → eth0,nat "),
        "{fields}"
    );
    assert!(rows[1][3].starts_with("nat "), "{fields}");
    assert!(rows[4][3].starts_with("DROPPED TTL_EXPIRED") && rows[5][3] == rows[4][3]);
    assert!(
        rows[6][3].starts_with("made by the gateway, because of packet 0x"),
        "{fields}"
    );
    judged(&world, &file, &text.text());
    world.finish(&[("TTL_EXPIRED", Exactly(1))]);
}

/// Goal: a port that comes while somebody captures has its name from its first packet on, and one
/// that goes keeps it to its last. Method: a port takes the index of another; both are seen.
#[test]
fn ports_that_come_and_go_during_a_capture_have_their_names() {
    let Some(world) = world().start() else { return };
    let (reader, file) = capturing(&world, "ports", "");
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    for words in ["port del veth2", "port add tap:web0"] {
        let ended = world.client(words);
        assert!(ended.status.success(), "{words}: {ended:?}");
    }
    // Nobody has that address: the question for it goes to all ports.
    let absent = Ping::to(std::net::Ipv4Addr::from_bits(world.ip(2).to_bits() + 50));
    assert_eq!(world.ping(world.c(1), &absent).received, 0);
    ended(reader);
    let text = world.text(&format!("capture -r {}", file.display()));
    let seen = |port: &str| text.lines().any(|line| line[16..].starts_with(port));
    assert!(seen("veth2 Out") && seen("web0 Out"), "{text}");
    assert!(!text.contains("(gone)"), "{text}");
    drop(world);
}

#[test]
fn capture_takes_tcpdumps_letters() {
    let Some(world) = world().start() else { return };
    let count = |path: &Path| {
        let read = world.text(&format!("capture -r {}", path.display()));
        read.lines().count()
    };
    let ping = Ping::to(world.ip(2)).size(1000).count(10);
    let (mut two, two_file) = capturing(&world, "two", "-c 2 icmp");
    let (short, short_file) = capturing(&world, "short", "-s 60 -i veth2 -Q out icmp");
    let (drops, drops_file) = capturing(&world, "drops", "--drops");
    let (ring, ring_file) = capturing(&world, "ring", "-C 1 -W 2 icmp");
    world.ping_perfectly(world.c(1), &ping);
    assert_eq!(two.wait().code(), Some(0));
    assert_eq!(count(&two_file), 2);
    assert!(ended(short).starts_with("10 packets captured"));
    let text = world.text(&format!("capture -e -r {}", short_file.display()));
    assert_eq!(text.matches(" veth2 Out  02:").count(), 10, "{text}");
    assert!(std::fs::metadata(&short_file).unwrap().len() < 10 * 300);
    world.ping(
        world.c(1),
        &Ping {
            ttl: 1,
            ..Ping::to(Topology::OUTSIDE)
        },
    );
    eventually("the drop", || world.dropped("TTL_EXPIRED") == 1);
    assert!(ended(drops).starts_with("1 packets captured"));
    assert_eq!(count(&drops_file), 1);
    // 2,000 packets of 1 kB at two ports: more than two files of 1 MB.
    let train = Ping {
        interval: std::time::Duration::from_micros(100),
        ..ping.count(1000)
    };
    world.ping_perfectly(world.c(1), &train);
    ended(ring);
    let of = |digit: &str| PathBuf::from(format!("{}{digit}", ring_file.display()));
    assert!(!ring_file.exists() && !of("2").exists());
    for digit in ["0", "1"] {
        let length = std::fs::metadata(of(digit)).unwrap().len();
        assert!((10_000..1_300_000).contains(&length), "{length}");
        assert!(count(&of(digit)) > 5);
    }
    let list = world.text("capture -D");
    assert!(list.starts_with("1.veth1 (eth0"), "{list}");
    world.finish(&[("TTL_EXPIRED", Exactly(1))]);
}

#[test]
fn capture_keeps_frames_that_are_to_be_segmented_or_cuts_them() {
    if !installed(&["tshark"]) {
        return;
    }
    let Some(world) = world().start() else { return };
    let (kept, kept_file) = capturing(&world, "kept", "-i veth1 -Q in tcp");
    let (cut, cut_file) = capturing(&world, "cut", "--gso cut -i veth1 -Q in tcp");
    let listener = tcp::listen(world.o(), ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = tcp::connect(world.c(1), (Topology::OUTSIDE, port)).unwrap();
    let (accepted, _) = tcp::accept(&listener, SECOND).unwrap();
    let bytes = 300_000;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut to = vec![0; bytes];
            std::io::Read::read_exact(&mut &accepted, &mut to).unwrap();
        });
        std::io::Write::write_all(&mut &stream, &vec![7; bytes]).unwrap();
        reading.join().unwrap();
    });
    assert!(ended(kept).ends_with(", 0 lost\n") && ended(cut).ends_with(", 0 lost\n"));
    let lengths = |file: &Path| -> Vec<u32> {
        let lengths = tshark("-T fields -e tcp.len", file);
        lengths
            .lines()
            .map(|length| length.parse().unwrap())
            .collect()
    };
    let (kept, cut) = (lengths(&kept_file), lengths(&cut_file));
    assert!(kept.iter().any(|length| *length > 1460), "{kept:?}");
    assert!(
        cut.iter().all(|length| *length <= 1460) && cut.len() > 200,
        "{cut:?}"
    );
    assert_eq!(kept.iter().sum::<u32>(), cut.iter().sum::<u32>());
    let checked = "-o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE -T fields -e \
                   tcp.checksum.status -e ip.checksum.status";
    let states = tshark(checked, &cut_file);
    assert!(states.lines().all(|line| line == "1\t1"), "{states}");
    world.finish(&[]);
}

/// A disk of 600 kB, which is there as long as its value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir(at).unwrap();
        let tmpfs = Some("tmpfs");
        mount(tmpfs, at, tmpfs, MsFlags::empty(), Some("size=600k")).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = umount2(&self.0, MntFlags::MNT_DETACH);
        assert!(
            unmounted.is_ok() || std::thread::panicking(),
            "{unmounted:?}"
        );
    }
}

#[test]
fn a_capture_into_a_full_disk_keeps_what_is_whole() {
    let Some(world) = world().start() else { return };
    let full = SmallDisk::mount(&world.run_dir().join("full"));
    let file = full.0.join("run.pcapng");
    let mut reader = Reader::start(&world, &format!("capture -w {} icmp", file.display()));
    let train = Ping {
        interval: std::time::Duration::from_micros(100),
        ..Ping::to(world.ip(2)).size(1000).count(600)
    };
    world.ping_perfectly(world.c(1), &train);
    assert_eq!(reader.wait().code(), Some(1), "{}", reader.errors());
    let why = reader.errors();
    assert!(
        why.contains("No space left") && why.contains("is whole; fix: make room"),
        "{why}"
    );
    let read = world.text(&format!("capture -r {}", file.display()));
    assert!(read.lines().count() > 100);
    // Before the directory in which it is.
    drop(full);
    world.finish(&[]);
}

#[test]
fn a_capture_that_stands_still_counts_every_packet_it_loses() {
    let Some(world) = world().start() else { return };
    let (still, file) = capturing(&world, "still", "-i veth1 -Q in icmp");
    still.signal(Signal::SIGSTOP);
    // 120 MB, at most half of which lies in the taps and on the way.
    let train = Ping {
        interval: std::time::Duration::from_micros(100),
        ..Ping::to(world.ip(2)).size(60_000).count(2000)
    };
    let report = world.ping(world.c(1), &train);
    assert!(report.received > 1900, "{report:?}");
    let came = world.port("veth1", "rx", "packets");
    still.signal(Signal::SIGCONT);
    let told = ended(still);
    let numbers: Vec<u64> = told
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [packets, lost] = numbers[..] else {
        panic!("{told}");
    };
    assert!(lost > 0, "{told}");
    // All that came are ICMP fragments, but for some ARP; of which none is selected.
    assert!(
        packets + lost <= came && packets + lost > came - 20,
        "{told} of {came}"
    );
    assert!(std::fs::metadata(&file).unwrap().len() > 10_000_000);
    world.finish(&[("RING_FULL", Any)]);
}
