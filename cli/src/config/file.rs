//! The configuration file: TOML in the words of the flags.
//!
//! ```toml
//! ports = ["veth1", "tap:web0"]      # --ports veth1,tap:web0
//! uplink = "eth0"                    # --uplink eth0
//! ageing = 300                       # --ageing 300
//! publish = ["8080:veth1:80"]        # --publish 8080:veth1:80
//!
//! [port.veth1]                       # --port veth1,worker=0,ring=4MiB
//! worker = 0
//! ring = "4MiB"
//!
//! [[fdb]]                            # a station fixed to a port
//! mac = "02:00:00:00:00:0b"
//! port = "veth1"
//! ```
//!
//! The file is walked by hand over the parser's spans rather than through serde, so that every
//! error, ours or the parser's, points at the very word in the file.

mod top;

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layer::Layer;
use super::settings::PortOptions;
use super::words;
use crate::error::{CliError, nearest};
use crate::top::theme::Theme;

/// The most bytes a configuration file may have: 4,096 ports of 200 bytes, with room.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads and parses a file.
///
/// # Errors
/// The file cannot be read, or is wrong; then the line is quoted and the word underlined.
pub fn read(path: &Path) -> Result<Layer, CliError> {
    parse(&path.display().to_string(), &text(path)?)
}

/// Reads what a file says of `vswitch top`. The rest of it is looked at as well, so that no
/// mistake goes unsaid.
///
/// # Errors
/// As [`read`].
pub fn read_theme(path: &Path) -> Result<Theme, CliError> {
    parse_theme(&path.display().to_string(), &text(path)?)
}

fn text(path: &Path) -> Result<String, CliError> {
    let what = path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&what, &error))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(CliError::failed(
            what,
            "longer than 4 MiB, which no configuration is",
            "",
        ));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(&what, &error))
}

fn unreadable(what: &str, error: &std::io::Error) -> CliError {
    CliError::failed(what, error.to_string(), format!("ls -l {what}"))
}

/// Parses the text of the file called `name`.
///
/// # Errors
/// The first mistake in the text, quoted and underlined.
pub fn parse(name: &str, text: &str) -> Result<Layer, CliError> {
    let mut layer = Layer::default();
    walk(name, text, |table| fill(&mut layer, table)).map(|()| layer)
}

/// The same for what it says of `vswitch top`.
///
/// # Errors
/// As [`parse`].
pub fn parse_theme(name: &str, text: &str) -> Result<Theme, CliError> {
    let mut theme = Theme::default();
    let fill = |table: &DeTable<'_>| {
        fill(&mut Layer::default(), table)?;
        table
            .get("top")
            .map_or(Ok(()), |top| top::theme(&mut theme, top))
    };
    walk(name, text, fill).map(|()| theme)
}

fn walk(name: &str, text: &str, fill: impl FnOnce(&DeTable<'_>) -> Step) -> Result<(), CliError> {
    DeTable::parse(text)
        .map_err(|error| Mistake {
            at: error.span().unwrap_or_default(),
            why: error.message().replace('\n', ", "),
            fix: String::new(),
        })
        .and_then(|table| fill(table.get_ref()))
        .map_err(|mistake| mistake.locate(name, text))
}

/// Something wrong at a place in the file.
struct Mistake {
    /// Bytes of the file.
    at: Range<usize>,
    why: String,
    fix: String,
}

impl Mistake {
    fn new(at: Range<usize>, why: impl Into<String>) -> Self {
        Self {
            at,
            why: why.into(),
            fix: String::new(),
        }
    }

    /// A bad value of `key`; the fix is a good one.
    fn value(at: Range<usize>, key: &str, why: &str) -> Self {
        let fix = words::example(key).map_or_else(String::new, |value| {
            let bare = value == "true" || is_number(value);
            if bare {
                format!("{key} = {value}")
            } else {
                format!("{key} = \"{value}\"")
            }
        });
        Self {
            at,
            why: format!("{key}: {why}"),
            fix,
        }
    }

    fn unknown(at: Range<usize>, key: &str, known: &[&str]) -> Self {
        let fix = match nearest(key, known) {
            Some(word) => format!("write `{word}`"),
            None => format!("use one of {}", known.join(", ")),
        };
        Self {
            at,
            why: format!("unknown key `{key}`"),
            fix,
        }
    }

    /// The error with file, line and column (in characters, from 1), and the line underlined.
    fn locate(self, name: &str, text: &str) -> CliError {
        let start = boundary(text, self.at.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |length| start + length);
        let number = text[..start].matches('\n').count() + 1;
        // Quoted as it is but for what would move the cursor; a tab keeps the underline in place.
        let line = text[line_start..line_end]
            .trim_end_matches('\r')
            .replace(|c: char| c.is_control() && c != '\t', "?");
        let before: String = text[line_start..start]
            .chars()
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let end = boundary(text, self.at.end.clamp(start, line_end));
        let carets = "^".repeat(text[start..end].chars().count().max(1));
        let margin = " ".repeat(number.to_string().len());
        let column = before.chars().count() + 1;
        let mut error = CliError::failed(format!("{name}:{number}:{column}"), self.why, self.fix);
        error.excerpt = Some(format!(
            "{margin} |\n{number} | {line}\n{margin} | {before}{carets}"
        ));
        error
    }
}

/// The last character boundary of `text` at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|index| text.is_char_boundary(*index))
        .unwrap_or(0)
}

type Step<T = ()> = Result<T, Mistake>;

fn fill(layer: &mut Layer, table: &DeTable<'_>) -> Step {
    // The list of ports comes first, whatever its place in the file: it sets their order.
    if let Some(list) = table.get("ports") {
        ports(layer, list)?;
    }
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "ports" => {}
            "publish" => publishes(layer, value)?,
            "port" => port_tables(layer, value)?,
            "fdb" => stations(layer, value)?,
            // A switch has no use for it, but a mistake is one.
            "top" => top::theme(&mut Theme::default(), value)?,
            word if Layer::KEYS.contains(&word) => {
                let text = scalar(word, value)?;
                if let Some(Err(why)) = layer.set(word, &text) {
                    return Err(Mistake::value(value.span(), word, &why));
                }
            }
            word => {
                let tables = ["ports", "port", "fdb", "publish", "top"];
                let known: Vec<_> = tables
                    .into_iter()
                    .chain(Layer::KEYS.iter().copied())
                    .collect();
                return Err(Mistake::unknown(key.span(), word, &known));
            }
        }
    }
    Ok(())
}

fn ports(layer: &mut Layer, list: &Spanned<DeValue<'_>>) -> Step {
    let array = list
        .get_ref()
        .as_array()
        .ok_or_else(|| Mistake::new(list.span(), "ports is a list: ports = [\"veth1\"]"))?;
    for item in array {
        let text = string(item)?;
        let word = words::port_word(text).map_err(|why| Mistake::new(item.span(), why))?;
        if layer.ports.contains(&word) {
            return Err(Mistake::new(item.span(), "this port is named twice"));
        }
        layer.add_port(word, PortOptions::default());
    }
    Ok(())
}

fn publishes(layer: &mut Layer, list: &Spanned<DeValue<'_>>) -> Step {
    let array = list.get_ref().as_array().ok_or_else(|| {
        let form = "publish is a list: publish = [\"8080:veth1:80\"]";
        Mistake::new(list.span(), form)
    })?;
    for item in array {
        let spec = string(item)?
            .parse()
            .map_err(|why: words::Why| Mistake::new(item.span(), why))?;
        layer.publishes.push(spec);
    }
    Ok(())
}

fn port_tables(layer: &mut Layer, value: &Spanned<DeValue<'_>>) -> Step {
    for (key, options) in table(value, "[port.NAME]")? {
        let word = words::port_word(key.get_ref()).map_err(|why| Mistake::new(key.span(), why))?;
        let mut set = PortOptions::default();
        for (option, value) in table(options, "[port.NAME]")? {
            let name = option.get_ref().as_ref();
            if !words::port_keys().contains(&name) {
                return Err(Mistake::unknown(option.span(), name, words::port_keys()));
            }
            let several = match value.get_ref().as_array() {
                Some(array) if name == "mac" => array.iter().collect(),
                Some(_) | None => vec![value],
            };
            for one in several {
                words::port_option(&mut set, name, &scalar(name, one)?)
                    .map_err(|why| Mistake::value(one.span(), name, &why))?;
            }
        }
        layer.add_port(word, set);
    }
    Ok(())
}

fn stations(layer: &mut Layer, value: &Spanned<DeValue<'_>>) -> Step {
    let array = value
        .get_ref()
        .as_array()
        .ok_or_else(|| Mistake::new(value.span(), "static entries are written [[fdb]]"))?;
    for entry in array {
        let (mut mac, mut port) = (None, None);
        for (key, value) in table(entry, "[[fdb]]")? {
            let wrong = |why| Mistake::new(value.span(), why);
            match key.get_ref().as_ref() {
                "mac" => mac = Some(words::station(string(value)?).map_err(wrong)?),
                "port" => port = Some(words::port_word(string(value)?).map_err(wrong)?),
                other => return Err(Mistake::unknown(key.span(), other, &["mac", "port"])),
            }
        }
        let (Some(mac), Some(port)) = (mac, port) else {
            return Err(Mistake::new(
                entry.span(),
                "a static entry needs mac and port",
            ));
        };
        layer.stations.push((mac, port.device().into()));
    }
    Ok(())
}

fn table<'t, 'i>(value: &'t Spanned<DeValue<'i>>, form: &str) -> Step<&'t DeTable<'i>> {
    value
        .get_ref()
        .as_table()
        .ok_or_else(|| Mistake::new(value.span(), format!("a table is needed here: {form}")))
}

fn string<'t>(value: &'t Spanned<DeValue<'_>>) -> Step<&'t str> {
    value.get_ref().as_str().ok_or_else(|| {
        let kind = value.get_ref().type_str();
        Mistake::new(
            value.span(),
            format!("a text in quotes is needed, not this {kind}"),
        )
    })
}

/// The value of `key` as the text its flag would have. The kind of TOML value must be that of the
/// key's example: a number, a truth value, or else a text in quotes.
fn scalar(key: &str, value: &Spanned<DeValue<'_>>) -> Step<String> {
    let example = words::example(key).unwrap_or_default();
    let needed = match (example, value.get_ref()) {
        ("true", DeValue::Boolean(truth)) => return Ok(truth.to_string()),
        ("true", _) => "true or false belongs here",
        (_, DeValue::String(text)) if !is_number(example) => return Ok(text.to_string()),
        _ if !is_number(example) => "a text in quotes belongs here",
        (_, DeValue::Integer(number)) if number.radix() == 10 => return Ok(number.as_str().into()),
        _ => "a whole number in decimal belongs here",
    };
    Err(Mistake::value(value.span(), key, needed))
}

fn is_number(example: &str) -> bool {
    !example.is_empty() && example.bytes().all(|byte| byte.is_ascii_digit())
}
