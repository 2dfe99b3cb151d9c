//! A streamed answer: lines as they come, for as long as the server sends any.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;

use super::{Client, WAIT};
use crate::control::api;
use crate::control::watch::NUMBER;
use crate::error::CliError;

/// The longest chunk taken in; ours are of 64 KiB.
const CHUNK_BYTES_MAX: u64 = 16 << 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The reader had enough.
    Enough,
    /// The server is done, or gone.
    Over,
}

impl Client<'_> {
    /// Gets a stream of lines and hands each to `each`, without its end, until that has enough.
    ///
    /// # Errors
    /// As [`request`](Client::request); and those of `each`.
    pub fn stream(
        &self,
        path: &str,
        each: impl FnMut(&str) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Ended, CliError> {
        self.chunks(path, |_| {}, lines(each))
    }

    /// The same; before the first line, `began` gets the number of the watch, where it is one.
    ///
    /// # Errors
    /// As [`stream`](Client::stream).
    pub fn watch_lines(
        &self,
        path: &str,
        began: impl FnOnce(Option<u64>),
        each: impl FnMut(&str) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Ended, CliError> {
        self.chunks(path, began, lines(each))
    }

    /// Gets a stream of bytes and hands them to `each` as they come, until that has enough; before
    /// the first, `began` gets the number of the watch, where it is one.
    ///
    /// # Errors
    /// As [`request`](Client::request); and those of `each`.
    pub fn chunks(
        &self,
        path: &str,
        began: impl FnOnce(Option<u64>),
        mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Ended, CliError> {
        let read = |body: &mut Body<'_>| {
            while let Some(chunk) = body
                .next()
                .map_err(|error| self.broken(&error.to_string()))?
            {
                if each(&chunk)?.is_break() {
                    break;
                }
            }
            Ok(())
        };
        self.body(path, began, read).map(|((), ended)| ended)
    }

    /// The same as something to be read from.
    ///
    /// # Errors
    /// As [`request`](Client::request); and those of `work`.
    pub fn body<T>(
        &self,
        path: &str,
        began: impl FnOnce(Option<u64>),
        work: impl FnOnce(&mut Body<'_>) -> Result<T, CliError>,
    ) -> Result<(T, Ended), CliError> {
        let broken = |error: io::Error| self.broken(&error.to_string());
        let stream = UnixStream::connect(self.socket).map_err(|error| self.unreachable(&error))?;
        let mut answer = Chunked::begin(&stream, path).map_err(broken)?;
        if answer.status != 200 {
            let refusal: api::Error = self.read(&answer.rest().map_err(broken)?)?;
            return Err(CliError::failed(refusal.error, refusal.why, refusal.fix));
        }
        began(answer.watch);
        // From here on silence means that nothing happens.
        stream.set_read_timeout(None).map_err(broken)?;
        let mut body = Body {
            answer,
            chunk: Vec::new(),
            read: 0,
            over: false,
        };
        let done = work(&mut body)?;
        let ended = if body.over {
            Ended::Over
        } else {
            Ended::Enough
        };
        Ok((done, ended))
    }
}

/// The bytes of a streamed answer.
pub struct Body<'s> {
    answer: Chunked<'s>,
    chunk: Vec<u8>,
    /// Bytes of the chunk that were read.
    read: usize,
    over: bool,
}

impl Body<'_> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let chunk = self.answer.chunk()?;
        self.over = chunk.is_none();
        Ok(chunk)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            match self.next()? {
                Some(chunk) => (self.chunk, self.read) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let rest = self.chunk.get(self.read..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}

/// Makes lines of chunks.
fn lines(
    mut each: impl FnMut(&str) -> Result<ControlFlow<()>, CliError>,
) -> impl FnMut(&[u8]) -> Result<ControlFlow<()>, CliError> {
    let mut waiting = Vec::new();
    move |chunk| {
        waiting.extend_from_slice(chunk);
        let mut done = 0;
        while let Some(end) = waiting[done..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&waiting[done..done + end]);
            done += end + 1;
            if each(&line)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        waiting.drain(..done);
        Ok(ControlFlow::Continue(()))
    }
}

/// An HTTP/1.1 answer being read.
struct Chunked<'s> {
    status: u16,
    /// Of a body of known length.
    length: Option<u64>,
    /// The number of the watch, where it is one.
    watch: Option<u64>,
    from: BufReader<&'s UnixStream>,
}

impl<'s> Chunked<'s> {
    fn begin(mut stream: &'s UnixStream, path: &str) -> io::Result<Self> {
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut from = BufReader::new(stream);
        let first = line(&mut from)?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3));
        let status = status.and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| garbled("what answers there is no vswitch"))?;
        let (mut length, mut watch) = (None, None);
        loop {
            let header = line(&mut from)?;
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                Some((name, value)) if name.eq_ignore_ascii_case(NUMBER.as_str()) => {
                    watch = value.trim().parse().ok();
                }
                Some(_) => {}
                None if header.is_empty() => break,
                None => return Err(garbled("what answers there is no vswitch")),
            }
        }
        Ok(Self {
            status,
            length,
            watch,
            from,
        })
    }

    /// A body of known length.
    fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let length = self.length.unwrap_or(0).min(CHUNK_BYTES_MAX);
        (&mut self.from).take(length).read_to_end(&mut body)?;
        Ok(body)
    }

    /// The next chunk (RFC 9112 section 7.1), or `None` at the end. A server that was killed ends
    /// the stream as well as one that took its leave.
    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = line(&mut self.from)?;
        if size.is_empty() {
            return Ok(None);
        }
        let size = u64::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
            .ok()
            .filter(|size| *size <= CHUNK_BYTES_MAX)
            .ok_or_else(|| garbled("the answer is garbled"))?;
        let mut chunk = Vec::new();
        (&mut self.from).take(size).read_to_end(&mut chunk)?;
        if size == 0 || (chunk.len() as u64) < size {
            return Ok(None);
        }
        line(&mut self.from)?;
        Ok(Some(chunk))
    }
}

/// A line without its end; an empty one at the end of the stream.
fn line(from: &mut BufReader<&UnixStream>) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(8192).read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(|_| garbled("the answer is garbled"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn garbled(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &[u8]) -> io::Result<(u16, Vec<Vec<u8>>)> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answer).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Chunked::begin(&ours, "/monitor/nat")?;
        let mut chunks = Vec::new();
        while let Some(chunk) = answer.chunk()? {
            chunks.push(chunk);
        }
        Ok((answer.status, chunks))
    }

    #[test]
    fn chunks_are_read_as_they_are_framed() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = |body: &str| read(format!("{head}{body}").as_bytes());
        let (status, chunks) = answer("3\r\na\nb\r\n2;x=y\r\n\nc\r\n0\r\n\r\n").unwrap();
        assert_eq!(
            (status, chunks),
            (200, vec![b"a\nb".to_vec(), b"\nc".to_vec()])
        );
        assert_eq!(answer("").unwrap().1, Vec::<Vec<u8>>::new());
        assert_eq!(
            answer("5\r\nab").unwrap().1,
            Vec::<Vec<u8>>::new(),
            "killed"
        );
        for bad in ["zz\r\n", "ffffffffff\r\n", "-1\r\n"] {
            assert!(answer(bad).is_err(), "{bad}");
        }
        assert!(read(b"SSH-2.0\r\n").is_err());
    }
}
