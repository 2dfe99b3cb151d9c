//! The nouns of a running switch's tables: what was typed.

use std::str::FromStr;

use clap::{Args, Subcommand};
use switch::mac::Mac;
use switch::verdict::DropReason;

use super::low::ViewArgs;
use super::{Action, Mutation, Table};
use crate::config::words::{self, Why};

/// The literal word `dev`, which iproute2 wants between a MAC address and its port.
#[derive(Debug, Clone, Copy)]
pub struct DevWord;

impl FromStr for DevWord {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "dev" {
            Ok(Self)
        } else {
            Err("the word `dev` belongs here")
        }
    }
}

fn checked_port(text: &str) -> Result<String, Why> {
    words::port(text).map(|_| text.to_owned())
}

fn reason(text: &str) -> Result<DropReason, Why> {
    let word = text.to_ascii_uppercase();
    DropReason::from_word(&word).ok_or_else(|| {
        let words: Vec<_> = DropReason::ALL.iter().map(|reason| reason.word()).collect();
        match crate::error::nearest(&word, &words) {
            Some(near) => format!("no such reason; is it {near}?"),
            None => "no such reason; `vswitch drops --why` lists them".into(),
        }
    })
}

/// `port …`.
#[derive(Debug, Args)]
pub struct PortNoun {
    #[command(flatten)]
    view: ViewArgs,
    #[command(subcommand)]
    verb: Option<PortVerb>,
}

#[derive(Debug, Subcommand)]
enum PortVerb {
    /// Show the ports; the default
    Show(ViewArgs),
    /// Open a port: INTERFACE or tap:NAME, with options
    #[command(after_help = "Example: vswitch port add veth3,worker=1,ring=4MiB")]
    Add {
        /// What to open, as for --port
        #[arg(value_name = "PORT[,KEY=VALUE]", value_parser = checked_port)]
        port: String,
    },
    /// Change a port while frames flow: move it to another worker
    #[command(after_help = "Example: vswitch port set veth1 worker=1")]
    Set {
        /// Its name
        #[arg(value_name = "PORT", value_parser = words::device)]
        port: String,
        /// The worker that is to receive from it, counted from 0
        #[arg(value_name = "worker=N", value_parser = words::port_change)]
        worker: u16,
    },
    /// Close a port
    #[command(visible_alias = "delete")]
    Del {
        /// Its name
        #[arg(value_name = "PORT", value_parser = words::device)]
        port: String,
    },
}

impl PortNoun {
    pub(super) fn action(self, root: ViewArgs) -> Action {
        let view = self.view.plus(root);
        match self.verb {
            None => Action::Show(Table::Ports, view.or(view)),
            Some(PortVerb::Show(own)) => Action::Show(Table::Ports, own.or(view)),
            Some(PortVerb::Add { port }) => Action::Change(Mutation::PortAdd(port)),
            Some(PortVerb::Set { port, worker }) => Action::Change(Mutation::PortSet(port, worker)),
            Some(PortVerb::Del { port }) => Action::Change(Mutation::PortDel(port)),
        }
    }
}

/// `fdb …`.
#[derive(Debug, Args)]
pub struct FdbNoun {
    #[command(flatten)]
    view: ViewArgs,
    #[command(subcommand)]
    verb: Option<FdbVerb>,
}

#[derive(Debug, Subcommand)]
enum FdbVerb {
    /// Show the table; the default
    Show(ViewArgs),
    /// Fix a station to a port
    #[command(after_help = "Example: vswitch fdb add 02:00:00:00:00:0b dev veth1")]
    Add {
        /// The station's MAC address
        #[arg(value_parser = words::station)]
        mac: Mac,
        /// The word `dev`
        #[arg(value_name = "dev")]
        _dev: DevWord,
        /// The port
        #[arg(value_name = "PORT", value_parser = words::device)]
        port: String,
    },
    /// Forget a station
    #[command(visible_alias = "delete")]
    Del {
        /// The station's MAC address
        #[arg(value_parser = words::station)]
        mac: Mac,
    },
    /// Forget all learned stations, or those of one port
    #[command(after_help = "Example: vswitch fdb flush dev veth1")]
    Flush {
        /// The word `dev`
        #[arg(value_name = "dev", requires = "port")]
        dev: Option<DevWord>,
        /// The port
        #[arg(value_name = "PORT", value_parser = words::device)]
        port: Option<String>,
    },
}

impl FdbNoun {
    pub(super) fn action(self, root: ViewArgs) -> Action {
        let view = self.view.plus(root);
        match self.verb {
            None => Action::Show(Table::Fdb, view.or(view)),
            Some(FdbVerb::Show(own)) => Action::Show(Table::Fdb, own.or(view)),
            Some(FdbVerb::Add { mac, port, .. }) => Action::Change(Mutation::FdbAdd(mac, port)),
            Some(FdbVerb::Del { mac }) => Action::Change(Mutation::FdbDel(mac)),
            Some(FdbVerb::Flush { port, .. }) => Action::Change(Mutation::FdbFlush(port)),
        }
    }
}

/// A noun that can be shown and flushed.
#[derive(Debug, Args)]
pub struct FlushNoun {
    #[command(flatten)]
    view: ViewArgs,
    #[command(subcommand)]
    verb: Option<FlushVerb>,
}

#[derive(Debug, Subcommand)]
enum FlushVerb {
    /// Show the table; the default
    Show(ViewArgs),
    /// Forget all of it
    Flush,
}

impl FlushNoun {
    pub(super) fn action(self, root: ViewArgs, table: Table, flush: Mutation) -> Action {
        let view = self.view.plus(root);
        match self.verb {
            None => Action::Show(table, view.or(view)),
            Some(FlushVerb::Show(own)) => Action::Show(table, own.or(view)),
            Some(FlushVerb::Flush) => Action::Change(flush),
        }
    }
}

/// `drops …`.
#[derive(Debug, Args)]
pub struct DropsNoun {
    #[command(flatten)]
    view: ViewArgs,
    /// Explain a reason, with the packets kept if a switch runs; or explain all of them
    #[arg(long, value_name = "REASON", num_args = 0..=1, value_parser = reason)]
    #[expect(clippy::option_option, reason = "the flag may stand without its value")]
    why: Option<Option<DropReason>>,
    #[command(subcommand)]
    verb: Option<DropsVerb>,
}

#[derive(Debug, Subcommand)]
enum DropsVerb {
    /// Show them; the default
    Show(ViewArgs),
    /// Forget the packets kept, so that the next are the first; the counters go on
    Flush,
}

impl DropsNoun {
    pub(super) fn action(self, root: ViewArgs) -> Action {
        let own = match (self.why, self.verb) {
            (Some(reason), _) => return Action::Explain(reason),
            (None, Some(DropsVerb::Flush)) => return Action::Change(Mutation::DropsFlush),
            (None, Some(DropsVerb::Show(own))) => own,
            (None, None) => ViewArgs::default(),
        };
        Action::Show(Table::Drops, own.plus(self.view).or(root))
    }
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusNoun {
    #[command(flatten)]
    pub(super) view: ViewArgs,
}
