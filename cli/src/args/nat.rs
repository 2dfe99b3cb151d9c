//! `nat …`: what was typed.

use clap::{Args, Subcommand, ValueEnum};

use super::low::ViewArgs;
use super::{Action, Mutation, Table};
use crate::config::words::Why;
use crate::config::{PublishSpec, PublishedAt};
use crate::control::select::{self, Pair};
use crate::error::CliError;

/// `nat …`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct NatNoun {
    #[command(flatten)]
    view: ViewArgs,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    form: Form,
    #[command(subcommand)]
    verb: Option<NatVerb>,
}

/// Which sessions.
#[derive(Debug, Args, Clone, Default)]
struct Filter {
    /// Only sessions with: proto P, host A[/N], inside A[/N], outside A[/N], port N, state S
    #[arg(value_name = "KEY VALUE")]
    words: Vec<String>,
}

/// In which form.
#[derive(Debug, Args, Clone, Copy, Default)]
struct Form {
    /// As a table, or as `conntrack -L` prints them [default: table]
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Option<Format>,
}

/// A form sessions are printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns.
    Table,
    /// The lines of `conntrack -L`.
    Conntrack,
}

#[derive(Debug, Subcommand)]
enum NatVerb {
    /// Show the sessions; the default
    #[command(after_help = "Example: vswitch nat show proto tcp host 10.77.0.11 port 443")]
    Show {
        #[command(flatten)]
        view: ViewArgs,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        form: Form,
    },
    /// End all sessions, or those that the words select
    #[command(after_help = "Example: vswitch nat flush inside 10.77.0.11")]
    Flush {
        #[command(flatten)]
        filter: Filter,
    },
    /// Lead a port of the host to a member
    #[command(after_help = "Example: vswitch nat publish 8080:veth1:80\n         \
                            vswitch nat publish 53:10.77.0.11/udp")]
    Publish {
        /// What to publish, as for --publish
        #[arg(value_name = "[IP:]HPORT:TARGET[:CPORT][/PROTO]", value_parser = checked_publish)]
        publish: String,
    },
    /// Lead it nowhere any more
    #[command(after_help = "Example: vswitch nat unpublish 8080\n         \
                            vswitch nat unpublish 127.0.0.1:53/udp")]
    Unpublish {
        /// Where it is
        #[arg(value_name = "[IP:]HPORT[/PROTO]")]
        at: PublishedAt,
    },
    /// Try the RFCs' requirements on a NAT with this one's settings
    #[command(
        after_help = "Requirements of RFC 4787, 5382 and 5508, each played with packets to an \
                      engine\n\
                      that has the live settings and a clock of its own.\n\n\
                      Example: vswitch nat report"
    )]
    Report,
}

fn checked_publish(text: &str) -> Result<String, Why> {
    text.parse::<PublishSpec>().map(|_| text.to_owned())
}

impl NatNoun {
    pub(super) fn action(self, root: ViewArgs) -> Result<Action, CliError> {
        let view = self.view.plus(root);
        match self.verb {
            None => show(view.or(view), &self.filter, self.form),
            Some(NatVerb::Show {
                view: own,
                filter,
                form,
            }) => {
                let form = Form {
                    format: form.format.or(self.form.format),
                };
                show(own.or(view), &filter, form)
            }
            Some(NatVerb::Flush { filter }) => {
                let pairs = pairs(&filter, "vswitch nat flush --help")?;
                Ok(Action::Change(Mutation::NatFlush(pairs)))
            }
            Some(NatVerb::Publish { publish }) => Ok(Action::Change(Mutation::NatPublish(publish))),
            Some(NatVerb::Unpublish { at }) => Ok(Action::Change(Mutation::NatUnpublish(at))),
            Some(NatVerb::Report) => Ok(Action::NatReport(view.or(view))),
        }
    }
}

fn show(view: super::View, filter: &Filter, form: Form) -> Result<Action, CliError> {
    let pairs = pairs(filter, "vswitch nat --help")?;
    Ok(match form.format {
        None | Some(Format::Table) => Action::Show(Table::Nat(pairs), view),
        Some(Format::Conntrack) => Action::Conntrack(pairs),
    })
}

/// The words in pairs, known to be good ones.
fn pairs(filter: &Filter, help: &str) -> Result<Vec<Pair>, CliError> {
    let read = select::pairs(&filter.words).and_then(|pairs| {
        select::selection(&pairs)?;
        Ok(pairs)
    });
    read.map_err(|why| CliError::usage(filter.words.join(" "), why, help))
}
