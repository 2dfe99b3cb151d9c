//! `vswitch doctor`: can this host run a switch, and what would it be like?
//!
//! Nothing is guessed from versions: each ability is tried in a throw-away network namespace, on a
//! throw-away veth, with the code the switch itself uses. Nothing outside that namespace is
//! touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use switch::port::{PacketOptions, PacketRx, PortIndex, RingGeometry, TapDevice};

use super::check::{self, Problem, Severity, Wanted};
use super::guard::{Guard, LADDER, Rung};
use super::journal::{self, Journal};
use super::link::VethEnd;
use super::netlink::Netlink;
use super::netns::{self, Netns};
use super::sysctl;
use super::view::HostView;

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The switch runs, with less than it could have.
    Warn,
    /// The switch does not run.
    Fail,
}

/// One check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, in words.
    pub detail: String,
    /// A command to paste; empty where nothing is to be done.
    pub fix: String,
}

impl Finding {
    fn new(name: &str, verdict: Verdict, detail: impl Into<String>, fix: &str) -> Self {
        Self {
            name: name.into(),
            verdict,
            detail: detail.into(),
            fix: fix.into(),
        }
    }

    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, detail, "")
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        let verdict = match problem.severity {
            Severity::Error => Verdict::Fail,
            Severity::Warning => Verdict::Warn,
        };
        Self {
            name: problem.what,
            verdict,
            detail: problem.why,
            fix: problem.fix,
        }
    }
}

/// Runs every check. `run_dir` is where journals live; `wanted` is a set-up to be checked as well.
#[must_use]
pub fn examine(run_dir: &Path, wanted: Option<&Wanted>) -> Vec<Finding> {
    let mut findings = vec![kernel()];
    let ports = wanted
        .map(|wanted| wanted.ports.clone())
        .unwrap_or_default();
    match HostView::read(&ports) {
        Ok(view) => {
            findings.push(capabilities(&view));
            findings.extend(abilities());
            findings.push(port_range(&view, wanted));
            if let Some(wanted) = wanted {
                let problems = check::check(&view, wanted);
                // Capabilities and the port range have findings of their own.
                let own = |p: &Problem| !p.what.starts_with("missing CAP_");
                findings.extend(problems.into_iter().filter(own).map(Finding::from));
            }
        }
        Err(err) => {
            findings.push(Finding::new(
                "netlink",
                Verdict::Fail,
                err.to_string(),
                "mount /proc",
            ));
        }
    }
    findings.extend([
        bridge(),
        br_netfilter(),
        rp_filter(),
        run_directory(run_dir),
    ]);
    findings.extend(leftovers(run_dir));
    findings
}

/// For information: no check depends on it.
fn kernel() -> Finding {
    let release = sysctl::read("kernel/osrelease").unwrap_or_else(|_| "unknown".into());
    Finding::ok("kernel", format!("Linux {release}"))
}

fn capabilities(view: &HostView) -> Finding {
    match check::capabilities(view).pop() {
        Some(problem) => Finding {
            name: "capabilities".into(),
            ..with_what(problem)
        },
        None => Finding::ok("capabilities", "CAP_NET_ADMIN and CAP_NET_RAW"),
    }
}

/// The problem's subject moves into the detail.
fn with_what(problem: Problem) -> Finding {
    let detail = format!("{}: {}", problem.what, problem.why);
    Finding {
        detail,
        ..Finding::from(problem)
    }
}

/// What must be tried; all of it in a namespace of its own.
fn abilities() -> Vec<Finding> {
    const FIX: &str = "run as root";
    let tried = Netns::anonymous().and_then(|netns| netns.run(try_abilities));
    tried.unwrap_or_else(|err| {
        let detail = format!("no network namespace to try things in: {err}");
        vec![Finding::new("namespaces", Verdict::Warn, detail, FIX)]
    })
}

fn try_abilities() -> Vec<Finding> {
    let mut findings = vec![tap()];
    match throw_away_veth() {
        Ok(index) => {
            findings.push(Finding::ok("veth", "pairs can be made"));
            findings.push(packet_ring(index));
            findings.extend(guard(index));
        }
        Err(err) => findings.push(Finding::new(
            "veth",
            Verdict::Warn,
            format!("no pair can be made: {err}; TAP ports work without"),
            "modprobe veth",
        )),
    }
    findings
}

/// Interface index of the near end.
fn throw_away_veth() -> io::Result<u32> {
    let mut netlink = Netlink::open()?;
    let end = |name| VethEnd {
        name,
        ..VethEnd::default()
    };
    netlink.add_veth(&end("probe0"), &end("probe1"))?;
    let index = netlink.link_named("probe0")?.index;
    netlink.set_up(index, true)?;
    Ok(index)
}

fn tap() -> Finding {
    match TapDevice::open("probe-tap") {
        Ok(tap) if tap.segmentation() => Finding::ok(
            "/dev/net/tun",
            "TAPs with checksum and segmentation offload",
        ),
        Ok(_) => Finding::new(
            "/dev/net/tun",
            Verdict::Warn,
            "TAPs, but without segmentation offload: bulk TCP over them is slow",
            "use a newer kernel",
        ),
        Err(err) => Finding::new(
            "/dev/net/tun",
            Verdict::Warn,
            format!("no TAP ports and no host port: {err}"),
            "modprobe tun, or run with --device /dev/net/tun",
        ),
    }
}

/// Opening a port is TPACKET_V2, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING and the mapping at once.
fn packet_ring(ifindex: u32) -> Finding {
    let options = PacketOptions {
        name: "probe0",
        ifindex,
        ingress: PortIndex(0),
        geometry: None,
        usual: RingGeometry::HYBRID_DEFAULT,
        promiscuous: false,
        filter: None,
        fanout: None,
        fast_path: None,
    };
    match PacketRx::open(&options) {
        Ok(_) => Finding::ok("AF_PACKET", "ring (TPACKET_V2) with offload headers"),
        Err(err) => Finding::new(
            "AF_PACKET",
            Verdict::Fail,
            err.to_string(),
            "run as root on Linux 4.20+",
        ),
    }
}

/// Tries every rung by itself, and says which one will hold.
fn guard(ifindex: u32) -> Vec<Finding> {
    let scratch = ScratchDir::new();
    let journal = match Journal::open(&scratch.0, "doctor") {
        Ok((journal, _)) => journal,
        Err(err) => {
            return vec![Finding::new(
                "guard",
                Verdict::Warn,
                err.to_string(),
                "df /tmp",
            )];
        }
    };
    let mut holding = None;
    let mut words = Vec::new();
    for rung in LADDER {
        if rung == Rung::Sysctls {
            continue; // The floor to fall on, not an ability.
        }
        let tried =
            Guard::with_ladder(journal.clone(), "doctor", &[rung]).install_port(ifindex, "probe0");
        let word = match &tried {
            Ok(port) if port.rung() == rung => {
                let _ = holding.get_or_insert(rung);
                format!("{rung}: works")
            }
            Ok(port) => match port.passed_over() {
                [(_, err), ..] => format!("{rung}: {err}"),
                [] => format!("{rung}: not tried"),
            },
            Err(err) => format!("{rung}: {err}"),
        };
        words.push(word);
    }
    let detail = words.join("; ");
    vec![match holding {
        Some(rung) => Finding::ok("guard", format!("{rung} keeps the host silent ({detail})")),
        None => Finding::new(
            "guard",
            Verdict::Warn,
            format!("only settings keep the host silent ({detail})"),
            "--uplink-address, or modprobe nf_tables cls_bpf sch_ingress",
        ),
    }]
}

/// A directory for the probe's journal, deleted afterwards.
struct ScratchDir(PathBuf);

impl ScratchDir {
    fn new() -> Self {
        // Two examinations at once are in two namespaces.
        let place = netns::current_id().map_or(0, |id| id.ino);
        let id = format!("vswitch-doctor-{}-{place}", std::process::id());
        Self(std::env::temp_dir().join(id))
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Nothing of worth is in it; a leftover directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn port_range(view: &HostView, wanted: Option<&Wanted>) -> Finding {
    const NAME: &str = "ip_local_port_range";
    let (from, to) = view.local_ports;
    let (lo, hi) = wanted
        .and_then(|wanted| wanted.nat_ports)
        .unwrap_or((61_000, 65_535));
    let own_address = wanted.is_some_and(|wanted| wanted.uplink_address.is_some());
    if own_address || lo > to || hi < from {
        return Finding::ok(NAME, format!("{from}-{to}, apart from NAT's {lo}-{hi}"));
    }
    let detail = format!("{from}-{to} overlaps NAT's {lo}-{hi}, which are reserved at start");
    Finding::new(
        NAME,
        Verdict::Warn,
        detail,
        "sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
    )
}

fn bridge() -> Finding {
    let there = Path::new("/sys/module/bridge").exists();
    let state = if there { "present" } else { "absent" };
    Finding::ok("kernel bridge", format!("not needed ({state})"))
}

fn br_netfilter() -> Finding {
    const KEY: &str = "net/bridge/bridge-nf-call-iptables";
    let detail = match sysctl::read(KEY).as_deref() {
        Ok("1") => "on: iptables filters kernel bridges, and does not see this switch's frames",
        Ok(_) | Err(_) => "off, and without meaning for this switch",
    };
    Finding::ok("br_netfilter", detail)
}

fn rp_filter() -> Finding {
    let all = sysctl::read(&sysctl::conf_key("ipv4", "all", "rp_filter"));
    let detail = match all.as_deref() {
        Ok("1") => "strict: containers reach the host through the host port, whose route agrees",
        Ok("2") => "loose",
        Ok(_) | Err(_) => "off",
    };
    Finding::ok("rp_filter", detail)
}

fn run_directory(dir: &Path) -> Finding {
    const NAME: &str = "run directory";
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let made = !dir.exists();
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&probe, b""));
    let _ = fs::remove_file(&probe);
    if made {
        let _ = fs::remove_dir(dir);
    }
    match written {
        Ok(()) => Finding::ok(NAME, format!("{} can be written", dir.display())),
        Err(err) => {
            let detail = format!("{}: {err}", dir.display());
            Finding::new(NAME, Verdict::Fail, detail, "run as root, or --run-dir DIR")
        }
    }
}

fn leftovers(run_dir: &Path) -> Vec<Finding> {
    const NAME: &str = "leftovers";
    let found = match journal::list(run_dir) {
        Ok(found) => found,
        Err(err) => {
            return vec![Finding::new(
                NAME,
                Verdict::Warn,
                err.to_string(),
                "run as root",
            )];
        }
    };
    let mut findings = Vec::new();
    for dead in found.iter().filter(|journal| !journal.live) {
        let count = dead.changes.len();
        let detail = format!(
            "{} (pid {}) ended without undoing {count} changes of the host",
            dead.name, dead.pid
        );
        let fix = format!("vswitch clean {}", dead.name);
        findings.push(Finding::new(NAME, Verdict::Warn, detail, &fix));
    }
    if findings.is_empty() {
        let live: Vec<&str> = found.iter().map(|journal| journal.name.as_str()).collect();
        let detail = match live[..] {
            [] => "none".to_owned(),
            _ => format!("none; running: {}", live.join(", ")),
        };
        findings.push(Finding::ok(NAME, detail));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Cidr;
    use crate::host::netns::tests::in_fresh_netns;

    fn scratch(what: &str) -> ScratchDir {
        let id = format!("vsw-doctor-{what}-{}", std::process::id());
        ScratchDir(std::env::temp_dir().join(id))
    }

    fn named<'a>(findings: &'a [Finding], name: &str) -> &'a Finding {
        findings
            .iter()
            .find(|finding| finding.name == name)
            .unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn a_capable_host_is_found_capable_and_left_as_it_was() {
        let dir = scratch("capable");
        in_fresh_netns("doctor", || {
            let before = Netlink::open().unwrap().links().unwrap();
            let findings = examine(&dir.0, None);
            for name in ["capabilities", "/dev/net/tun", "veth", "AF_PACKET", "guard"] {
                let finding = named(&findings, name);
                assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
            }
            assert!(
                named(&findings, "guard")
                    .detail
                    .contains("keeps the host silent")
            );
            assert!(
                findings.iter().all(|f| f.verdict != Verdict::Fail),
                "{findings:?}"
            );
            let unfixed = |f: &&Finding| f.verdict != Verdict::Ok && f.fix.is_empty();
            assert_eq!(findings.iter().find(unfixed), None);
            assert_eq!(Netlink::open().unwrap().links().unwrap(), before);
            assert!(!dir.0.exists(), "the run directory was not there before");
        });
    }

    #[test]
    fn a_set_up_is_checked_and_leftovers_are_found() {
        let dir = scratch("leftovers");
        in_fresh_netns("doctor leftovers", || {
            let (journal, _) = Journal::open(&dir.0, "lab").unwrap();
            let wanted = Wanted {
                ports: vec!["veth1".into()],
                uplink: None,
                gateway: Cidr {
                    address: [10, 77, 0, 1].into(),
                    prefix: 24,
                },
                uplink_address: None,
                nat_ports: Some((40_000, 50_000)),
            };
            let findings = examine(&dir.0, Some(&wanted));
            assert_eq!(named(&findings, "veth1").verdict, Verdict::Fail);
            assert_eq!(
                named(&findings, "ip_local_port_range").verdict,
                Verdict::Warn
            );
            assert_eq!(named(&findings, "leftovers").detail, "none; running: lab");
            drop(journal);
            let path = dir.0.join("lab.journal");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"start_time\":", "\"start_time\":9")).unwrap();
            let findings = examine(&dir.0, None);
            let left = named(&findings, "leftovers");
            assert_eq!(
                (left.verdict, left.fix.as_str()),
                (Verdict::Warn, "vswitch clean lab")
            );
        });
    }
}
