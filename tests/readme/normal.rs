//! What an output says, without what differs each time.

/// Units that follow a number of their own.
const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "k", "M", "ms"];

/// Each line in words: numbers, times, MAC addresses and ports become signs. Blanks do not matter,
/// since the columns of a table are as wide as its numbers.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(line).collect()
}

fn line(line: &str) -> String {
    // Rates and sums: even a 0 may be another number next time.
    let all = line.contains("bits/sec") || line.starts_with("stopped:") || line.contains("rtt");
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.dedup_by(|unit, number| UNITS.contains(unit) && is_number(number));
    let words: Vec<String> = words.into_iter().map(|word| sign(word, all)).collect();
    words.join(" ")
}

fn sign(word: &str, all: bool) -> String {
    let end = word.trim_end_matches([',', ')']);
    let tail = &word[end.len()..];
    if end.strip_prefix("time=").is_some_and(is_number) {
        return "time=N".to_owned();
    }
    let sign = if is_mac(end) {
        "MAC"
    } else if is_time(end) || is_number(end) && (all || end != "0") || end == "-" {
        "N"
    } else if let Some(address) = with_port(end) {
        return format!("{address}:PORT{tail}");
    } else if all {
        return word.chars().filter(|c| !c.is_ascii_digit()).collect();
    } else {
        end
    };
    format!("{sign}{tail}")
}

fn is_number(word: &str) -> bool {
    word.parse::<f64>().is_ok()
}

/// `12s`, `0.3s`, `205ms`.
fn is_time(word: &str) -> bool {
    let number = word.strip_suffix("ms").or(word.strip_suffix('s'));
    number.is_some_and(is_number)
}

fn is_mac(word: &str) -> bool {
    let mut bytes = word.split(':');
    word.len() == 17 && bytes.all(|byte| u8::from_str_radix(byte, 16).is_ok())
}

/// The address of `ADDRESS:PORT`.
fn with_port(word: &str) -> Option<&str> {
    let (address, port) = word.split_once(':')?;
    let dots = address.bytes().filter(|byte| *byte == b'.').count() == 3;
    (dots && port.parse::<u16>().is_ok_and(|port| port > 1023)).then_some(address)
}
