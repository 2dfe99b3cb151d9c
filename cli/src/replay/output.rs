//! What went in and out, as pcapng.

use std::io;
use std::path::{Path, PathBuf};

use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};

use crate::error::CliError;
use crate::replacement::Replacement;

/// Bytes that are gathered before they are written.
const GATHERED_BYTES: usize = 1 << 16;

/// A capture that gets its name when it is whole.
pub(super) struct Output {
    path: PathBuf,
    file: Replacement,
    writer: Writer,
}

/// A packet to be written.
pub(super) struct Written<'p> {
    /// The port's place.
    pub(super) port: usize,
    pub(super) time: u64,
    pub(super) bytes: &'p [u8],
    pub(super) direction: Direction,
    pub(super) number: Option<u64>,
    pub(super) comments: &'p [String],
}

impl Output {
    /// Begins a capture of these ports. `input` is the one that is being read.
    pub(super) fn begin(path: &Path, input: &Path, ports: &[String]) -> Result<Self, CliError> {
        let shown = path.display().to_string();
        if let (Ok(one), Ok(other)) = (path.canonicalize(), input.canonicalize())
            && one == other
        {
            let why = "it would replace the capture that is read";
            return Err(CliError::usage(shown, why, "-w verdicts.pcapng"));
        }
        let file = Replacement::begin(path).map_err(|error| unwritten(path, &error))?;
        let mut writer = Writer::new();
        writer.section(&SectionInfo {
            application: concat!("vswitch ", env!("CARGO_PKG_VERSION")),
            comments: &["vswitch replay --offline"],
            ..SectionInfo::default()
        });
        for name in ports {
            writer.interface(&InterfaceInfo {
                name,
                ..InterfaceInfo::default()
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            writer,
        })
    }

    pub(super) fn packet(&mut self, packet: &Written<'_>) -> Result<(), CliError> {
        let comments: Vec<&str> = packet.comments.iter().map(String::as_str).collect();
        self.writer.packet(&PacketInfo {
            interface: u32::try_from(packet.port).unwrap_or(u32::MAX),
            time: packet.time,
            bytes: packet.bytes,
            original_bytes: u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX),
            direction: Some(packet.direction),
            packet_id: packet.number,
            comments: &comments,
            ..PacketInfo::default()
        });
        if self.writer.bytes().len() < GATHERED_BYTES {
            return Ok(());
        }
        self.drain()
    }

    /// Ends the capture at `time` with what each port received, and gives it its name.
    pub(super) fn finish(
        mut self,
        time: u64,
        received: impl Iterator<Item = u64>,
    ) -> Result<(), CliError> {
        for (interface, received) in (0..).zip(received) {
            self.writer.statistics(&StatisticsInfo {
                interface,
                time,
                received: Some(received),
                ..StatisticsInfo::default()
            });
        }
        self.drain()?;
        let path = self.path;
        let finished = self.file.finish();
        finished.map_err(|error| unwritten(&path, &error))
    }

    fn drain(&mut self) -> Result<(), CliError> {
        let written = self.file.write(self.writer.bytes());
        self.writer.clear();
        written.map_err(|error| unwritten(&self.path, &error))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(path.display().to_string(), error.to_string(), "-w FILE")
}
