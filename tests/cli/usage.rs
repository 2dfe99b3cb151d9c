//! Every kind of bad command line: its one line, and exit code 2. Then what is not an error.

use super::{Ended, Scratch, vswitch};

/// A command line, and the line it gets after `error: `.
const BAD: &[(&str, &str)] = &[
    ("fbd", "fbd: no such command; fix: vswitch fdb"),
    ("bananas", "bananas: no such command; fix: vswitch --help"),
    (
        "d",
        "d: the beginning of drops, doctor, demo; fix: vswitch --help",
    ),
    ("fdb fush", "fush: no such command; fix: vswitch fdb flush"),
    (
        "config",
        "vswitch config: needs one of check; fix: vswitch config --help",
    ),
    (
        "--prots a",
        "--prots: no such flag or word here; fix: write --ports",
    ),
    (
        "replay x.pcap",
        "replay: neither -i nor --offline says where to; fix: vswitch replay x.pcap --offline",
    ),
    (
        "replay x.pcap -i a --gateway 10.9.0.1/24",
        "a run's flags with -i: nothing is switched: the frames are only sent; \
             fix: vswitch replay x.pcap --offline",
    ),
    (
        "replay x.pcap --offline --state f",
        "--state: means nothing offline; fix: leave it out",
    ),
    (
        "replay x.pcap --offline --route 10.0.0.1/8",
        "--route 10.0.0.1/8: 10.0.0.1 is not the first address of a /8; \
             fix: --route 0.0.0.0/0=192.0.2.1",
    ),
    (
        "replay x.pcap -i a -p 0",
        "--pps 0: not a number from 0.01 to 100000000; fix: --pps 10000",
    ),
    ("-Z", "-Z: no such flag or word here; fix: vswitch --help"),
    (
        "fdb show extra",
        "extra: no such flag or word here; fix: vswitch fdb show --help",
    ),
    (
        "",
        "ports: a switch needs at least one; fix: vswitch --ports veth1,veth2 --uplink eth0",
    ),
    (
        "--ports a,a",
        "a: two ports of the same device; fix: name it once",
    ),
    (
        "--ports a,tap:a",
        "tap:a: two ports of the same device; fix: name it once",
    ),
    (
        "--ports a --uplink a",
        "a: a port and the uplink at once; fix: leave a out of --ports",
    ),
    (
        "--port",
        "--port: a value is missing; fix: --port veth1,worker=0,ring=4MiB",
    ),
    (
        "--port veth1,mtu=9",
        "--port veth1,mtu=9: no option `mtu`; a port has mac, worker, ring, fdb-max, \
             isolated; \
             fix: --port veth1,worker=0,ring=4MiB",
    ),
    (
        "--ports vhost:x",
        "--ports vhost:x: `vhost:x`: no such kind of port `vhost`; a port is INTERFACE or \
             tap:NAME; fix: --ports veth1,tap:web0",
    ),
    (
        "--ports a --port a,worker=2 --workers 2",
        "a: worker 2 of 2: they count from 0; fix: --workers 3",
    ),
    (
        "--ports a --port a,fdb-max=9 --fdb-max 8",
        "a: fdb-max 9 is more than the whole table's 8; fix: --fdb-max 9",
    ),
    (
        "--port a,mac=2:0:0:0:0:1 --port b,mac=2:0:0:0:0:1",
        "b: mac 02:00:00:00:00:01 is fixed to a already; fix: fix it to one port",
    ),
    (
        "--ageing 3",
        "--ageing 3: not a whole number from 10 to 1000000; fix: --ageing 300",
    ),
    (
        "--ageing 30 --ageing 40",
        "--ageing: given twice; fix: vswitch --help",
    ),
    (
        "--fdb-max 1000001",
        "--fdb-max 1000001: not a whole number from 1 to 1000000; fix: --fdb-max 8192",
    ),
    (
        "--workers 65",
        "--workers 65: not a whole number from 1 to 64; fix: --workers 2",
    ),
    (
        "--cpus 1,1",
        "--cpus 1,1: not a rising list of processors such as 0-1,3; fix: --cpus 0-1,3",
    ),
    (
        "--metrics 9777",
        "--metrics 9777: not an address with a port such as 127.0.0.1:9777; \
             fix: --metrics 127.0.0.1:9777",
    ),
    (
        "-j metrics",
        "--json: metrics have a format of their own; fix: vswitch -j -s port",
    ),
    (
        "--busy-poll -1",
        "-1: no such flag or word here; fix: vswitch --help",
    ),
    (
        "--nat-sessions 0",
        "--nat-sessions 0: not a whole number from 1 to 16777216; fix: --nat-sessions 262144",
    ),
    (
        "--nat-ports 80-90",
        "--nat-ports 80-90: not a range such as 61000-65535 within 1024-65535; \
             fix: --nat-ports 61000-65535",
    ),
    (
        "--nat-filter x",
        "--nat-filter x: not one of apdf, adf, eif; fix: --nat-filter apdf",
    ),
    (
        "--nat-filter udp=x",
        "--nat-filter udp=x: not one of apdf, adf, eif; fix: --nat-filter apdf",
    ),
    (
        "-p 8080",
        "--publish 8080: the target is missing: HPORT:TARGET[:CPORT]; \
             fix: --publish 8080:veth1:80",
    ),
    (
        "-p 80-90:a:80-85",
        "--publish 80-90:a:80-85: 11 host ports to 6 target ports: the ranges must have the \
             same length; fix: --publish 8080:veth1:80",
    ),
    (
        "--ports a -p 80:a -p 127.0.0.1:80:a:81",
        "--publish 127.0.0.1:80:a:81/tcp: port is already published by 80:a/tcp; \
             fix: another host port, or vswitch nat unpublish 0.0.0.0:80/tcp",
    ),
    (
        "--ports a --uplink b -p 62000:a:80",
        "--publish 62000:a:80/tcp: within 61000-65535, the ports that NAT takes of the shared \
             address; fix: a host port below 61000, or move the range: --nat-ports 63268-65535",
    ),
    (
        "--ports a --nat-pool 192.0.2.20",
        "--nat-pool: means nothing without an uplink; fix: add --uplink eth0",
    ),
    (
        "--ports a --uplink b --gateway 10.9.0.1/24 --nat-pool 10.9.0.7",
        "--nat-pool 10.9.0.7: 10.9.0.7 is in the members' network 10.9.0.1/24; \
             fix: addresses of the uplink's network",
    ),
    (
        "--nat-quota cats=9",
        "--nat-quota cats=9: `cats` is none of sessions, ports, half-open, rate, failed; \
             fix: --nat-quota sessions=10000,ports=1000",
    ),
    (
        "--nat-helpers sip",
        "--nat-helpers sip: `sip` is none of ftp, tftp; fix: --nat-helpers ftp,tftp",
    ),
    (
        "--no-nat-for 10.0.0.1/8",
        "--no-nat-for 10.0.0.1/8: `10.0.0.1/8` has bits behind its prefix: write 10.0.0.0/8; \
             fix: --no-nat-for 10.0.0.0/8",
    ),
    (
        "--state /var/lib/",
        "--state /var/lib/: the path of a file is needed; \
             fix: --state /var/lib/vswitch/vswitch0.state",
    ),
    (
        "--nat-profile x",
        "--nat-profile x: not one of rfc, linux; fix: --nat-profile rfc",
    ),
    (
        "--gateway 10.77.0.0/24",
        "--gateway 10.77.0.0/24: the first or last address of 10.77.0.0/24 is no host; \
             fix: --gateway 10.77.0.1/24",
    ),
    (
        "--gateway-mac ff:ff:ff:ff:ff:ff",
        "--gateway-mac ff:ff:ff:ff:ff:ff: a group or zero address, which no station may \
             have; fix: --gateway-mac 02:00:00:00:00:01",
    ),
    (
        "--uplink a-name-of-16-byt",
        "--uplink a-name-of-16-byt: longer than the 15 bytes an interface name may have; \
             fix: --uplink eth0",
    ),
    (
        "--ports a --nat-ports 61000-62000",
        "--nat-ports: means nothing without an uplink; fix: add --uplink eth0",
    ),
    (
        "--ports a --uplink b --uplink-mac 2:0:0:0:0:1",
        "--uplink-mac: belongs to an address of the switch's own; \
             fix: add --uplink-address CIDR",
    ),
    (
        "--ports a --uplink b --no-nat --nat-ports 61000-62000",
        "--nat-ports: means nothing with --no-nat; fix: leave one of them out",
    ),
    (
        "--ports a --uplink b --gateway 10.0.0.1/8 --uplink-address 10.9.0.2/24",
        "--gateway 10.0.0.1/8: the same network as --uplink-address 10.9.0.2/24; \
             fix: --gateway 10.77.0.1/24",
    ),
    (
        "port set veth1 ring=4MiB",
        "ring=4MiB: ring is set when a port is added; while it runs only worker changes; \
             fix: vswitch port set --help",
    ),
    (
        "port set veth1 worker=64",
        "worker=64: worker: not a whole number from 0 to 63; fix: vswitch port set --help",
    ),
    (
        "port set veth1",
        "worker=N: missing; fix: vswitch port set --help",
    ),
    (
        "--ports a fdb",
        "run flags before `fdb`: they belong to `vswitch run`; \
             fix: vswitch fdb --help",
    ),
    (
        "-s doctor",
        "-s, -d, -o or --brief before `doctor`: they belong to tables; fix: vswitch -s port",
    ),
    (
        "--socket /x --ports a",
        "--socket: a running vswitch names its own: RUN_DIR/NAME.sock; \
             fix: --run-dir DIR --name NAME",
    ),
    (
        "--color=red fdb",
        "--color red: not one of auto, always, never; fix: --color=auto",
    ),
    (
        "-q -v fdb",
        "--quiet: not with --verbose; fix: vswitch fdb --help",
    ),
    (
        "--name a/b fdb",
        "--name a/b: a name has 1 to 15 letters, digits, `.`, `_`, `-`, and starts with a \
             letter or digit; fix: --name vswitch0",
    ),
    (
        "clean x --all",
        "NAME: not with --all; fix: vswitch clean --help",
    ),
    (
        "completion tcsh",
        "tcsh: not one of bash, zsh, fish, elvish; fix: vswitch completion --help",
    ),
    (
        "config check",
        "FILE: missing; fix: vswitch config check --help",
    ),
    (
        "drops --why NO_ROUT",
        "--why NO_ROUT: no such reason; is it NO_ROUTE?; fix: --why NO_ROUTE",
    ),
    (
        "fdb add 1:2 dev x",
        "1:2: not a MAC address (expected six hex pairs such as 02:00:00:00:00:01); \
             fix: vswitch fdb add --help",
    ),
    (
        "fdb add 02:00:00:00:00:01 to veth1",
        "to: the word `dev` belongs here; fix: vswitch fdb add --help",
    ),
    (
        "fdb add 02:00:00:00:00:01",
        "dev, PORT: missing; fix: vswitch fdb add --help",
    ),
    (
        "fdb flush dev",
        "PORT: missing; fix: vswitch fdb flush --help",
    ),
    (
        "bench --vs linux",
        "--vs linux: \"linux\" is none of vswitch, bridge, ovs, ovs-tso, testpmd, testpmd-xdp, \
             vde, direct; fix: --vs bridge,ovs",
    ),
    (
        "bench --vs bridge,bridge",
        "--vs bridge,bridge: bridge: given twice; fix: --vs bridge,ovs",
    ),
    (
        "bench --test tcp,,rr",
        "--test tcp,,rr: \"\" is none of tcp, tcp8, udp64, udp64-each, udp1400, rr, crr, \
             nat-tcp, nat-tcp-r, nat-crr, nat-keep, nat-pub, flood, ports; \
             fix: --test tcp,udp64,rr",
    ),
    (
        "bench --time 0.05",
        "--time 0.05: not a number of seconds from 0.1 to 600; fix: --time 5",
    ),
    (
        "bench --time nan",
        "--time nan: not a number of seconds from 0.1 to 600; fix: --time 5",
    ),
    (
        "bench --pairs 101",
        "--pairs 101: not a whole number from 1 to 100; fix: --pairs 5",
    ),
    (
        "bench --ports-count 1",
        "--ports-count 1: not a whole number from 2 to 1000; fix: --ports-count 256",
    ),
    (
        "bench --curve --loads 20,101",
        "--loads 20,101: not a whole number from 1 to 100; fix: --loads 20,50,100",
    ),
    (
        "bench --loads 20",
        "--curve: missing; fix: vswitch bench --help",
    ),
    (
        "bench --curve --test tcp,rr",
        "--curve: it is of the test udp64, which is not among --test; fix: --test tcp,rr,udp64",
    ),
    (
        "bench -- --busy-pol 200",
        "--busy-pol: no such flag or word here; fix: write --busy-poll",
    ),
    (
        "bench -- --ports veth1",
        "--ports: the tests decide it; fix: leave --ports out",
    ),
    (
        "bench -- --busy-poll 200 --name=x",
        "--name: the tests decide it; fix: leave --name out",
    ),
    (
        "bench -- --help",
        "after `--`: belong flags of a run, which help is not; fix: vswitch run --help",
    ),
    (
        "bench -o x --export-markdown x",
        "x: one file cannot be both JSON and Markdown; fix: --export-markdown run.md",
    ),
    (
        "report run.json -o run.json",
        "run.json: the page would replace what was measured; fix: -o run.html",
    ),
    ("report", "FILE: missing; fix: vswitch report --help"),
];

/// Goal: no bad input gets more than one line, and none without a reason and something to do.
#[test]
fn every_bad_command_line_gets_one_line_with_a_fix_and_exit_code_2() {
    for (words, line) in BAD {
        let expected = Ended {
            code: 2,
            stdout: String::new(),
            stderr: format!("error: {line}\n"),
        };
        assert_eq!(vswitch(words, &[]), expected, "vswitch {words}");
    }
}

#[test]
fn global_flags_go_before_and_after_any_noun_and_iproute_spellings_are_understood() {
    let scratch = Scratch::new();
    let run_dir = scratch.path().display();
    for words in [
        "--name lab -j fdb",
        "fdb --name lab",
        "fdb show --name lab -s",
        "-s -d -o fdb --name lab",
        "-stats -details -br -json --name lab fd sh",
        "--name lab neigh flush",
        "nat flush --name lab",
        "port del tap:web0 --name lab",
        "stat --name lab",
        "-s drops -o show -d --name lab",
        "--name lab fdb flush dev veth1",
    ] {
        let ended = vswitch(&format!("{words} --run-dir {run_dir}"), &[]);
        let line = format!(
            "error: no vswitch named lab is running: nobody answers on {run_dir}/lab.sock; \
             fix: vswitch --name lab --ports veth1,veth2\n"
        );
        assert_eq!((ended.code, ended.stderr), (3, line), "vswitch {words}");
    }
}

#[test]
fn help_version_completion_and_manual_go_to_stdout() {
    let scratch = Scratch::new();
    let help = vswitch("--help", &[]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    super::snapshot("help.txt", &help.stdout);
    assert_eq!(
        vswitch("-V", &[]).stdout,
        concat!("vswitch ", env!("CARGO_PKG_VERSION"), "\n")
    );
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let script = vswitch(&format!("completion {shell}"), &[]);
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("nat-sessions"), "{shell}");
    }
    assert!(vswitch("man", &[]).stdout.starts_with(".ie"), "roff");
    let pages = vswitch("man --out", &[scratch.path()]);
    assert_eq!((pages.code, pages.stdout.as_str()), (0, ""));
    assert!(
        pages
            .stderr
            .ends_with(&format!("pages written to {}\n", scratch.path().display()))
    );
    let mut names: Vec<_> = std::fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    super::snapshot("man-pages.txt", &format!("{}\n", names.join("\n")));
}

#[test]
fn drop_reasons_are_explained_without_a_running_switch() {
    let one = vswitch("drops --why no_route", &[]);
    assert_eq!(
        one.stdout,
        "NO_ROUTE\n  No route to the destination; the sender was told (ICMP 3/0).\n  \
         The frame was dropped as a whole.\n  fix: ip route add DESTINATION via ROUTER dev UPLINK\n"
    );
    let all = vswitch("drops --why", &[]).stdout;
    for reason in switch::verdict::DropReason::ALL {
        assert!(all.contains(&format!("{}\n", reason.word())));
    }
    let json = vswitch("-j drops --why NO_ROUTE", &[]).stdout;
    assert!(json.starts_with(r#"[{"schema":"vswitch.drop/1","reason":"NO_ROUTE","port":null,"#));
}

#[test]
fn the_kernels_own_commands_are_explained_and_nothing_is_done() {
    let shared = vswitch(
        "--explain --ports veth1,tap:web0 --uplink eth0 --ageing 60",
        &[],
    );
    assert_eq!((shared.code, shared.stderr.as_str()), (0, ""));
    let own = "run --name lab --explain --port veth1,mac=2:0:0:0:0:b,fdb-max=7 --uplink eth0 \
               --uplink-address 192.0.2.9/24 --gateway 10.1.2.3/20 --gateway-mac 2:0:0:0:0:1";
    let own = vswitch(own, &[]).stdout;
    let alone = vswitch("--explain --ports veth1 --no-nat", &[]).stdout;
    super::snapshot("explain.txt", &[shared.stdout, own, alone].join("\n"));
}

#[test]
fn the_name_may_come_from_the_environment_and_a_flag_overrides_it() {
    let run = |words: &str, name: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vswitch"));
        command
            .args(words.split_whitespace())
            .env("VSWITCH_NAME", name);
        super::ended(command.output().unwrap()).stderr
    };
    assert!(run("fdb --run-dir /nowhere", "lab").contains("/nowhere/lab.sock"));
    assert!(run("fdb --run-dir /nowhere --name x", "lab").contains("/nowhere/x.sock"));
    assert!(run("fdb", "a/b").starts_with("error: --name a/b: a name has 1 to 15 letters"));
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    use std::process::{Command, Stdio};
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
    let output = command
        .args(["drops", "--why"])
        .stdout(writer)
        .stderr(Stdio::piped());
    let ended = super::ended(output.spawn().unwrap().wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
