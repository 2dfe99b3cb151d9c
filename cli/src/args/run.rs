//! The flags of `run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use switch::limits::WORKERS_MAX;
use switch::mac::Mac;

use super::Action;
use super::low::{PortList, port_list};
use crate::config::nat::{self, NatFilters, NatLog, NatPool, NatQuota, Untranslated};
use crate::config::publish::PublishSpec;
use crate::config::settings::{Cidr, NatProfile, PortOptions, PortRange, PortWord};
use crate::config::words::{self, Why};
use crate::config::{Layer, Source};

/// The flags of `run`, as typed; the long names are the words of the configuration file.
#[derive(Debug, Args, Clone, PartialEq, Eq, Default)]
#[command(next_help_heading = "Run options")]
pub struct RunArgs {
    /// Ports: interfaces to take over, or tap:NAME
    #[arg(long, value_name = "A,B", value_parser = port_list)]
    pub ports: Vec<PortList>,
    /// One port with options: mac=MAC, worker=N, ring=SIZE, fdb-max=N, isolated; may be repeated
    #[arg(long, value_name = "PORT[,KEY=VALUE]", value_parser = words::port)]
    pub port: Vec<(PortWord, PortOptions)>,
    /// The interface that leads out
    #[arg(long, value_name = "IF", value_parser = words::interface)]
    pub uplink: Option<String>,
    /// An address of the switch's own on the uplink, instead of the host's
    #[arg(long, value_name = "CIDR", value_parser = words::cidr)]
    pub uplink_address: Option<Cidr>,
    /// The MAC address that goes with it [default: made up]
    #[arg(long, value_name = "MAC", value_parser = words::station)]
    pub uplink_mac: Option<Mac>,
    /// The gateway's address [default: found on the ports' peers, else 10.77.0.1/24]
    #[arg(long, value_name = "CIDR", value_parser = words::cidr)]
    pub gateway: Option<Cidr>,
    /// The gateway's MAC address [default: made up]
    #[arg(long, value_name = "MAC", value_parser = words::station)]
    pub gateway_mac: Option<Mac>,
    /// Lead a port of the host to a member (PROTO: tcp, udp, sctp; /source: a client keeps its
    /// target); TARGET is an address or a port's name; may be repeated
    #[arg(short, long, value_name = "[IP:]HPORT:TARGET[:CPORT][/PROTO]")]
    pub publish: Vec<PublishSpec>,
    /// External ports for NAT [default: 61000-65535, or all above 1023 on an own address]
    #[arg(long, value_name = "LO-HI", value_parser = words::port_range)]
    pub nat_ports: Option<PortRange>,
    /// The most NAT sessions [default: 262144]
    #[arg(long, value_name = "N", value_parser = nat_sessions)]
    pub nat_sessions: Option<u32>,
    /// Whose NAT rules and time-outs: rfc, linux [default: rfc]
    #[arg(long, value_name = "PROFILE", value_parser = words::choice::<NatProfile>)]
    pub nat_profile: Option<NatProfile>,
    /// What a NAT session lets in: apdf, adf, eif, or udp=eif,tcp=apdf [default: apdf]
    #[arg(long, value_name = "FILTER")]
    pub nat_filter: Option<NatFilters>,
    /// External addresses for NAT besides the uplink's own
    #[arg(long, value_name = "A,B-C")]
    pub nat_pool: Option<NatPool>,
    /// What one member may have of sessions, ports, half-open, rate (new sessions a second) and
    /// failed (TCP handshakes a second that come to nothing), each a number or none [default:
    /// sessions=65536,ports=none,half-open=4096,rate=none,failed=4000]
    #[arg(long, value_name = "KEY=N,...")]
    pub nat_quota: Option<NatQuota>,
    /// Protocols with addresses in their payload to help through: ftp, tftp
    #[arg(long, value_name = "A,B", value_parser = nat::helpers)]
    pub nat_helpers: Option<::nat::Helpers>,
    /// Write what happens to NAT sessions to a file, or to syslog
    #[arg(long, value_name = "FILE|syslog", value_hint = ValueHint::FilePath)]
    pub nat_log: Option<NatLog>,
    /// Keep NAT sessions over a restart in this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = nat::file)]
    pub state: Option<PathBuf>,
    /// Leave the segment size of TCP handshakes alone
    #[arg(long)]
    pub no_mss_clamp: bool,
    /// Destinations that are reached untranslated
    #[arg(long, value_name = "CIDR,...")]
    pub no_nat_for: Option<Untranslated>,
    /// No address translation
    #[arg(long)]
    pub no_nat: bool,
    /// Have the kernel carry established TCP connections through the NAT while nobody traces them
    #[arg(long)]
    pub fast_path: bool,
    /// Isolate all member ports from each other
    #[arg(long)]
    pub isolate: bool,
    /// No TAP for the host itself
    #[arg(long)]
    pub no_host_port: bool,
    /// Seconds until a silent station is forgotten, 10 to 1000000 [default: 300]
    #[arg(long, value_name = "SECS", value_parser = ageing)]
    pub ageing: Option<u32>,
    /// The most stations known, up to 1000000 [default: 8192]
    #[arg(long, value_name = "N", value_parser = fdb_max)]
    pub fdb_max: Option<u32>,
    /// Worker threads, 1 to 64 [default: one for every two processors]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<u16>,
    /// Processors for the workers, such as 0-1,3
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub cpus: Option<Cpus>,
    /// Microseconds an idle worker polls on before it sleeps [default: 50]
    #[arg(long, value_name = "USEC", value_parser = busy_poll)]
    pub busy_poll: Option<u32>,
    /// Serve the metrics on TCP too, for a Prometheus; 127.0.0.1:9777, say
    #[arg(long, value_name = "ADDR:PORT", value_parser = words::address_and_port)]
    pub metrics: Option<SocketAddr>,
    /// Configuration file; flags override it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Print the ip, bridge and nft commands that would do the same, and do nothing
    #[arg(long)]
    pub explain: bool,
}

/// A list of processors; a type of its own because clap takes a bare `Vec` for a repeated flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(Vec<u16>);

fn nat_sessions(text: &str) -> Result<u32, Why> {
    words::number(text, words::NAT_SESSIONS)
}

fn ageing(text: &str) -> Result<u32, Why> {
    words::number(text, words::AGEING_SECS)
}

fn fdb_max(text: &str) -> Result<u32, Why> {
    words::number(text, words::FDB_MAX)
}

fn workers(text: &str) -> Result<u16, Why> {
    words::number(text, (1, WORKERS_MAX as u64))
}

fn cpus(text: &str) -> Result<Cpus, Why> {
    words::cpus(text).map(Cpus)
}

fn busy_poll(text: &str) -> Result<u32, Why> {
    words::number(text, words::BUSY_POLL_USEC)
}

impl RunArgs {
    /// These flags over `named`, which carries the name and the run directory.
    pub(super) fn action(self, named: Layer) -> Action {
        let explain = self.explain;
        let source = Box::new(self.source(named));
        if explain {
            Action::ExplainRun(source)
        } else {
            Action::Run(source)
        }
    }

    pub(super) fn source(self, named: Layer) -> Source {
        let mut flags = Layer {
            uplink: self.uplink,
            uplink_address: self.uplink_address,
            uplink_mac: self.uplink_mac,
            gateway: self.gateway,
            gateway_mac: self.gateway_mac,
            no_host_port: self.no_host_port.then_some(true),
            no_nat: self.no_nat.then_some(true),
            nat_ports: self.nat_ports,
            nat_sessions: self.nat_sessions,
            nat_profile: self.nat_profile,
            nat_filter: self.nat_filter,
            nat_pool: self.nat_pool,
            nat_quota: self.nat_quota,
            nat_helpers: self.nat_helpers,
            nat_log: self.nat_log,
            state: self.state,
            no_mss_clamp: self.no_mss_clamp.then_some(true),
            no_nat_for: self.no_nat_for,
            publishes: self.publish,
            fast_path: self.fast_path.then_some(true),
            isolate: self.isolate.then_some(true),
            ageing_secs: self.ageing,
            fdb_max: self.fdb_max,
            workers: self.workers,
            cpus: self.cpus.map(|Cpus(list)| list),
            busy_poll_usec: self.busy_poll,
            metrics: self.metrics,
            ..named
        };
        // A port named twice under --ports is a slip; `Layer::settle` reports it.
        flags.ports = self
            .ports
            .into_iter()
            .flat_map(|PortList(list)| list)
            .collect();
        for (word, options) in self.port {
            flags.add_port(word, options);
        }
        Source {
            flags,
            file: self.config,
        }
    }
}
