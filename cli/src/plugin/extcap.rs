//! What Wireshark asks of a program in its extcap folder, and what it is answered: the ports of
//! every running switch are interfaces (Wireshark's doc/extcap.adoc).

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use switch::filter::Filter;

use crate::args::{CapturePlan, Common, Rotation, Table};
use crate::capture;
use crate::client::Client;
use crate::config::words::{self, Why};
use crate::control::api::Port;
use crate::control::instance;
use crate::control::watch::{Capture, Form, SNAP_BYTES_MAX, Watch};
use crate::dispatch::{Outcome, print};
use crate::error::{CliError, printable};

/// Ethernet, as pcap numbers link types.
const DLT: &str = "dlt {number=1}{name=EN10MB}{display=Ethernet}\n";

/// What can be chosen before a capture.
const CONFIG: &str = "arg {number=0}{call=--cut}{display=Cut long frames into segments}\
                      {tooltip=Frames that are still to be segmented are shown as they leave}\
                      {type=boolflag}{default=false}\n";

/// Which packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// Those of one port.
    Port(String),
    /// All.
    All,
    /// Those that are dropped.
    Drops,
}

/// An interface as Wireshark knows it: `NAME:PORT`, `NAME::all`, `NAME::drops`. No device has a
/// colon in its name (dev_valid_name in net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The switch.
    pub name: String,
    /// Which packets of it.
    pub at: At,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Port(port) => write!(f, "{}:{port}", self.name),
            At::All => write!(f, "{}::all", self.name),
            At::Drops => write!(f, "{}::drops", self.name),
        }
    }
}

impl FromStr for Interface {
    type Err = Why;

    fn from_str(text: &str) -> Result<Self, Why> {
        let why = || "not an interface that was listed".to_owned();
        let (name, rest) = text.split_once(':').ok_or_else(why)?;
        let at = match rest {
            ":all" => At::All,
            ":drops" => At::Drops,
            port => At::Port(words::interface(port)?),
        };
        let name = words::name(name)?;
        Ok(Self { name, at })
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtcapPlan {
    /// Which interfaces there are.
    Interfaces,
    /// What frames begin with.
    Dlts,
    /// What can be chosen.
    Config,
    /// Nothing that needs words.
    Nothing,
    /// To capture.
    Capture(Target),
}

/// What is to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub interface: Interface,
    /// Where it goes.
    pub fifo: PathBuf,
    /// Which packets.
    pub filter: Filter,
    /// Frames that are still to be segmented are cut.
    pub cut: bool,
}

/// Answers.
///
/// # Errors
/// Those of [`capture::command`]; the output, or the pipe, cannot be written.
pub fn command(common: &Common, plan: &ExtcapPlan) -> Outcome {
    let text = match plan {
        ExtcapPlan::Interfaces => interfaces(&running(&common.run_dir, common)),
        ExtcapPlan::Dlts => DLT.to_owned(),
        ExtcapPlan::Config => CONFIG.to_owned(),
        ExtcapPlan::Nothing => String::new(),
        ExtcapPlan::Capture(target) => return captured(common, target),
    };
    print(common.colour, &text)
}

/// The switches that answer in a directory, by name, with their ports.
#[must_use]
pub fn running(run_dir: &Path, common: &Common) -> Vec<(String, Vec<Port>)> {
    let entries = fs::read_dir(run_dir).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        instance::name_of(&name).map(str::to_owned)
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort_unstable();
    let ports = |name: String| {
        let common = of(common, &name);
        let client = Client::new(&common);
        // One that was killed has left its socket, and answers nobody.
        let body = client.table(&Table::Ports).ok()?;
        Some((name, client.read(&body).ok()?))
    };
    names.into_iter().filter_map(ports).collect()
}

/// The flags of every command, for another switch.
fn of(common: &Common, name: &str) -> Common {
    Common {
        name: name.to_owned(),
        socket: instance::socket_path(&common.run_dir, name),
        ..common.clone()
    }
}

/// The list of interfaces.
#[must_use]
pub fn interfaces(running: &[(String, Vec<Port>)]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!("extcap {{version={version}}}{{display=vswitch}}\n");
    let mut line = |name: &str, at: At, display: String| {
        let name = name.to_owned();
        let interface = Interface { name, at };
        let display = display.replace(['{', '}'], "?");
        let display = printable(&display);
        out.push_str(&format!(
            "interface {{value={interface}}}{{display={display}}}\n"
        ));
    };
    for (name, ports) in running {
        for port in ports {
            let peer = port.vswitch.peer.as_ref();
            let peer = peer.map(|peer| format!(" ({peer})")).unwrap_or_default();
            let display = format!("{name}: {}{peer}", port.ifname);
            line(name, At::Port(port.ifname.clone()), display);
        }
        line(name, At::All, format!("{name}: all ports"));
        line(name, At::Drops, format!("{name}: drops only"));
    }
    out
}

/// Captures into the pipe, as if that were stdout: so a reader that has gone has had enough.
fn captured(common: &Common, target: &Target) -> Outcome {
    let failed = |error: io::Error| {
        let fifo = target.fifo.display().to_string();
        CliError::failed(fifo, error.to_string(), "--fifo FILE")
    };
    let fifo = File::create(&target.fifo).map_err(failed)?;
    nix::unistd::dup2_stdout(&fifo).map_err(|error| failed(error.into()))?;
    let common = Common {
        // Wireshark shows what is said as a warning.
        quiet: true,
        ..of(common, &target.interface.name)
    };
    let plan = CapturePlan {
        watch: Watch {
            filter: target.filter.clone(),
            ports: match &target.interface.at {
                At::Port(port) => vec![port.clone()],
                At::All | At::Drops => Vec::new(),
            },
            follow: false,
            form: Form::Capture(Capture {
                snap_bytes: SNAP_BYTES_MAX,
                segments: target.cut,
                drops: target.interface.at == At::Drops,
                direction: None,
            }),
            ..Watch::default()
        },
        write: Some("-".into()),
        read: None,
        count: None,
        rotation: Rotation::default(),
        unbuffered: true,
        ethernet: false,
    };
    capture::command(&common, &plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_as_they_were_listed() {
        let name = || "vswitch0".to_owned();
        for (at, text) in [
            (At::Port("veth1".into()), "vswitch0:veth1"),
            (At::Port("drops".into()), "vswitch0:drops"),
            (At::All, "vswitch0::all"),
            (At::Drops, "vswitch0::drops"),
        ] {
            let interface = Interface { name: name(), at };
            assert_eq!(interface.to_string(), text);
            assert_eq!(text.parse(), Ok(interface));
        }
        for text in [
            "",
            "veth1",
            "vswitch0:",
            "vswitch0::x",
            ":veth1",
            "a/b:veth1",
        ] {
            assert!(text.parse::<Interface>().is_err(), "{text}");
        }
    }
}
