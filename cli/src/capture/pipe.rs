//! Blocks to a program that reads them.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use switch::pcapng::{Block, Blocks};

use super::{Sink, Tally, each_block, failed};
use crate::error::CliError;

/// Bytes kept back while more blocks wait to be handed on.
const KEPT_BACK: usize = 64 << 10;
/// Bytes that are taken in at once: more than a chunk of the stream has, but for giant packets.
const TAKEN_IN: usize = 512 << 10;

/// The way to a reader. One that has gone has had enough.
pub(super) struct Pipe<W: Write> {
    to: BufWriter<W>,
    /// Each block is written at once.
    unbuffered: bool,
}

impl<W: Write> Pipe<W> {
    pub(super) fn new(to: W, unbuffered: bool) -> Self {
        Self {
            to: BufWriter::with_capacity(KEPT_BACK, to),
            unbuffered,
        }
    }

    fn done(result: io::Result<()>) -> Result<ControlFlow<()>, CliError> {
        match result {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(failed(Path::new("stdout"), &error.to_string(), "")),
        }
    }
}

/// Hands on a stream, up to the packet that is enough.
pub(super) fn fill(
    count: Option<u64>,
    from: impl Read,
    mut pipe: Pipe<impl Write>,
) -> Result<Tally, CliError> {
    let blocks = Blocks::new(BufReader::with_capacity(TAKEN_IN, from));
    each_block(count, blocks, &mut pipe, |from| from.buffer().is_empty())
}

impl<W: Write> Sink for Pipe<W> {
    fn block(&mut self, block: &Block<'_>) -> Result<ControlFlow<()>, CliError> {
        let mut written = self.to.write_all(block.bytes);
        if self.unbuffered {
            written = written.and_then(|()| self.to.flush());
        }
        Self::done(written)
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, CliError> {
        Self::done(self.to.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use switch::pcapng::{InterfaceInfo, PacketInfo, SectionInfo, Writer};

    use super::*;

    /// What was written, write by write.
    #[derive(Default)]
    struct Written(RefCell<Vec<usize>>);

    impl Written {
        fn bytes(&self) -> usize {
            self.0.borrow().iter().sum()
        }
    }

    impl Write for &Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Gives a part at a time; what came before must have been written by then.
    struct Parts<'p> {
        parts: &'p [Vec<u8>],
        given: usize,
        written: &'p Written,
    }

    impl Read for Parts<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            assert_eq!(self.written.bytes(), self.given, "kept back for nothing");
            let Some((first, rest)) = self.parts.split_first() else {
                return Ok(0);
            };
            to[..first.len()].copy_from_slice(first);
            self.parts = rest;
            self.given += first.len();
            Ok(first.len())
        }
    }

    fn parts() -> Vec<Vec<u8>> {
        let mut writer = Writer::new();
        writer.section(&SectionInfo::default());
        writer.interface(&InterfaceInfo::default());
        let mut parts = Vec::new();
        for count in [20, 1, 300] {
            for _ in 0..count {
                let bytes = &[0; 100];
                writer.packet(&PacketInfo {
                    bytes,
                    ..PacketInfo::default()
                });
            }
            parts.push(writer.take());
        }
        parts
    }

    #[test]
    fn what_comes_together_is_written_together_and_at_once() {
        let parts = parts();
        let all: usize = parts.iter().map(Vec::len).sum();
        for (unbuffered, count, packets, writes) in [
            (false, None, 321, 3),
            (true, None, 321, 323),
            (false, Some(19), 19, 1),
            (false, Some(21), 21, 2),
        ] {
            let written = Written::default();
            let from = Parts {
                parts: &parts,
                given: 0,
                written: &written,
            };
            let tally = fill(count, from, Pipe::new(&written, unbuffered)).unwrap();
            assert_eq!(tally, Tally { packets, lost: 0 });
            assert_eq!(written.0.borrow().len(), writes);
            assert!(count.is_some() || written.bytes() == all);
        }
    }
}
