//! `plugin …`, and `extcap`, which is for Wireshark: what was typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::Action;
use super::trace::filter;
use crate::error::CliError;
use crate::plugin::extcap::{ExtcapPlan, Interface, Target};

/// `plugin …`.
#[derive(Debug, Subcommand)]
pub enum PluginNoun {
    /// Make the ports appear in another program; extcap: in Wireshark and tshark
    #[command(after_help = "Example: vswitch plugin install extcap")]
    Install {
        /// Which
        #[arg(value_enum)]
        plugin: Plugin,
        /// Where, instead of the folder of this user's own
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
    /// Say what is installed, and whether it starts this program
    #[command(after_help = "Example: vswitch plugin status")]
    Status {
        /// Where to look
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
    /// Take it away again
    #[command(after_help = "Example: vswitch plugin remove extcap")]
    Remove {
        /// Which
        #[arg(value_enum)]
        plugin: Plugin,
        /// Where it is
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// What can be installed into another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plugin {
    /// Wireshark's external captures.
    Extcap,
}

/// What `plugin` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginPlan {
    /// What.
    pub verb: PluginVerb,
    /// In which folder; `None`: this user's own.
    pub dir: Option<PathBuf>,
}

/// What can be done with a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginVerb {
    /// Put it there.
    Install,
    /// Say whether it is there.
    Status,
    /// Take it away.
    Remove,
}

impl PluginNoun {
    pub(super) fn action(self) -> Action {
        let (verb, dir) = match self {
            Self::Install {
                plugin: Plugin::Extcap,
                dir,
            } => (PluginVerb::Install, dir),
            Self::Status { dir } => (PluginVerb::Status, dir),
            Self::Remove {
                plugin: Plugin::Extcap,
                dir,
            } => (PluginVerb::Remove, dir),
        };
        Action::Plugin(PluginPlan { verb, dir })
    }
}

/// `extcap`, as Wireshark calls it (its doc/extcap.adoc).
#[derive(Debug, Args)]
pub struct ExtcapNoun {
    /// List the interfaces
    #[arg(long, conflicts_with_all = ["interface", "capture"])]
    extcap_interfaces: bool,
    /// The version of who asks
    #[arg(long, value_name = "VERSION", num_args = 0..=1)]
    _extcap_version: Option<String>,
    /// The interface spoken of
    #[arg(long = "extcap-interface", value_name = "INTERFACE")]
    interface: Option<Interface>,
    /// Say what its frames begin with
    #[arg(long, requires = "interface")]
    extcap_dlts: bool,
    /// Say what can be chosen
    #[arg(long, requires = "interface")]
    extcap_config: bool,
    /// Only packets that match; alone: say whether it is a filter
    #[arg(long = "extcap-capture-filter", value_name = "FILTER")]
    filter: Option<String>,
    /// Capture
    #[arg(long, requires = "interface", requires = "fifo")]
    capture: bool,
    /// Where the packets go
    #[arg(long, value_name = "FIFO")]
    fifo: Option<PathBuf>,
    /// Cut frames that are still to be segmented
    #[arg(long)]
    cut: bool,
}

impl ExtcapNoun {
    pub(super) fn action(self) -> Result<Action, CliError> {
        let filter = filter(&self.filter.into_iter().collect::<Vec<_>>())?;
        let plan = match (self.interface, self.fifo) {
            (Some(interface), Some(fifo)) if self.capture => ExtcapPlan::Capture(Target {
                interface,
                fifo,
                filter,
                cut: self.cut,
            }),
            (Some(_), _) if self.extcap_dlts => ExtcapPlan::Dlts,
            (Some(_), _) if self.extcap_config => ExtcapPlan::Config,
            // A filter that was to be looked at has been read by now.
            (Some(_), _) => ExtcapPlan::Nothing,
            (None, _) => ExtcapPlan::Interfaces,
        };
        Ok(Action::Extcap(plan))
    }
}
