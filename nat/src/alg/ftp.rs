//! What FTP says about endpoints: PORT, EPRT and the replies 227 and 229 (RFC 959, RFC 2428).

use std::net::Ipv4Addr;
use std::ops::Range;

/// How an endpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `10,9,0,2,200,13`
    Commas,
    /// `10.9.0.2|51213`, with this delimiter.
    Extended(char),
    /// `51213`: the address is the speaker's.
    Port,
}

/// An endpoint that a segment tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Where its text lies in the segment's data.
    pub(super) at: Range<usize>,
    /// `None`: the speaker's.
    pub(super) address: Option<Ipv4Addr>,
    pub(super) port: u16,
    form: Form,
}

impl Told {
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Where the text begins; a segment is shorter than 64 KiB.
    pub(super) fn at_u32(&self) -> u32 {
        u32::try_from(self.at.start).unwrap_or(0)
    }

    /// Writes another endpoint in the same form.
    pub(super) fn with(&self, (address, port): (Ipv4Addr, u16)) -> String {
        match self.form {
            Form::Commas => {
                let [a, b, c, d] = address.octets();
                let [high, low] = port.to_be_bytes();
                format!("{a},{b},{c},{d},{high},{low}")
            }
            Form::Extended(delimiter) => format!("{address}{delimiter}{port}"),
            Form::Port => port.to_string(),
        }
    }
}

/// What a segment's data begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No line that tells an endpoint, or none of ours: the receiver will complain of a bad one.
    Nothing,
    /// Such a line, whose end is in another segment.
    Incomplete,
    Told(Told),
}

/// Reads the line at the start of a segment: a client's command or a server's reply.
pub(super) fn read(data: &[u8], is_server: bool) -> Found {
    let begins = |word: &str| {
        let start = data.get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    let read: fn(&str) -> Option<Told> = match is_server {
        false if begins("PORT ") => |line| commas(line, 5),
        false if begins("EPRT ") => extended,
        true if begins("227 ") => |line| commas(line, 4),
        true if begins("229 ") => extended_passive,
        _ => return Found::Nothing,
    };
    // The longest such line is shorter than that; more need not be searched.
    let line = &data[..data.len().min(LINE_MAX)];
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        return Found::Incomplete;
    };
    let told = std::str::from_utf8(&line[..end]).ok().and_then(read);
    told.map_or(Found::Nothing, Found::Told)
}

const LINE_MAX: usize = 512;

/// Finds `h1,h2,h3,h4,p1,p2`; clients of RFC 959 search a reply for the first digit too
/// (RFC 1123 section 4.1.2.6).
fn commas(line: &str, from: usize) -> Option<Told> {
    let start = from + line.get(from..)?.find(|c: char| c.is_ascii_digit())?;
    let rest = &line[start..];
    let length = rest.find(|c: char| !c.is_ascii_digit() && c != ',');
    let text = &rest[..length.unwrap_or(rest.len())];
    let mut numbers = [0u8; 6];
    let mut parts = text.split(',');
    for number in &mut numbers {
        *number = parts.next()?.parse().ok()?;
    }
    let [a, b, c, d, high, low] = numbers;
    parts.next().is_none().then_some(Told {
        at: start..start + text.len(),
        address: Some(Ipv4Addr::new(a, b, c, d)),
        port: u16::from_be_bytes([high, low]),
        form: Form::Commas,
    })
}

/// Reads `EPRT |1|10.9.0.2|51213|`; the delimiter is whatever comes first.
fn extended(line: &str) -> Option<Told> {
    let text = line.get(5..)?.trim_start();
    let delimiter = text.chars().next().filter(char::is_ascii_punctuation)?;
    let mut parts = text[1..].split(delimiter);
    let (kind, address, port) = (parts.next()?, parts.next()?, parts.next()?);
    // Without the last delimiter the port may not be all there is of it.
    parts.next()?;
    if kind != "1" || delimiter == '.' {
        return None;
    }
    let start = line.len() - text.len() + 3;
    Some(Told {
        at: start..start + address.len() + 1 + port.len(),
        address: Some(address.parse().ok()?),
        port: digits(port)?,
        form: Form::Extended(delimiter),
    })
}

/// Reads `229 Entering Extended Passive Mode (|||51213|)`.
fn extended_passive(line: &str) -> Option<Told> {
    let open = line.find('(')?;
    let text = &line[open + 1..];
    let delimiter = text.chars().next().filter(char::is_ascii_punctuation)?;
    let mut parts = text[1..].split(delimiter);
    if (parts.next()?, parts.next()?) != ("", "") {
        return None;
    }
    let port = parts.next()?;
    parts.next()?;
    let start = open + 4;
    Some(Told {
        at: start..start + port.len(),
        address: None,
        port: digits(port)?,
        form: Form::Port,
    })
}

/// Reads a number without a sign.
fn digits(text: &str) -> Option<u16> {
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| only_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXTERNAL: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 254), 40_001);

    /// A line after its endpoint has been replaced.
    fn replaced(line: &str, is_server: bool) -> Option<String> {
        let Found::Told(told) = read(line.as_bytes(), is_server) else {
            return None;
        };
        assert_eq!(told.port, 51_213, "{line}");
        assert!(
            told.address
                .is_none_or(|address| address == Ipv4Addr::new(10, 9, 0, 2))
        );
        let mut line = line.to_owned();
        line.replace_range(told.at.clone(), &told.with(EXTERNAL));
        Some(line)
    }

    #[test]
    fn a5_5_endpoints_are_replaced_and_nothing_else() {
        for (line, expected) in [
            ("PORT 10,9,0,2,200,13\r\n", "PORT 203,0,113,254,156,65\r\n"),
            (
                "port  10,9,0,2,200,13\nNOOP\r\n",
                "port  203,0,113,254,156,65\nNOOP\r\n",
            ),
            (
                "PORT 010,009,0,002,200,013\r\n",
                "PORT 203,0,113,254,156,65\r\n",
            ),
            (
                "EPRT |1|10.9.0.2|51213|\r\n",
                "EPRT |1|203.0.113.254|40001|\r\n",
            ),
            (
                "eprt !1!10.9.0.2!51213!\r\n",
                "eprt !1!203.0.113.254!40001!\r\n",
            ),
        ] {
            assert_eq!(replaced(line, false).as_deref(), Some(expected));
            assert_eq!(replaced(line, true), None, "no server says that");
        }
        for (line, expected) in [
            (
                "227 Entering Passive Mode (10,9,0,2,200,13).\r\n",
                "227 Entering Passive Mode (203,0,113,254,156,65).\r\n",
            ),
            ("227 =10,9,0,2,200,13\r\n", "227 =203,0,113,254,156,65\r\n"),
            (
                "229 Entering Extended Passive Mode (|||51213|)\r\n",
                "229 Entering Extended Passive Mode (|||40001|)\r\n",
            ),
        ] {
            assert_eq!(replaced(line, true).as_deref(), Some(expected));
            assert_eq!(replaced(line, false), None, "no client says that");
        }
    }

    #[test]
    fn a5_5_other_lines_pass() {
        for line in [
            "",
            "POR",
            "PORTS 10,9,0,2,200,13\r\n",
            "NOOP PORT 10,9,0,2,200,13\r\n",
            "PORT 10,9,0,2,200\r\n",
            "PORT 10,9,0,2,200,13,1\r\n",
            "PORT 10,9,0,2,200,256\r\n",
            "PORT 10,9,,2,200,13\r\n",
            "PORT \r\n",
            "EPRT |2|2001:db8::1|51213|\r\n",
            "EPRT |1|10.9.0.2|51213\r\n",
            "EPRT |1|10.9.0.2|+51213|\r\n",
            "EPRT |1|10.9.0.2|65536|\r\n",
            "EPRT .1.10.9.0.2.51213.\r\n",
            "EPRT \r\n",
            "EPRT |1\u{e9}|\r\n",
        ] {
            assert_eq!(read(line.as_bytes(), false), Found::Nothing, "{line:?}");
        }
        for line in [
            "229 (|||)\r\n",
            "229 (||1|51213|)\r\n",
            "229 |||51213|\r\n",
            "227 no\r\n",
        ] {
            assert_eq!(read(line.as_bytes(), true), Found::Nothing, "{line:?}");
        }
        assert_eq!(read(b"PORT 10,9,0,2,2", false), Found::Incomplete);
        assert_eq!(read(b"229 Entering", true), Found::Incomplete);
    }

    proptest! {
        #[test]
        fn a5_5_any_bytes(
            data in proptest::collection::vec(any::<u8>(), 0..60), word in 0usize..5,
            is_server: bool,
        ) {
            let words: [&[u8]; 5] = [b"PORT ", b"EPRT ", b"227 ", b"229 ", b""];
            let data = [words[word], &data, b"\n"].concat();
            if let Found::Told(told) = read(&data, is_server) {
                prop_assert!(told.at.end < data.len() && told.len() > 0);
            }
        }

        #[test]
        fn a5_5_what_is_written_is_read(address: [u8; 4], port: u16, extended: bool) {
            let address = Ipv4Addr::from(address);
            let form = if extended { Form::Extended('|') } else { Form::Commas };
            let told = Told { at: 0..0, address: None, port: 0, form };
            let text = told.with((address, port));
            let line = if extended {
                format!("EPRT |1|{text}|\r\n")
            } else {
                format!("PORT {text}\r\n")
            };
            let at = line.find(&text).unwrap();
            let expected = Told { at: at..at + text.len(), address: Some(address), port, form };
            prop_assert_eq!(read(line.as_bytes(), false), Found::Told(expected));
        }
    }
}
