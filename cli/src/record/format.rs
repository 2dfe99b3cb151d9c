//! What heads a recording.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use switch::limits::PORTS_MAX;

use super::view::RecordedPublish;
use crate::error::CliError;

/// The name and version of the format.
const SCHEMA: &str = "vswitch.record/2";
const FAMILY: &str = "{\"schema\":\"vswitch.record/";
/// What a comment begins with that goes on with what did not fit into the one before.
const GOES_ON: &str = "vswitch.record goes on: ";
/// Bytes of a comment: an option has 65,535.
const COMMENT_BYTES: usize = 60_000;

/// A switch at the moment its recording began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    schema: String,
    /// When it began: nanoseconds since 1970 UTC.
    pub began: u64,
    /// The same by the switch's clock.
    pub clock: u64,
    /// Seed of hash keys and port choice.
    pub seed: u64,
    /// How many workers there were.
    pub workers: u16,
    /// The settings, as a configuration file.
    pub settings: String,
    /// The ports, in the order of their index.
    pub ports: Vec<RecordedPort>,
    /// The uplink, if it had an address.
    pub uplink: Option<RecordedUplink>,
    /// The host's addresses.
    pub host: Vec<Ipv4Addr>,
    /// Published ports.
    pub publishes: Vec<RecordedPublish>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPort {
    /// Its index.
    pub index: u16,
    /// Its device.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// The worker that received from it; none: all did.
    pub worker: Option<u16>,
    /// The worker that translated for it.
    pub nat_worker: u16,
}

/// The uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedUplink {
    /// Its address, with the length of its subnet's prefix.
    pub address: String,
    /// Its MAC address.
    pub mac: String,
    /// Whether the address is the switch's own.
    pub own: bool,
    /// Routes, as `NET/LEN=ROUTER`.
    pub routes: Vec<String>,
}

impl Recording {
    /// A recording of this version, still without anything.
    #[must_use]
    pub fn new((began, clock): (u64, u64), (seed, workers): (u64, u16), settings: String) -> Self {
        Self {
            schema: SCHEMA.into(),
            began,
            clock,
            seed,
            workers,
            settings,
            ports: Vec::new(),
            uplink: None,
            host: Vec::new(),
            publishes: Vec::new(),
        }
    }

    /// As a section's comments.
    #[must_use]
    pub fn to_comments(&self) -> Vec<String> {
        // Plain data: there is nothing in it that JSON could not say.
        let json = serde_json::to_string(self).unwrap_or_default();
        let (mut rest, mut comments) = (json.as_str(), Vec::new());
        while !rest.is_empty() {
            let mut end = rest.len().min(COMMENT_BYTES);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (part, behind) = rest.split_at(end);
            let before = if comments.is_empty() { "" } else { GOES_ON };
            comments.push(format!("{before}{part}"));
            rest = behind;
        }
        comments
    }

    /// Finds the recording among a section's comments; `None` where the file is a mere capture.
    ///
    /// # Errors
    /// It is of another version, or damaged. `name` is the file's.
    pub fn find(name: &str, comments: &[String]) -> Result<Option<Self>, CliError> {
        let mut comments = comments.iter();
        let Some(first) = comments.find(|comment| comment.starts_with(FAMILY)) else {
            return Ok(None);
        };
        let mut comment = first.clone();
        comment.extend(comments.map_while(|comment| comment.strip_prefix(GOES_ON)));
        let schema = comment.split('"').nth(3).unwrap_or_default();
        if schema != SCHEMA {
            let why = format!("a recording of {schema}; this program reads {SCHEMA}");
            let fix = "replay it with the version that recorded it";
            return Err(CliError::failed(name, why, fix));
        }
        let damaged = |why| CliError::failed(name, format!("the recording's head: {why}"), "");
        let read: Self =
            serde_json::from_str(&comment).map_err(|error| damaged(error.to_string()))?;
        let is_beyond = |port: &&RecordedPort| usize::from(port.index) >= PORTS_MAX;
        match read.ports.iter().find(is_beyond) {
            Some(port) => Err(damaged(format!("no switch has a port {}", port.index))),
            None => Ok(Some(read)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_found_and_another_version_is_named() {
        let recording = Recording {
            ports: vec![RecordedPort {
                index: 3,
                name: "veth1".into(),
                mtu: 1500,
                up: true,
                worker: Some(1),
                nat_worker: 0,
            }],
            ..Recording::new((1, 9), (2, 1), "ports = [\"veth1\"]\n".into())
        };
        let comment = recording.to_comments().remove(0);
        let comments = ["by somebody".to_owned(), comment.clone()];
        assert_eq!(Recording::find("f", &comments), Ok(Some(recording.clone())));
        let long = Recording {
            ports: vec![recording.ports[0].clone(); 5000],
            ..recording
        };
        let comments = long.to_comments();
        assert!(comments.len() > 3 && comments.iter().all(|comment| comment.len() < 65_536));
        assert_eq!(Recording::find("f", &comments), Ok(Some(long)));
        let comments = ["by somebody".to_owned(), comment.clone()];
        assert_eq!(Recording::find("f", &comments[..1]), Ok(None));
        let later = [comment.replace("record/2", "record/3")];
        let error = Recording::find("f", &later).unwrap_err().to_string();
        let expected = "error: f: a recording of vswitch.record/3; this program reads \
                        vswitch.record/2; fix: replay it with the version that recorded it";
        assert_eq!(error, expected);
        let torn = [comment[..40].to_owned()];
        assert!(Recording::find("f", &torn).is_err());
        let beyond = [comment.replace("\"index\":3", "\"index\":4096")];
        let error = Recording::find("f", &beyond).unwrap_err().to_string();
        assert_eq!(
            error,
            "error: f: the recording's head: no switch has a port 4096"
        );
    }
}
