//! The fixture: namespaces, the program in one of them, and what must hold at the end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde_json::Value;
use vswitch_cli::lab::traffic::ping::{Ping, PingReport};
use vswitch_cli::lab::traffic::snmp::Counters;
use vswitch_cli::lab::{Host, Lab, LabError, Plan, Process, Subnet, Topology};

use super::ethtool;
use super::watch::{Rules, Watch};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Name of the switch and of its host port.
pub(super) const NAME: &str = "vsw";
/// Counters that must stand still, in every namespace.
const CHECKSUMS: [(&str, &str); 3] = [
    ("Tcp", "InCsumErrors"),
    ("Udp", "InCsumErrors"),
    ("Icmp", "InCsumErrors"),
];
/// Counters of answers that the host's own stack would give.
const ANSWERS: [(&str, &str); 2] = [("Tcp", "OutRsts"), ("Icmp", "OutDestUnreachs")];

/// How often a drop reason must have been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// Exactly so often.
    Exactly(u64),
    /// At least so often.
    AtLeast(u64),
    /// Any number, none included.
    Any,
}

use Times::{Any, AtLeast, Exactly};

/// Something done to the network before the program starts.
type Preparation = Box<dyn Fn(&Topology)>;

/// What a world shall be like.
pub(super) struct Setup {
    plan: Plan,
    args: Vec<String>,
    uplink: bool,
    ipv6: bool,
    finished: bool,
    refusals: bool,
    routed: bool,
    answers: bool,
    csum_errors: bool,
    prepare: Vec<Preparation>,
}

/// Two containers, a host port, an uplink with the host's address: the defaults.
pub(super) fn world() -> Setup {
    Setup {
        plan: Plan::default(),
        args: Vec::new(),
        uplink: true,
        ipv6: false,
        finished: false,
        refusals: false,
        routed: false,
        answers: false,
        csum_errors: false,
        prepare: Vec::new(),
    }
}

impl Setup {
    /// So many containers.
    pub(super) fn containers(mut self, count: u8) -> Self {
        self.plan.containers = count;
        self
    }

    /// Changes the plan of the network.
    pub(super) fn plan(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }

    /// More arguments of the program, split at blanks.
    pub(super) fn args(mut self, words: &str) -> Self {
        self.args
            .extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// A plain switch, without a way out.
    pub(super) fn no_uplink(mut self) -> Self {
        self.uplink = false;
        self
    }

    /// The kernels speak IPv6 too.
    pub(super) fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// An uplink without offloads, so that the observer outside sees finished frames and judges
    /// their checksums and lengths.
    pub(super) fn finished(mut self) -> Self {
        self.finished = true;
        self.prepare(|net| ethtool::switch_off(&net.h, Topology::UPLINK, ethtool::SENDER))
    }

    /// Containers send without offloads.
    pub(super) fn plain_containers(self) -> Self {
        self.prepare(|net| {
            for c in &net.containers {
                ethtool::switch_off(c, "eth0", ethtool::SENDER);
            }
        })
    }

    /// Containers refuse what comes from outside, and that is seen there.
    pub(super) fn refusals(mut self) -> Self {
        self.refusals = true;
        self
    }

    /// Inside addresses are seen outside: there is no translation.
    pub(super) fn routed(mut self) -> Self {
        self.routed = true;
        self
    }

    /// The host's own stack answers refusals of its own.
    pub(super) fn host_answers(mut self) -> Self {
        self.answers = true;
        self
    }

    /// The test sends wrong checksums itself.
    pub(super) fn csum_errors(mut self) -> Self {
        self.csum_errors = true;
        self
    }

    /// Does something before the program starts.
    pub(super) fn prepare(mut self, what: impl Fn(&Topology) + 'static) -> Self {
        self.prepare.push(Box::new(what));
        self
    }

    /// Builds it and starts the program. `None`, and a word on standard output, where namespaces
    /// cannot be had; anything else that fails is a failure of the test.
    pub(super) fn start(self) -> Option<World> {
        let net = match Topology::build(Lab::new("e2e"), self.plan) {
            Ok(net) => net,
            Err(error) => {
                skip_without(&error);
                return None;
            }
        };
        if !self.ipv6 {
            for host in hosts(&net) {
                for conf in ["default", "all"] {
                    let key = format!("net/ipv6/conf/{conf}/disable_ipv6");
                    host.sysctl(&key, "1").unwrap();
                }
            }
        }
        for prepare in &self.prepare {
            prepare(&net);
        }
        let run_dir = run_dir();
        let mut command = program(&run_dir);
        let named: Vec<&str> = self.args.iter().map(String::as_str).collect();
        if !named.iter().any(|word| word.starts_with("--port")) {
            command.args(["--ports", &net.port_names().join(",")]);
        }
        if self.uplink {
            command.args(["--uplink", Topology::UPLINK]);
        }
        command.args(&self.args);
        let process = net.h.spawn(&mut command).unwrap();
        let ready = process.wait_line(PATIENCE, |line| line.starts_with("ready in"));
        assert!(ready.is_some(), "{:#?}", process.stderr());
        let watch = self.uplink.then(|| self.watch(&net));
        let before = counters(&net);
        Some(World {
            net,
            process,
            run_dir,
            watch,
            before,
            answers: self.answers,
            csum_errors: self.csum_errors,
        })
    }

    fn watch(&self, net: &Topology) -> Watch {
        let own = self.args.iter().position(|word| word == "--uplink-mac");
        let own = own
            .and_then(|at| self.args.get(at + 1))
            .map(|text| mac_of(text));
        let uplink = net.h.link(Topology::UPLINK).unwrap().mac.unwrap().0;
        let mtu = usize::try_from(net.plan.uplink_mtu.unwrap_or(1500)).unwrap();
        let network = net.gateway().to_bits() & 0xffff_ff00;
        let rules = Rules {
            // The host itself speaks too.
            sources: [uplink, own.unwrap_or(uplink)],
            shared: net.r.is_some(),
            inside: (!self.routed).then_some((network, 0xffff_ff00)),
            finished: self.finished.then_some(mtu),
            refusals: self.refusals,
        };
        Watch::start(&net.o, "eth0", rules)
    }
}

/// A running program in its network.
pub(super) struct World {
    pub(super) net: Topology,
    pub(super) process: Process,
    run_dir: PathBuf,
    watch: Option<Watch>,
    before: BTreeMap<String, Counters>,
    answers: bool,
    csum_errors: bool,
}

impl World {
    pub(super) fn c(&self, i: usize) -> &Host {
        self.net.c(i)
    }

    pub(super) fn ip(&self, i: u8) -> Ipv4Addr {
        self.net.ip(i)
    }

    pub(super) fn h(&self) -> &Host {
        &self.net.h
    }

    pub(super) fn o(&self) -> &Host {
        &self.net.o
    }

    /// Where the program has its socket.
    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The program as a client, with words split at blanks.
    pub(super) fn command(&self, words: &str) -> Command {
        let mut command = program(&self.run_dir);
        command.args(words.split_whitespace());
        command
    }

    /// Runs the program as a client.
    pub(super) fn client(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// What `vswitch WORDS` prints; it must succeed.
    pub(super) fn text(&self, words: &str) -> String {
        let output = self.client(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `vswitch -j WORDS` prints.
    pub(super) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.text(&format!("-j {words}"))).unwrap()
    }

    /// A table as rows.
    pub(super) fn rows(&self, words: &str) -> Vec<Value> {
        self.json(words).as_array().unwrap().clone()
    }

    /// Every station of the forwarding table and the device it is on, learned ones only.
    pub(super) fn stations(&self) -> BTreeMap<String, String> {
        let learned = |row: &&Value| row["state"] != "permanent";
        let rows = self.rows("fdb");
        let pair = |row: &Value| (string(&row["mac"]), string(&row["ifname"]));
        rows.iter().filter(learned).map(pair).collect()
    }

    /// `rx` or `tx` counter of a port, since it was opened.
    pub(super) fn port(&self, ifname: &str, way: &str, counter: &str) -> u64 {
        let rows = self.rows("port");
        let row = rows.iter().find(|row| row["ifname"] == ifname).unwrap();
        row["stats64"][way][counter].as_u64().unwrap()
    }

    /// A total of `-j status`.
    pub(super) fn total(&self, name: &str) -> u64 {
        self.json("status")["totals"][name].as_u64().unwrap()
    }

    /// Drops by reason, over all ports.
    pub(super) fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = BTreeMap::new();
        for row in self.rows("drops") {
            let count = row["count"].as_u64().unwrap();
            *drops.entry(string(&row["reason"])).or_default() += count;
        }
        drops.retain(|_, count| *count > 0);
        drops
    }

    /// The drops of one reason.
    pub(super) fn dropped(&self, reason: &str) -> u64 {
        self.drops().get(reason).copied().unwrap_or(0)
    }

    /// Sends echo requests from `host`.
    pub(super) fn ping(&self, host: &Host, ping: &Ping) -> PingReport {
        host.attempt(|| "ping".to_owned(), || ping.run()).unwrap()
    }

    /// As [`ping`](Self::ping); each must be answered once and rightly.
    pub(super) fn ping_perfectly(&self, host: &Host, ping: &Ping) -> PingReport {
        let report = self.ping(host, ping);
        let to = ping.destination;
        assert!(report.is_perfect(), "{} to {to}: {report:?}", host.label());
        report
    }

    /// The kernel's counters of `host` since the start.
    pub(super) fn since(&self, host: &Host, group: &str, name: &str) -> u64 {
        let now = read_counters(host);
        now.since(&self.before[host.label()], group, name).unwrap()
    }

    /// Waits until no counter moves any more and returns the totals.
    pub(super) fn quiet(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Value::Null;
        loop {
            let totals = self.json("status")["totals"].clone();
            if totals == before || Instant::now() > deadline {
                return totals;
            }
            before = totals;
            thread::sleep(Duration::from_millis(60));
        }
    }

    /// Totals, ports and drops of one and the same moment: nothing came in between.
    fn at_rest(&self) -> (Value, Vec<Value>, BTreeMap<String, u64>) {
        for _ in 0..20 {
            let totals = self.quiet();
            let (ports, drops) = (self.rows("port"), self.drops());
            if self.json("status")["totals"] == totals {
                return (totals, ports, drops);
            }
        }
        panic!("frames keep coming: {:#}", self.json("status")["totals"]);
    }

    /// What holds at the end of every test; `expected` are the drops that must have been counted.
    /// On a shared uplink the host's own ARP comes along and is always allowed.
    pub(super) fn finish(mut self, expected: &[(&str, Times)]) {
        self.check_conservation();
        self.check_drops(expected);
        self.check_kernels();
        if let Some(watch) = self.watch.take() {
            watch.settle();
            watch.finish();
        }
        assert!(self.process.try_wait().unwrap().is_none(), "it has ended");
        let status = self.process.stop(PATIENCE).unwrap();
        let said = self.process.stderr();
        assert!(status.success(), "{status}: {said:#?}");
        assert!(
            !said.iter().any(|line| line.contains("panicked")),
            "{said:#?}"
        );
        let last = said.iter().any(|line| line.starts_with("stopped: "));
        assert!(last, "{said:#?}");
    }

    /// Every frame has one fate, every copy an end; ports and totals agree.
    pub(super) fn check_conservation(&self) {
        let (totals, ports, drops) = self.at_rest();
        let [(came, fates), (made, ended)] = sums(&totals);
        assert_eq!(came, fates, "frames without a fate: {totals:#}");
        assert_eq!(made, ended, "copies without an end: {totals:#}");
        let over = |way: &str| -> u64 {
            let count = |row: &Value| row["stats64"][way]["packets"].as_u64().unwrap();
            ports.iter().map(count).sum()
        };
        assert_eq!(
            over("rx"),
            sum(&totals, &["received"]),
            "ports and total differ: {totals:#}"
        );
        assert_eq!(
            over("tx"),
            sum(&totals, &["sent"]),
            "ports and total differ: {totals:#}"
        );
        let dropped: u64 = drops.values().sum();
        assert_eq!(
            dropped,
            sum(&totals, &["dropped", "egress_dropped"]),
            "{:?}",
            self.drops()
        );
    }

    /// The drops are those expected, no more, no fewer.
    pub(super) fn check_drops(&self, expected: &[(&str, Times)]) {
        let drops = self.drops();
        for (reason, times) in expected {
            let count = drops.get(*reason).copied().unwrap_or(0);
            let right = match *times {
                Exactly(wanted) => count == wanted,
                AtLeast(wanted) => count >= wanted,
                Any => true,
            };
            assert!(
                right,
                "{reason} {count}, expected {times:?}; all: {drops:?}"
            );
        }
        let known = |reason: &str| {
            reason == "HOST_TRAFFIC" || expected.iter().any(|(known, _)| *known == reason)
        };
        let strange: Vec<_> = drops.iter().filter(|(reason, _)| !known(reason)).collect();
        assert!(strange.is_empty(), "unexpected drops: {strange:?}");
    }

    fn check_kernels(&self) {
        for host in hosts(&self.net) {
            for (group, name) in CHECKSUMS {
                let count = self.since(host, group, name);
                assert!(
                    count == 0 || self.csum_errors,
                    "{} {group} {name} {count}",
                    host.label()
                );
            }
        }
        for (group, name) in ANSWERS {
            let count = self.since(self.h(), group, name);
            assert!(
                count == 0 || self.answers,
                "the host answered: {group} {name} {count}"
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the switch said: {:#?}", self.process.stderr());
            let status = self.client("-j status");
            eprintln!("its status: {}", String::from_utf8_lossy(&status.stdout));
            let drops = self.client("drops");
            eprintln!("its drops:\n{}", String::from_utf8_lossy(&drops.stdout));
        }
        let _ = self.process.stop(PATIENCE);
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

/// Says that a test is skipped because namespaces cannot be had; panics at any other error.
pub(super) fn skip_without(error: &LabError) {
    let missing = [Errno::EPERM, Errno::EACCES, Errno::EROFS, Errno::EOPNOTSUPP];
    let known = error.errno().is_some_and(|errno| missing.contains(&errno));
    assert!(known, "{error}");
    skip(error);
}

#[expect(
    clippy::print_stdout,
    reason = "a skipped test says so where tests are reported"
)]
fn skip(why: &LabError) {
    println!(
        "SKIPPED {}: {why}",
        thread::current().name().unwrap_or("a test")
    );
}

pub(super) fn run_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("vswe2e-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub(super) fn program(run_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
    for variable in ["NO_COLOR", "CLICOLOR_FORCE", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command.args(["--name", NAME, "--run-dir"]).arg(run_dir);
    command
}

fn hosts(net: &Topology) -> impl Iterator<Item = &Host> {
    let others = [Some(&net.h), Some(&net.o), net.r.as_ref(), net.o2.as_ref()];
    net.containers.iter().chain(others.into_iter().flatten())
}

fn counters(net: &Topology) -> BTreeMap<String, Counters> {
    hosts(net)
        .map(|host| (host.label().to_owned(), read_counters(host)))
        .collect()
}

fn read_counters(host: &Host) -> Counters {
    host.attempt(|| "read counters".to_owned(), Counters::read)
        .unwrap()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn mac_of(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// A MAC address as the program prints it.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// How long a test that gains by length lasts: `VSWITCH_SOAK_SECONDS`, or `usual`.
pub(super) fn soak(usual: Duration) -> Duration {
    let asked = std::env::var("VSWITCH_SOAK_SECONDS").ok();
    let seconds = asked.and_then(|text| text.parse().ok());
    seconds.map_or(usual, Duration::from_secs)
}

/// Waits until `true`, at most ten seconds.
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The subnet's broadcast address.
pub(super) fn broadcast(subnet: Subnet) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.gateway().to_bits() | 0xff)
}

/// The two sums of a status's `totals` that must agree at rest: frames that came and fates, copies
/// that were made and ends.
pub(super) fn sums(totals: &Value) -> [(u64, u64); 2] {
    let came = sum(totals, &["received", "resumed"]);
    let fates = sum(
        totals,
        &[
            "forwarded",
            "routed",
            "flooded",
            "answered",
            "absorbed",
            "held",
            "handed_over",
            "dropped",
        ],
    );
    let made = sum(totals, &["copies", "originated"]);
    let ended = sum(totals, &["sent", "egress_dropped"]);
    [(came, fates), (made, ended)]
}

fn sum(totals: &Value, names: &[&str]) -> u64 {
    let count = |name: &&str| totals[*name].as_u64().unwrap();
    names.iter().map(count).sum()
}
