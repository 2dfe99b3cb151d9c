//! Files of a capture, one after the other: tcpdump's `-C`, `-G` and `-W`.
//!
//! Each file stands by itself: what heads the stream heads every one of them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use switch::pcapng::Block;

use super::Sink;
use crate::args::{CapturePlan, Rotation};
use crate::error::CliError;
use crate::keep::Keep;
use crate::show::moment;

/// The files. `now` tells the world's time, for `-G`.
pub(super) struct Files<N> {
    path: PathBuf,
    rotation: Rotation,
    /// Each block is written at once.
    unbuffered: bool,
    now: N,
    file: Keep,
    /// Files begun before this one.
    number: u64,
    began: Duration,
    /// Section and interfaces.
    head: Vec<u8>,
    packets: u64,
}

impl<N: Fn() -> Duration> Files<N> {
    pub(super) fn begin(path: &Path, plan: &CapturePlan, now: N) -> Result<Self, CliError> {
        let rotation = plan.rotation;
        Ok(Self {
            path: path.to_owned(),
            rotation,
            unbuffered: plan.unbuffered,
            file: Keep::begin(&name(path, rotation, 0, now()))?,
            number: 0,
            began: now(),
            now,
            head: Vec::new(),
            packets: 0,
        })
    }

    fn is_full(&self) -> bool {
        let Rotation { bytes, seconds, .. } = self.rotation;
        let is_long = bytes.is_some_and(|bytes| self.packets > 0 && self.file.len() >= bytes);
        let age = || (self.now)().saturating_sub(self.began);
        is_long || seconds.is_some_and(|seconds| age() >= Duration::from_secs(seconds))
    }

    fn next_file(&mut self) -> Result<ControlFlow<()>, CliError> {
        self.file.flush()?;
        let Rotation { bytes, files, .. } = self.rotation;
        if bytes.is_none() && files.is_some_and(|files| self.number + 1 >= files) {
            return Ok(ControlFlow::Break(()));
        }
        self.number += 1;
        self.began = (self.now)();
        self.packets = 0;
        self.file = Keep::begin(&name(&self.path, self.rotation, self.number, self.began))?;
        self.file.add(&self.head)?;
        Ok(ControlFlow::Continue(()))
    }
}

impl<N: Fn() -> Duration> Sink for Files<N> {
    /// Breaks where there are as many files as there may be.
    fn block(&mut self, block: &Block<'_>) -> Result<ControlFlow<()>, CliError> {
        if block.is_packet() {
            if self.is_full() && self.next_file()?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.packets += 1;
        } else if !block.is_statistics() {
            self.head.extend_from_slice(block.bytes);
        }
        self.file.add(block.bytes)?;
        if self.unbuffered {
            self.file.flush()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, CliError> {
        self.file.flush()?;
        Ok(ControlFlow::Continue(()))
    }
}

/// The name of a file that begins at that moment. With `-G` it may have the moment in it, in
/// strftime's letters. In a ring of files all have a number, of as many digits as the last; else
/// the first has none (tcpdump.c, `MakeFilename`).
fn name(path: &Path, rotation: Rotation, number: u64, moment: Duration) -> PathBuf {
    let is_timed = rotation.seconds.is_some();
    let stamped = path.to_str().filter(|text| is_timed && text.contains('%'));
    let path = stamped.map_or_else(|| path.to_owned(), |text| strftime(text, moment));
    let numbered = |number: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(number);
        name.into()
    };
    match (rotation.bytes, rotation.files) {
        (Some(_), Some(files)) => {
            let digits = files.saturating_sub(1).to_string().len();
            numbered(format!("{:0digits$}", number % files))
        }
        _ if number == 0 || stamped.is_some() => path,
        _ => numbered(number.to_string()),
    }
}

/// A text with a moment in the place of strftime's letters, those that make up dates and times;
/// UTC. Others stay as they are.
fn strftime(text: &str, moment: Duration) -> PathBuf {
    let iso = moment::iso(moment);
    let part = |range: std::ops::Range<usize>| iso.get(range).unwrap_or_default().to_owned();
    let stamps = [
        ("%Y", part(0..4)),
        ("%m", part(5..7)),
        ("%d", part(8..10)),
        ("%H", part(11..13)),
        ("%M", part(14..16)),
        ("%S", part(17..19)),
        ("%F", part(0..10)),
        ("%T", part(11..19)),
        ("%s", moment.as_secs().to_string()),
    ];
    let stamp = |text: String, (letter, stamp): (&str, String)| text.replace(letter, &stamp);
    stamps.into_iter().fold(text.to_owned(), stamp).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_tcpdump_calls_them() {
        let names = |rotation: Rotation, count: u64| -> Vec<String> {
            let name = |number| name(Path::new("a"), rotation, number, Duration::ZERO);
            let name = |number| name(number).display().to_string();
            (0..count).map(name).collect()
        };
        let by_size = Rotation {
            bytes: Some(1),
            ..Rotation::default()
        };
        assert_eq!(names(by_size, 3), ["a", "a1", "a2"]);
        let ring = Rotation {
            files: Some(11),
            ..by_size
        };
        assert_eq!(names(ring, 12)[9..], ["a09", "a10", "a00"]);
        let by_time = Rotation {
            seconds: Some(60),
            ..Rotation::default()
        };
        assert_eq!(names(by_time, 2), ["a", "a1"]);
        let moment = Duration::from_secs(1_795_330_370);
        let stamped = |text: &str, rotation| name(Path::new(text), rotation, 3, moment);
        let name = stamped("b-%Y%m%d-%H%M%S.pcapng", by_time);
        assert_eq!(name, Path::new("b-20261122-065250.pcapng"));
        assert_eq!(stamped("%s-%Q", by_time), Path::new("1795330370-%Q"));
        assert_eq!(stamped("%s", by_size), Path::new("%s3"));
    }
}
