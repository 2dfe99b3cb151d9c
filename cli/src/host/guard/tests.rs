//! Each rung in a real kernel: the host falls silent, and a packet socket still sees the frames.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

use super::*;
use crate::host::journal::{self, Cleaned, Outcome};
use crate::host::link::VethEnd;
use crate::host::monitor::Monitor;
use crate::host::netns::Netns;
use crate::host::netns::tests::in_fresh_netns;
use crate::host::route::Route;

mod published;
use crate::host::sysctl::conf_key;

const SHORT: Duration = Duration::from_millis(250);
const UPLINK: &str = "203.0.113.254";

/// A journal in a directory of its own.
struct Scratch(PathBuf, Journal);

impl Scratch {
    fn new(what: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vsw-guard-{what}-{}", std::process::id()));
        let (journal, _) = Journal::open(&dir, "t").unwrap();
        Self(dir, journal)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Joins this namespace to a new one by a veth; gives the near index and the far namespace.
fn cable(near: &str, near_ip: Option<&str>, far_ip: &str) -> (u32, Netns) {
    let mut netlink = Netlink::open().unwrap();
    let other = Netns::anonymous().unwrap();
    let far = VethEnd {
        name: "eth0",
        netns: Some(other.as_fd()),
        ..VethEnd::default()
    };
    netlink
        .add_veth(
            &VethEnd {
                name: near,
                ..VethEnd::default()
            },
            &far,
        )
        .unwrap();
    let index = netlink.link_named(near).unwrap().index;
    if let Some(ip) = near_ip {
        netlink.add_address(index, ip.parse().unwrap(), 24).unwrap();
    }
    netlink.set_up(index, true).unwrap();
    if near_ip.is_none() {
        // So that the host can answer, as it could by its default route.
        let subnet = Route::on_link("10.9.0.0".parse().unwrap(), 24, index);
        netlink.add_route(&subnet).unwrap();
    }
    other
        .run(|| {
            let mut inside = Netlink::open().unwrap();
            let eth0 = inside.link_named("eth0").unwrap().index;
            inside
                .add_address(eth0, far_ip.parse().unwrap(), 24)
                .unwrap();
            inside.set_up(eth0, true).unwrap();
            wait_until_running(&mut inside, eth0);
        })
        .unwrap();
    wait_until_running(&mut netlink, index);
    (index, other)
}

/// A link carries frames only after the kernel's link watcher has seen its carrier, which it looks
/// for once a second.
fn wait_until_running(netlink: &mut Netlink, index: u32) {
    let mut monitor = Monitor::open().unwrap();
    while !netlink.link(index).unwrap().running {
        let _ = monitor
            .next(Some(Duration::from_secs(3)))
            .unwrap()
            .expect("the link comes up");
    }
}

fn pings(from: &Netns, target: &str) -> bool {
    let ping = || {
        Command::new("ping")
            .args(["-n", "-c1", "-W1", "-q", target])
            .output()
            .unwrap()
            .status
    };
    from.run(ping).unwrap().success()
}

/// As [`pings`], for when an answer is expected: an address resolution that failed a moment ago is
/// forgotten, and a busy machine gets a second chance.
fn reaches(from: &Netns, target: &str) -> bool {
    forget_neighbours(from);
    (0..3).any(|_| pings(from, target))
}

fn forget_neighbours(of: &Netns) {
    let flush = || {
        Command::new("ip")
            .args(["neigh", "flush", "all"])
            .status()
            .unwrap()
    };
    assert!(of.run(flush).unwrap().success());
}

/// A packet socket on every device of this namespace.
fn tap() -> OwnedFd {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(
        AddressFamily::Packet,
        SockType::Raw,
        flags,
        SockProtocol::EthAll,
    )
    .unwrap()
}

/// How many of the waiting frames are ARP or IPv4.
fn frames_seen(tap: &OwnedFd) -> usize {
    let mut buffer = [0; 2048];
    let mut seen = 0;
    while let Ok(len) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        seen += usize::from(len >= 14 && buffer[12] == 0x08 && [0x00, 0x06].contains(&buffer[13]));
    }
    seen
}

fn port_is_silenced_by(rung: Rung) {
    in_fresh_netns(&format!("guard port {rung}"), || {
        let scratch = Scratch::new(&format!("port{rung:?}"));
        let mut netlink = Netlink::open().unwrap();
        // An address of the host on another interface: the weak host model answers for it.
        netlink
            .add_address(1, "10.9.0.100".parse().unwrap(), 32)
            .unwrap();
        let (index, container) = cable("veth1", None, "10.9.0.2");
        assert!(
            reaches(&container, "10.9.0.100"),
            "without a guard the host answers"
        );

        let guard = Guard::with_ladder(scratch.1.clone(), "t", &[rung]);
        let port = guard.install_port(index, "veth1").unwrap();
        assert_eq!(port.rung(), rung, "{:?}", port.passed_over());
        assert!(
            port.passed_over().is_empty() && port.notes().is_empty(),
            "{port:?}"
        );
        assert_eq!(port.warning(), None);
        let setting = |family, key| sysctl::read(&conf_key(family, "veth1", key)).unwrap();
        assert_eq!(setting("ipv6", "disable_ipv6"), "1");
        assert_eq!(setting("ipv4", "arp_ignore"), "8");
        assert_eq!(setting("ipv4", "forwarding"), "0");
        if rung == Rung::Sysctls {
            assert_eq!(setting("ipv4", "rp_filter"), "1");
            forget_neighbours(&container);
        } else {
            // The rung alone must do it, too.
            sysctl::write(&conf_key("ipv4", "veth1", "arp_ignore"), "0").unwrap();
        }
        let tap = tap();
        assert!(!pings(&container, "10.9.0.100"), "the host still answers");
        assert!(frames_seen(&tap) > 0, "the guard blinds the switch");

        let undone = port.remove();
        assert!(!undone.iter().any(Undone::failed), "{undone:?}");
        assert!(scratch.1.changes().is_empty());
        assert_eq!(setting("ipv6", "disable_ipv6"), "0");
        assert_eq!(setting("ipv4", "arp_ignore"), "0");
        assert_eq!(setting("ipv4", "rp_filter"), "0");
        assert!(
            reaches(&container, "10.9.0.100"),
            "the host has its interface back"
        );
    });
}

#[test]
fn a_port_is_silenced_by_tcx() {
    port_is_silenced_by(Rung::Tcx);
}

#[test]
fn a_port_is_silenced_by_an_nft_owner_table() {
    port_is_silenced_by(Rung::Nft);
}

#[test]
fn a_port_is_silenced_by_a_clsact_filter() {
    port_is_silenced_by(Rung::Clsact);
}

#[test]
fn a_port_is_silenced_by_settings_alone() {
    port_is_silenced_by(Rung::Sysctls);
}

/// What the host says to a TCP connection to one of its closed ports.
#[derive(Debug, PartialEq)]
enum Answer {
    Refused,
    Silence,
}

fn answer(err: &io::Error) -> Answer {
    if err.kind() == io::ErrorKind::ConnectionRefused {
        return Answer::Refused;
    }
    assert!(
        matches!(
            err.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        ),
        "{err}"
    );
    Answer::Silence
}

fn tcp(from: &Netns, port: u16) -> Answer {
    let target = SocketAddr::new(UPLINK.parse().unwrap(), port);
    let result = from
        .run(|| TcpStream::connect_timeout(&target, SHORT))
        .unwrap();
    answer(&result.unwrap_err())
}

fn udp(from: &Netns, port: u16) -> Answer {
    let target = SocketAddr::new(UPLINK.parse().unwrap(), port);
    let result = from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 8])
    });
    answer(&result.unwrap().unwrap_err())
}

fn uplink_is_shared_by(rung: Rung) {
    in_fresh_netns(&format!("guard uplink {rung}"), || {
        let scratch = Scratch::new(&format!("uplink{rung:?}"));
        let (index, outside) = cable("u0", Some(UPLINK), "203.0.113.1");
        assert_eq!(
            (tcp(&outside, 61_000), udp(&outside, 61_000)),
            (Answer::Refused, Answer::Refused)
        );

        let guard = Guard::with_ladder(scratch.1.clone(), "t", &[rung]);
        let addr = UPLINK.parse().unwrap();
        let nat = PortSet::range(61_000, 61_999);
        let rule = Rule::Ports(Shared::of_ports(addr, &nat));
        let mut uplink = guard.install_uplink(index, "u0", rule.clone()).unwrap();
        assert_eq!(uplink.rung(), rung, "{:?}", uplink.passed_over());
        assert_eq!(sysctl::reserved_ports().unwrap().to_string(), "61000-61999");
        let tap = tap();
        for port in [61_000, 61_999] {
            assert_eq!(tcp(&outside, port), Answer::Silence, "{port}");
            assert_eq!(udp(&outside, port), Answer::Silence, "{port}");
        }
        assert!(frames_seen(&tap) >= 4, "the guard blinds the switch");
        for port in [60_999, 62_000] {
            assert_eq!(tcp(&outside, port), Answer::Refused, "{port}");
            assert_eq!(udp(&outside, port), Answer::Refused, "{port}");
        }
        assert!(
            reaches(&outside, UPLINK),
            "the host keeps the rest of its address"
        );

        // The uplink gets another address; then the switch gets its own.
        let other = "203.0.113.9".parse().unwrap();
        let elsewhere = Rule::Ports(Shared::of_ports(other, &nat));
        uplink.update(elsewhere).unwrap();
        assert_eq!(tcp(&outside, 61_000), Answer::Refused);
        uplink.update(Rule::Addresses(vec![other, addr])).unwrap();
        assert_eq!(tcp(&outside, 60_999), Answer::Silence);
        uplink.update(Rule::Nothing).unwrap();
        assert_eq!(tcp(&outside, 60_999), Answer::Refused);
        assert!(sysctl::reserved_ports().unwrap().is_empty());
        uplink.update(rule).unwrap();
        assert_eq!(tcp(&outside, 61_000), Answer::Silence);

        let undone = uplink.remove();
        assert!(!undone.iter().any(Undone::failed), "{undone:?}");
        assert_eq!(tcp(&outside, 61_000), Answer::Refused);
        assert!(sysctl::reserved_ports().unwrap().is_empty());
        assert!(scratch.1.changes().is_empty());
    });
}

#[test]
fn an_uplink_is_shared_by_tcx() {
    uplink_is_shared_by(Rung::Tcx);
}

#[test]
fn an_uplink_is_shared_by_an_nft_owner_table() {
    uplink_is_shared_by(Rung::Nft);
}

#[test]
fn an_uplink_is_shared_by_a_clsact_filter() {
    uplink_is_shared_by(Rung::Clsact);
}

#[test]
fn without_a_rung_a_shared_uplink_is_warned_about_and_an_own_address_is_not_forwarded_to() {
    in_fresh_netns("guard uplink settings", || {
        let scratch = Scratch::new("uplink-settings");
        let (index, _outside) = cable("u0", Some(UPLINK), "203.0.113.1");
        sysctl::write(&conf_key("ipv4", "u0", "forwarding"), "1").unwrap();
        let guard = Guard::with_ladder(scratch.1.clone(), "t", &[Rung::Sysctls]);
        let addr = UPLINK.parse().unwrap();
        let shared = guard
            .install_uplink(
                index,
                "u0",
                Rule::Ports(Shared::of_ports(addr, &PortSet::range(61_000, 61_999))),
            )
            .unwrap();
        assert!(shared.warning().unwrap().contains("--uplink-address"));
        assert_eq!(
            sysctl::read(&conf_key("ipv4", "u0", "forwarding")).unwrap(),
            "1"
        );
        drop(shared);
        let own = guard
            .install_uplink(index, "u0", Rule::Addresses(vec![addr]))
            .unwrap();
        assert_eq!(own.warning(), None);
        assert_eq!(
            sysctl::read(&conf_key("ipv4", "u0", "forwarding")).unwrap(),
            "0"
        );
        drop(own);
        assert_eq!(
            sysctl::read(&conf_key("ipv4", "u0", "forwarding")).unwrap(),
            "1"
        );
    });
}

#[test]
fn the_ladder_takes_the_first_rung_and_says_when_the_interface_is_gone() {
    in_fresh_netns("guard ladder", || {
        let scratch = Scratch::new("ladder");
        let (index, _container) = cable("veth1", None, "10.9.0.2");
        let guard = Guard::new(scratch.1.clone(), "vswitch0");
        let port = guard.install_port(index, "veth1").unwrap();
        // Whatever this kernel can do, everything better was tried and says why not.
        let tried: Vec<Rung> = port.passed_over().iter().map(|(rung, _)| *rung).collect();
        let place = LADDER.iter().position(|rung| *rung == port.rung()).unwrap();
        assert_eq!(tried, LADDER[..place]);
        let gone = guard.install_port(0x7fff_0000, "nope").unwrap_err();
        assert_eq!(errno(&gone), Some(Errno::ENODEV));
        // The interface goes away under the guard.
        Netlink::open().unwrap().delete_link(index).unwrap();
        let undone = port.remove();
        assert!(
            undone.iter().all(|u| matches!(u.outcome, Outcome::Gone)),
            "{undone:?}"
        );
    });
}

fn nft_tables() -> String {
    let out = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_nft_table_goes_with_its_owner_and_a_port_can_come_back() {
    in_fresh_netns("guard nft owner", || {
        let scratch = Scratch::new("owner");
        let (index, container) = cable("veth1", None, "10.9.0.2");
        let guard = Guard::with_ladder(scratch.1.clone(), "lab-1", &[Rung::Nft]);
        assert_eq!(guard.table_name(), "vswitch_lab_1");
        let port = guard.install_port(index, "veth1").unwrap();
        assert!(nft_tables().contains("netdev vswitch_lab_1"));
        drop(port);
        let port = guard.install_port(index, "veth1").unwrap();
        // The container ends; another one gets a port of the same name.
        drop(container);
        let _ = Netlink::open().unwrap().delete_link(index);
        drop(port);
        let (index, _container) = cable("veth1", None, "10.9.0.2");
        let port = guard.install_port(index, "veth1").unwrap();
        assert_eq!(port.rung(), Rung::Nft, "{:?}", port.passed_over());
        drop((port, guard));
        assert!(!nft_tables().contains("vswitch"), "{}", nft_tables());
    });
}

#[test]
fn a_clsact_filter_leaves_others_alone_and_is_cleaned_after_a_sigkill() {
    in_fresh_netns("guard clsact", || {
        let scratch = Scratch::new("clsact");
        let (index, container) = cable("veth1", None, "10.9.0.2");
        Netlink::open()
            .unwrap()
            .add_address(1, "10.9.0.100".parse().unwrap(), 32)
            .unwrap();
        // Somebody else's filter on the first priority.
        let tc = |line: &str| Command::new("tc").args(line.split(' ')).output().unwrap();
        tc("qdisc add dev veth1 clsact");
        let theirs = "filter add dev veth1 ingress pref 1 protocol ip u32 match u32 0 0";
        assert!(tc(theirs).status.success(), "{:?}", tc(theirs));

        let guard = Guard::with_ladder(scratch.1.clone(), "t", &[Rung::Clsact]);
        let port = guard.install_port(index, "veth1").unwrap();
        assert_eq!(port.rung(), Rung::Clsact, "{:?}", port.passed_over());
        assert!(matches!(
            &scratch.1.changes()[..],
            [
                ..,
                Change::Filter {
                    qdisc_made: false,
                    priority: 2,
                    ..
                }
            ]
        ));
        // SIGKILL: no Drop runs, the filter stays.
        std::mem::forget(port);
        assert!(!pings(&container, "10.9.0.100"));
        let undone = scratch.1.finish();
        assert!(
            undone
                .iter()
                .all(|u| matches!(u.outcome, Outcome::Restored)),
            "{undone:?}"
        );
        assert!(reaches(&container, "10.9.0.100"));
        let left = tc("filter show dev veth1 ingress");
        let left = String::from_utf8_lossy(&left.stdout);
        assert!(left.contains("u32") && !left.contains("bpf"), "{left}");

        // Where the qdisc was ours, nothing at all is left.
        tc("qdisc del dev veth1 clsact");
        let before = tc("qdisc show dev veth1").stdout;
        let port = guard.install_port(index, "veth1").unwrap();
        assert_eq!(port.rung(), Rung::Clsact, "{:?}", port.passed_over());
        assert_ne!(tc("qdisc show dev veth1").stdout, before);
        drop(port);
        assert_eq!(tc("qdisc show dev veth1").stdout, before);
    });
}

const INSIDE: &str = "VSW_TEST_IN_USER_NAMESPACE";

/// Runs itself again as root of a user namespace, where bpf(2) is refused.
#[test]
fn in_a_user_namespace_the_ladder_falls_to_the_owner_table() {
    if std::env::var_os(INSIDE).is_some() {
        let scratch = Scratch::new("userns");
        let (index, container) = cable("veth1", None, "10.9.0.2");
        Netlink::open()
            .unwrap()
            .add_address(1, "10.9.0.100".parse::<IpAddr>().unwrap(), 32)
            .unwrap();
        assert!(reaches(&container, "10.9.0.100"));
        let guard = Guard::new(scratch.1.clone(), "t");
        let port = guard.install_port(index, "veth1").unwrap();
        assert_eq!(port.rung(), Rung::Nft, "{:?}", port.passed_over());
        let [(Rung::Tcx, err)] = port.passed_over() else {
            panic!("{port:?}")
        };
        assert!(is_refusal_of_rights(err), "{err}");
        assert!(!pings(&container, "10.9.0.100"));
        return;
    }
    let probe = Command::new("unshare")
        .args(["-U", "-r", "-n", "true"])
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return println!("SKIPPED guard in a user namespace: unshare -U -r -n is refused");
    }
    let exe: PathBuf = std::env::current_exe().unwrap();
    let name = "host::guard::tests::in_a_user_namespace_the_ladder_falls_to_the_owner_table";
    let out = Command::new("unshare")
        .args([Path::new("-U"), Path::new("-r"), Path::new("-n"), &exe])
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("1 passed"), "{out:?}");
}

const VICTIM: &str = "VSW_TEST_GUARD_VICTIM_DIR";

/// Holds a guard until it is killed.
fn be_killed(dir: &Path) {
    let (journal, _) = Journal::open(dir, "victim").unwrap();
    let index = Netlink::open().unwrap().link_named("veth1").unwrap().index;
    let port = Guard::new(journal, "victim")
        .install_port(index, "veth1")
        .unwrap();
    println!("holding {}", port.rung());
    let _ = io::stdin().read_line(&mut String::new());
    unreachable!("killed before its input ends");
}

#[test]
fn a_real_sigkill_leaves_nothing_that_clean_does_not_undo() {
    let name = "host::guard::tests::a_real_sigkill_leaves_nothing_that_clean_does_not_undo";
    if let Some(dir) = std::env::var_os(VICTIM) {
        return be_killed(Path::new(&dir));
    }
    in_fresh_netns("guard sigkill", || {
        let dir = std::env::temp_dir().join(format!("vsw-guard-kill-{}", std::process::id()));
        let (_, container) = cable("veth1", None, "10.9.0.2");
        Netlink::open()
            .unwrap()
            .add_address(1, "10.9.0.100".parse().unwrap(), 32)
            .unwrap();
        assert!(reaches(&container, "10.9.0.100"));
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(VICTIM, &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(victim.stdout.take().unwrap()).lines();
        let holding = said
            .map_while(Result::ok)
            .find(|line| line.contains("holding"));
        assert!(holding.is_some(), "the victim did not start");
        assert!(!pings(&container, "10.9.0.100"));
        let living = journal::clean(&dir, None).unwrap();
        assert!(matches!(living[..], [Cleaned::Live { pid, .. }] if pid == victim.id()));

        victim.kill().unwrap();
        victim.wait().unwrap();
        let cleaned = journal::clean(&dir, None).unwrap();
        let [Cleaned::Undone { undone, .. }] = &cleaned[..] else {
            panic!("{cleaned:?}")
        };
        assert_eq!(undone.len(), 2, "{undone:?}"); // forwarding was off already
        assert!(
            undone
                .iter()
                .all(|u| matches!(u.outcome, Outcome::Restored)),
            "{undone:?}"
        );
        assert!(
            reaches(&container, "10.9.0.100"),
            "something still silences the host"
        );
        assert!(!nft_tables().contains("vswitch"));
        std::fs::remove_dir_all(&dir).unwrap();
    });
}
