//! The flags of `record` and `replay`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use switch::config::Route;
use switch::mac::Mac;

use super::Action;
use super::run::RunArgs;
use crate::config::words::{self, Why};
use crate::config::{Cidr, Layer};
use crate::error::CliError;
use crate::record::RecordPlan;
use crate::replay::{LivePlan, OfflinePlan, Pace, Surroundings};

/// Bytes of an IP packet that a port may take: the least that IPv4 needs, the most there are.
const MTU_BYTES: (u64, u64) = (68, 65_535);
/// Frames a second: more than a processor can send, and one in some minutes.
const PPS: (f64, f64) = (0.01, 1e8);
const MULTIPLIER: (f64, f64) = (0.001, 1e6);

/// `replay`.
#[derive(Debug, Args)]
#[command(mut_arg("publish", |flag| flag.short(None)))]
#[command(mut_arg("explain", |flag| flag.hide(true)))]
#[command(mut_arg("nat_log", |flag| flag.hide(true)))]
#[command(mut_arg("state", |flag| flag.hide(true)))]
#[command(mut_arg("cpus", |flag| flag.hide(true)))]
#[command(mut_arg("busy_poll", |flag| flag.hide(true)))]
pub struct Replay {
    /// The capture: pcapng or pcap, of Ethernet
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Send it to this interface
    #[arg(short, long, value_name = "IF", value_parser = words::interface)]
    interface: Option<String>,
    /// Send so many frames a second [default: as the capture's times say]
    #[arg(short, long, value_name = "N", value_parser = pps, requires = "interface")]
    pps: Option<f64>,
    /// Send so many times as fast as it was
    #[arg(short = 'x', long, value_name = "N", value_parser = multiplier)]
    #[arg(requires = "interface", conflicts_with = "pps")]
    multiplier: Option<f64>,
    /// Send as fast as can be
    #[arg(short, long, requires = "interface", conflicts_with_all = ["pps", "multiplier"])]
    topspeed: bool,
    /// Send it so many times; 0 goes on until Ctrl-C [default: 1]
    #[arg(short, long = "loop", value_name = "N", requires = "interface")]
    loops: Option<u64>,
    /// Run it through a switch in memory, by the capture's own clock; needs no privilege
    #[arg(long, conflicts_with = "interface")]
    offline: bool,
    #[command(flatten)]
    offline_args: OfflineArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// `record`.
#[derive(Debug, Args)]
pub struct Record {
    /// Where to write it; it gets its name when the recording ends
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    write: PathBuf,
}

impl Record {
    pub(super) fn action(self) -> Action {
        Action::Record(RecordPlan { file: self.write })
    }
}

/// What goes with `--offline` only.
#[derive(Debug, Args)]
#[command(next_help_heading = "Offline options")]
struct OfflineArgs {
    /// Write what came in and what each port sent, with verdicts, as pcapng
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(requires = "offline")]
    write: Option<PathBuf>,
    /// The host's address on the uplink, where the switch has none of its own there
    #[arg(long, value_name = "CIDR", value_parser = words::cidr)]
    #[arg(requires = "offline", conflicts_with = "uplink_address")]
    host_address: Option<Cidr>,
    /// The uplink's MAC address [default: made up]
    #[arg(long, value_name = "MAC", value_parser = words::station, requires = "offline")]
    host_mac: Option<Mac>,
    /// A route by way of the uplink, such as 0.0.0.0/0=192.0.2.1; may be repeated
    #[arg(long, value_name = "NET=ROUTER", value_parser = route, requires = "offline")]
    route: Vec<Route>,
    /// Where a neighbour is that the capture does not tell of; may be repeated
    #[arg(long, value_name = "IP=MAC", value_parser = neighbour, requires = "offline")]
    neigh: Vec<(Ipv4Addr, Mac)>,
    /// MTU of all ports, in bytes [default: as recorded, else 1500]
    #[arg(long, value_name = "BYTES", value_parser = mtu, requires = "offline")]
    mtu: Option<u32>,
    /// What the switch's choices are drawn from [default: as recorded, else 1]
    #[arg(long, value_name = "N", requires = "offline")]
    seed: Option<u64>,
}

fn mtu(text: &str) -> Result<u32, Why> {
    words::number(text, MTU_BYTES)
}

fn pps(text: &str) -> Result<f64, Why> {
    within(text, PPS)
}

fn multiplier(text: &str) -> Result<f64, Why> {
    within(text, MULTIPLIER)
}

fn within(text: &str, (low, high): (f64, f64)) -> Result<f64, Why> {
    let number: Option<f64> = text.parse().ok();
    let within = number.filter(|number| (low..=high).contains(number));
    within.ok_or_else(|| format!("not a number from {low} to {high}"))
}

/// `NET/LEN=ROUTER`, or `NET/LEN` for what is on the link.
pub(crate) fn route(text: &str) -> Result<Route, Why> {
    let why = "not NETWORK/LENGTH=ROUTER such as 0.0.0.0/0=192.0.2.1";
    let (network, via) = match text.split_once('=') {
        Some((network, via)) => (network, Some(via.parse().map_err(|_| why)?)),
        None => (text, None),
    };
    let (network, prefix) = network.split_once('/').ok_or(why)?;
    let network: Ipv4Addr = network.parse().map_err(|_| why)?;
    let prefix: u8 = words::number(prefix, (0, 32))?;
    if network.to_bits() & !switch::config::mask(prefix) != 0 {
        return Err(format!("{network} is not the first address of a /{prefix}"));
    }
    Ok(Route {
        network,
        prefix,
        via,
    })
}

/// `IP=MAC`.
pub(crate) fn neighbour(text: &str) -> Result<(Ipv4Addr, Mac), Why> {
    let why = "not IP=MAC such as 192.0.2.1=02:00:00:00:00:01";
    let (address, mac) = text.split_once('=').ok_or(why)?;
    Ok((address.parse().map_err(|_| why)?, words::station(mac)?))
}

impl Replay {
    /// `named` carries the name of the switch.
    pub(super) fn action(self, named: Layer) -> Result<Action, CliError> {
        if let Some(interface) = self.interface {
            if self.run != RunArgs::default() {
                let why = "nothing is switched: the frames are only sent";
                let fix = format!("vswitch replay {} --offline", self.file.display());
                return Err(CliError::usage("a run's flags with -i", why, fix));
            }
            let pace = match (self.pps, self.multiplier) {
                _ if self.topspeed => Pace::Top,
                (Some(pps), _) => Pace::Steady(pps),
                (None, multiplier) => Pace::Times(multiplier.unwrap_or(1.0)),
            };
            return Ok(Action::ReplayLive(LivePlan {
                file: self.file,
                interface,
                pace,
                loops: self.loops.unwrap_or(1),
            }));
        }
        if !self.offline {
            let fix = format!("vswitch replay {} --offline", self.file.display());
            let why = "neither -i nor --offline says where to";
            return Err(CliError::usage("replay", why, fix));
        }
        let run = &self.run;
        let live_only = [
            ("--explain", run.explain),
            ("--nat-log", run.nat_log.is_some()),
            ("--state", run.state.is_some()),
            ("--fast-path", run.fast_path),
            ("--cpus", run.cpus.is_some()),
            ("--busy-poll", run.busy_poll.is_some()),
        ];
        if let Some((flag, _)) = live_only.iter().find(|(_, given)| *given) {
            return Err(CliError::usage(
                *flag,
                "means nothing offline",
                "leave it out",
            ));
        }
        let OfflineArgs {
            write,
            host_address,
            host_mac,
            route,
            neigh,
            mtu,
            seed,
        } = self.offline_args;
        Ok(Action::ReplayOffline(Box::new(OfflinePlan {
            file: self.file,
            source: self.run.source(named),
            surroundings: Surroundings {
                address: host_address,
                mac: host_mac,
                routes: route,
                neighbours: neigh,
                mtu,
            },
            seed,
            write,
        })))
    }
}
