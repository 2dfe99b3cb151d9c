//! `trace …`: what was typed.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use switch::filter::{Filter, FilterError};
use switch::what_if::Packet;

use super::Action;
use crate::config::words::{self, Why};
use crate::control::watch::Watch;
use crate::error::{CliError, Exit};

/// `trace …`.
#[derive(Debug, Args)]
pub struct TraceNoun {
    /// Only packets that match, before or after NAT; tcpdump's words, and: drop, reason R, on PORT,
    /// nat, worker N
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// End after so many packets (-c N for short)
    #[arg(long, value_name = "N", value_parser = words::count)]
    count: Option<u64>,
    /// Only packets that match themselves: do not follow their sessions
    #[arg(long)]
    no_follow: bool,
    /// Only one in N packets of those that come in
    #[arg(long, value_name = "N", value_parser = one_in)]
    one_in: Option<u32>,
    /// Group packets by the way they took, with counts; printed at the end
    #[arg(long)]
    paths: bool,
    /// Write the records to a file, one JSON object on each line
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    write: Option<PathBuf>,
    /// Read records from such a file instead of a running switch
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "write", conflicts_with = "one_in")]
    read: Option<PathBuf>,
    /// Say what would become of a packet that came in on PORT, and send nothing; the words are the
    /// packet, in quotes: 'tcp 10.77.0.11:40000 > 1.1.1.1:443 syn', or -r a capture with it
    #[arg(long, value_name = "PORT", value_parser = words::device)]
    #[arg(conflicts_with_all = ["count", "no_follow", "one_in", "paths", "write"])]
    what_if: Option<String>,
}

/// What `trace --what-if` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIfPlan {
    /// The port's device.
    pub port: String,
    /// The packet.
    pub packet: WhatIfPacket,
}

/// The packet that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhatIfPacket {
    /// In words, which were found to be a packet.
    Words(String),
    /// The first one of this capture.
    First(PathBuf),
}

/// What `trace` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracePlan {
    /// Which packets.
    pub watch: Watch,
    /// End after so many, 1 or more; `None`: go on.
    pub count: Option<u64>,
    /// Ways with their counts instead of packets.
    pub paths: bool,
    /// Where the records go, if not to stdout.
    pub write: Option<PathBuf>,
    /// Where they come from, if not from a running switch.
    pub read: Option<PathBuf>,
}

impl TraceNoun {
    pub(super) fn action(self) -> Result<Action, CliError> {
        if let Some(port) = self.what_if {
            let packet = what_if(&self.filter, self.read)?;
            return Ok(Action::WhatIf(WhatIfPlan { port, packet }));
        }
        Ok(Action::Trace(Box::new(TracePlan {
            watch: Watch {
                filter: filter(&self.filter)?,
                one_in: self.one_in.unwrap_or(1),
                follow: !self.no_follow,
                ..Watch::default()
            },
            count: self.count,
            paths: self.paths,
            write: self.write,
            read: self.read,
        })))
    }
}

/// A filter of words that need no quotes.
///
/// # Errors
/// They are no filter: the place is marked below them, with the words that could stand there.
pub(super) fn filter(words: &[String]) -> Result<Filter, CliError> {
    let text = words.join(" ");
    Filter::parse(&text).map_err(|error| malformed("filter", &text, error))
}

/// Where a text is wrong, and the words that could stand there.
fn malformed(what: &str, text: &str, error: FilterError) -> CliError {
    let fix = match error.words() {
        words if words.is_empty() => "vswitch trace --help".into(),
        words => format!("write {words}"),
    };
    let what = format!("{what}:{}", error.column + 1);
    CliError {
        excerpt: Some(error.caret(text)),
        ..CliError::new(Exit::Usage, what, error.why, fix)
    }
}

/// The packet that is asked about: words, or the first of a capture.
fn what_if(words: &[String], capture: Option<PathBuf>) -> Result<WhatIfPacket, CliError> {
    let text = words.join(" ");
    match capture {
        Some(_) if !words.is_empty() => {
            let why = "the packet is in the file already";
            Err(CliError::usage(
                text,
                why,
                "vswitch trace --what-if PORT -r one.pcap",
            ))
        }
        Some(capture) => Ok(WhatIfPacket::First(capture)),
        None => match Packet::parse(&text) {
            Ok(_) => Ok(WhatIfPacket::Words(text)),
            Err(error) => Err(malformed("packet", &text, error)),
        },
    }
}

fn one_in(text: &str) -> Result<u32, Why> {
    words::number(text, (1, u32::MAX.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_packet_gets_its_column_and_the_words_allowed_there() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let error = what_if(&words("tcp 10.77.0.11:1 > 1.1.1.1:2 sin"), None).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        let text = error.to_string();
        assert!(text.starts_with("error: packet:30: `sin`"), "{text}");
        assert!(text.contains("`syn`"), "{text}");
        assert!(
            text.ends_with("1.1.1.1:2 sin\n                             ^^^"),
            "{text}"
        );
        let both = what_if(&words("icmp 1.1.1.1 > 1.1.1.2"), Some("one.pcap".into()));
        assert_eq!(both.unwrap_err().exit, Exit::Usage);
        let file = what_if(&[], Some("one.pcap".into()));
        assert_eq!(file, Ok(WhatIfPacket::First("one.pcap".into())));
        assert_eq!(what_if(&[], None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_malformed_filter_gets_its_column_and_the_words_allowed_there() {
        let words = ["icmp", "adn", "host", "10.9.0.2"].map(String::from);
        let error = filter(&words).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        let text = error.to_string();
        assert!(text.starts_with("error: filter:6: "), "{text}");
        assert!(text.contains("`and`"), "{text}");
        assert!(text.ends_with("icmp adn host 10.9.0.2\n     ^^^"), "{text}");
    }
}
