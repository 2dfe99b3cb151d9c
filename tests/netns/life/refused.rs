//! Bad input: one line that says what, why and what to type instead, the exit code, and a host on
//! which nothing has changed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::Duration;

use super::bed::{Bed, index_of, netlink};

/// Goal: a start that is refused says so in exactly one line and changes nothing. Method: the
/// program runs on a host prepared by `prepare`, whose snapshots before and after must be equal.
fn refuses(prepare: impl FnOnce(&Bed), words: &str, code: i32, line: &str) {
    let Some(bed) = Bed::new(2) else { return };
    prepare(&bed);
    refuses_on(&bed, words, code, line);
}

fn refuses_on(bed: &Bed, words: &str, code: i32, line: &str) {
    let before = bed.snapshot();
    let ended = bed.run(words);
    assert_eq!(ended.stderr, [line], "{words}");
    assert_eq!(ended.code, Some(code), "{words}");
    before.assert_same(&bed.snapshot());
}

fn as_it_is(_: &Bed) {}

#[test]
fn an_interface_that_is_not_there_with_a_name_that_is_near() {
    refuses(
        as_it_is,
        "--ports veth1,vteh2",
        1,
        "error: vteh2: no such interface; did you mean veth2?; fix: ip -br link",
    );
}

#[test]
fn an_interface_that_is_not_there_with_no_name_near() {
    refuses(
        as_it_is,
        "--ports veth1,wlan7",
        1,
        "error: wlan7: no such interface; fix: ip link add wlan7 type veth peer name eth0 netns \
         NAME, or see: ip -br link",
    );
}

#[test]
fn an_uplink_that_is_not_there() {
    refuses(
        as_it_is,
        "--ports veth1 --uplink eth9",
        1,
        "error: eth9: no such interface; did you mean eth0?; fix: ip -br link",
    );
}

/// Goal: a user without the capabilities is told which, and how to get them. Method: the program
/// runs as the user nobody, from a directory that everybody can read.
#[test]
fn a_user_without_capabilities() {
    let Some(bed) = Bed::new(1) else { return };
    let place = bed.run_dir().join("bin");
    std::fs::create_dir(&place).unwrap();
    let program = place.join("vswitch");
    std::fs::copy(env!("CARGO_BIN_EXE_vswitch"), &program).unwrap();
    let before = bed.snapshot();
    let mut command = std::process::Command::new(program);
    command.arg("--run-dir").arg(bed.run_dir());
    command.args(["--ports", "veth1"]).uid(65_534).gid(65_534);
    let ended = bed.run_command(&mut command);
    let line = "error: missing CAP_NET_ADMIN and CAP_NET_RAW: raw sockets and interface settings \
                are not allowed without it; fix: sudo vswitch ..., or setcap \
                cap_net_admin,cap_net_raw+ep $(command -v vswitch)";
    assert_eq!(ended.stderr, [line]);
    assert_eq!(ended.code, Some(1));
    before.assert_same(&bed.snapshot());
}

#[test]
fn an_interface_that_belongs_to_a_bridge() {
    refuses(
        |bed| bed.h().bridge("br0", &["veth2"]).unwrap(),
        "--ports veth1,veth2",
        1,
        "error: veth2: belongs to br0, which takes its frames; fix: ip link set veth2 nomaster",
    );
}

#[test]
fn an_uplink_that_belongs_to_a_bridge() {
    refuses(
        |bed| bed.h().bridge("br0", &["eth0"]).unwrap(),
        "--ports veth1 --uplink eth0",
        1,
        "error: eth0: belongs to br0, which has its frames and its address; fix: --uplink br0",
    );
}

#[test]
fn an_interface_with_an_address() {
    refuses(
        |bed| {
            bed.h()
                .address("veth2", Ipv4Addr::new(192, 0, 2, 1), 24)
                .unwrap();
        },
        "--ports veth1,veth2",
        1,
        "error: veth2: has the address 192.0.2.1/24, which the host would answer for beside the \
         switch; fix: ip addr del 192.0.2.1/24 dev veth2",
    );
}

#[test]
fn an_uplink_that_is_a_port_as_well() {
    refuses(
        as_it_is,
        "--ports veth1,eth0 --uplink eth0",
        2,
        "error: eth0: a port and the uplink at once; fix: leave eth0 out of --ports",
    );
}

#[test]
fn a_gateway_outside_of_the_containers_subnet() {
    refuses(
        as_it_is,
        "--ports veth1,veth2 --gateway 10.1.2.1/24",
        1,
        "error: --gateway 10.1.2.1/24: no peer is in that subnet; veth1 has 10.9.0.2/24; fix: \
         --gateway 10.9.0.1/24",
    );
}

#[test]
fn a_gateway_that_a_container_is() {
    let Some(bed) = Bed::new(2) else { return };
    let c2 = bed.net.c(2).netns_name().unwrap().to_owned();
    refuses_on(
        &bed,
        "--ports veth1,veth2 --gateway 10.9.0.3/24",
        1,
        &format!(
            "error: --gateway 10.9.0.3/24: is taken by eth0 in {c2} behind veth2; fix: --gateway \
             with another address of the subnet"
        ),
    );
}

#[test]
fn a_gateway_that_is_the_networks_own_address() {
    refuses(
        as_it_is,
        "--ports veth1,veth2 --gateway 10.9.0.255/24",
        2,
        "error: --gateway 10.9.0.255/24: the first or last address of 10.9.0.0/24 is no host; fix: \
         --gateway 10.77.0.1/24",
    );
}

#[test]
fn a1_7_a_subnet_that_is_the_uplinks() {
    refuses(
        |bed| {
            bed.net
                .c(1)
                .address("eth0", Ipv4Addr::new(203, 0, 113, 50), 24)
                .unwrap();
        },
        "--ports veth1 --uplink eth0 --gateway 203.0.113.77/24",
        1,
        "error: subnet 203.0.113.0/24: overlaps 203.0.113.254/24 of eth0: packets could go to \
         either; fix: renumber the containers, for example --gateway 10.77.0.1/24",
    );
}

#[test]
fn a_nat_port_on_which_the_host_listens() {
    let Some(bed) = Bed::new(1) else { return };
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 61_005));
    let listen = || TcpListener::bind(any);
    let _listener = bed.h().attempt(|| "listen".to_owned(), listen).unwrap();
    refuses_on(
        &bed,
        "--ports veth1 --uplink eth0 --nat-ports 61000-61999",
        1,
        "error: --nat-ports 61000-61999: the host listens on tcp port 61005, which would go deaf; \
         fix: another --nat-ports; who it is: ss -tlnp 'sport = :61005'",
    );
}

#[test]
fn a_name_that_is_taken() {
    let Some(bed) = Bed::new(2) else { return };
    let first = bed.start("--ports veth1");
    let pid = first.pid();
    refuses_on(
        &bed,
        "--ports veth2",
        1,
        &format!(
            "error: vswitch vswitch0: is running already (pid {pid}); fix: vswitch --name OTHER, \
             or stop that one"
        ),
    );
    assert!(
        bed.reaches(bed.net.c(1), bed.net.gateway()),
        "the first one goes on"
    );
}

#[test]
fn a_word_the_file_does_not_know_is_underlined() {
    let Some(bed) = Bed::new(1) else { return };
    let file = bed.run_dir().join("lab.toml");
    std::fs::write(&file, "ports = [\"veth1\"]\nuplnik = \"eth0\"\n").unwrap();
    let before = bed.snapshot();
    let ended = bed.run(&format!("run --config {}", file.display()));
    let shown = file.display();
    let lines = [
        format!("error: {shown}:2:1: unknown key `uplnik`; fix: write `uplink`"),
        "  |".to_owned(),
        "2 | uplnik = \"eth0\"".to_owned(),
        "  | ^^^^^^".to_owned(),
    ];
    assert_eq!(ended.stderr, lines);
    assert_eq!(ended.code, Some(1));
    before.assert_same(&bed.snapshot());
}

#[test]
fn a_prefix_longer_than_an_address() {
    refuses(
        as_it_is,
        "--ports veth1 --gateway 10.9.0.1/33",
        2,
        "error: --gateway 10.9.0.1/33: a prefix length from 8 to 30 is needed, not 33; fix: \
         --gateway 10.77.0.1/24",
    );
}

#[test]
fn a_port_named_twice() {
    refuses(
        as_it_is,
        "--ports veth1,veth2,tap:veth1",
        2,
        "error: tap:veth1: two ports of the same device; fix: name it once",
    );
}

#[test]
fn a_tap_with_a_name_too_long() {
    refuses(
        as_it_is,
        "--ports veth1,tap:a-name-of-16-byt",
        2,
        "error: --ports veth1,tap:a-name-of-16-byt: `tap:a-name-of-16-byt`: longer than the 15 \
         bytes an interface name may have; fix: --ports veth1,tap:web0",
    );
}

#[test]
fn the_loopback_as_a_port() {
    refuses(
        as_it_is,
        "--ports veth1,lo",
        1,
        "error: lo: the loopback carries no Ethernet; fix: ip -br link",
    );
}

#[test]
fn a_worker_beyond_those_asked_for() {
    refuses(
        as_it_is,
        "--workers 2 --port veth1,worker=2",
        2,
        "error: veth1: worker 2 of 2: they count from 0; fix: --workers 3",
    );
}

#[test]
fn a_worker_beyond_those_there_are_by_default() {
    let cores = thread::available_parallelism().unwrap().get();
    let workers = (cores / 2).clamp(1, 64);
    refuses(
        as_it_is,
        "--port veth1,worker=63",
        1,
        &format!("error: veth1: worker 63 of {workers}: they count from 0; fix: --workers 64"),
    );
}

#[test]
fn a_processor_that_is_not_there() {
    let cpus = switch::port::sys::affinity::allowed_cpus().unwrap();
    let cpus: Vec<u16> = cpus
        .into_iter()
        .map(|cpu| u16::try_from(cpu).unwrap())
        .collect();
    let list = vswitch_cli::config::diff::cpu_list(&cpus);
    refuses(
        as_it_is,
        "--ports veth1 --cpus 0,999",
        1,
        &format!(
            "error: --cpus 0,999: no processor 999 for this process, which may run on {list}; \
             fix: --cpus {list}"
        ),
    );
}

#[test]
fn a_tap_whose_name_another_kind_of_interface_has() {
    refuses(
        as_it_is,
        "--ports veth1,tap:veth2",
        1,
        "error: tap:veth2: an interface of that name is there and is no TAP; fix: choose another \
         name, such as tap:web0",
    );
}

/// Goal: a start that fails half-way undoes what it did, also a port that was brought up. Method:
/// the last port is a TAP that another switch has.
#[test]
fn a_start_that_fails_half_way() {
    let Some(bed) = Bed::new(2) else { return };
    bed.h().set_up("veth2", false).unwrap();
    let first = bed.start("--name first --ports tap:web0");
    let before = bed.snapshot();
    let ended = bed.run("--name second --ports veth1,veth2,tap:web0");
    let lines = [
        "warning: veth2: is down, and is brought up while the switch runs; fix: ip link set veth2 \
         up",
        "error: web0: cannot create or attach the tap: Device or resource busy (os error 16); fix: \
         another process has it open: look for it with fuser -v /dev/net/tun",
    ];
    assert_eq!(ended.stderr, lines);
    assert_eq!(ended.code, Some(1));
    before.assert_same(&bed.snapshot());
    drop(first);
}

#[test]
fn a_host_port_whose_name_is_taken() {
    refuses(
        as_it_is,
        "--name veth2 --ports veth1 --uplink eth0",
        1,
        "error: --name veth2: the host port would be called veth2, and that interface is there; \
         fix: vswitch --name OTHER, or --no-host-port",
    );
}

/// Goal: the gateway of another switch is an address of the host, and taken.
#[test]
fn a_gateway_that_another_switch_is() {
    let Some(bed) = Bed::new(2) else { return };
    let red = bed.start("--name red --ports veth1");
    refuses_on(
        &bed,
        "--name blue --ports veth2",
        1,
        "error: --gateway 10.9.0.1/24: is an address of the host, on red; fix: ip addr del \
         10.9.0.1/24 dev red",
    );
    drop(red);
}

/// Goal: a port that vanishes while the switch starts leaves nothing behind. Method: the second
/// port is deleted at moments spread over a start; whichever way each ends, the host but for that
/// port is as it was.
#[test]
fn a_start_during_which_a_port_vanishes() {
    let mut failed = 0;
    for delay in 0..12 {
        let Some(bed) = Bed::new(2) else { return };
        let before = bed.snapshot().without("veth2");
        let mut process = bed
            .h()
            .spawn(&mut bed.command("--ports veth1,veth2"))
            .unwrap();
        thread::sleep(Duration::from_millis(2 * delay));
        let index = index_of(bed.h(), "veth2");
        netlink(bed.h(), |n| n.delete_link(index));
        let ready = process.wait_line(super::bed::PATIENCE, |l| l.contains("ready in"));
        let status = process.stop(super::bed::PATIENCE).unwrap();
        failed += u32::from(ready.is_none());
        let code = if ready.is_some() { 0 } else { 1 };
        assert_eq!(status.code(), Some(code), "{:#?}", process.stderr());
        before.assert_same(&bed.snapshot().without("veth2"));
    }
    assert!(failed > 0, "none of the starts met the deletion");
}

#[test]
fn a6_1_a_publish_on_an_address_that_is_not_the_hosts() {
    refuses(
        as_it_is,
        "--ports veth1 --publish 198.51.100.9:80:veth1",
        1,
        "error: --publish 198.51.100.9:80:veth1/tcp: 198.51.100.9 is none of this host's \
         addresses; fix: leave the address out, or see: ip -4 addr",
    );
}

#[test]
fn a4_4c_a_pool_with_the_hosts_own_address() {
    refuses(
        as_it_is,
        "--ports veth1 --uplink eth0 --nat-pool 203.0.113.250-203.0.113.254",
        1,
        "error: --nat-pool 203.0.113.250-203.0.113.254: 203.0.113.254 is the host's own address; \
         fix: addresses of the uplink's network that nobody has",
    );
}

/// Goal: a port that a program has is refused with the program's name, and the host stays as it
/// was although ports were open by then.
#[test]
fn a6_4_a_publish_of_a_port_that_a_program_has() {
    let Some(bed) = Bed::new(1) else { return };
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 8080));
    let _held = bed.h().run(bind).unwrap().unwrap();
    let before = bed.snapshot();
    let ended = bed.run("--ports veth1 --publish 8080:veth1:80");
    let [line] = &ended.stderr[..] else {
        panic!("{ended:?}")
    };
    assert!(
        line.contains("port 8080/tcp is already taken by "),
        "{line}"
    );
    let pid = format!("(pid {})", std::process::id());
    assert!(line.contains(&pid), "{line}");
    assert_eq!(ended.code, Some(1));
    before.assert_same(&bed.snapshot());
}
