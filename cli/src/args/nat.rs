//! `nat …`: what was typed.

use clap::{Args, Subcommand, ValueEnum};

use super::low::ViewArgs;
use super::{Action, Mutation, Table};
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
    /// Try the RFCs' requirements on a NAT with this one's settings
    #[command(
        after_help = "Requirements of RFC 4787, 5382 and 5508, each played with packets to an \
                      engine\n\
                      that has the live settings and a clock of its own.\n\n\
                      Example: vswitch nat report"
    )]
    Report,
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
