//! What an output says, without what differs each time.

/// Units that follow a number of their own.
const UNITS: [&str; 11] = ["B", "kB", "MB", "GB", "k", "M", "s", "ms", "us", "µs", "ns"];

/// The rungs of the ladder by which a host is kept out; which one depends on the kernel.
const RUNGS: [&str; 3] = ["nft owner table", "clsact filter", "sysctls only"];

/// Each line in words: numbers, times, MAC addresses and ports become signs. Blanks do not matter,
/// since the columns of a table are as wide as its numbers, and nor do warnings.
///
/// Tables are sorted: their order goes by MAC address and age.
pub(super) fn lines(command: &str, text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("warning:"));
    let mut lines: Vec<String> = lines.map(|text| line(command, text)).collect();
    if command.starts_with("sudo vswitch ") {
        lines.sort_unstable();
    }
    lines
}

fn line(command: &str, line: &str) -> String {
    let rung = |line: String, rung: &&str| line.replace(rung, "TCX");
    let line = RUNGS.iter().fold(line.to_owned(), rung);
    // Rates, sums and names by process: even a 0 may be another number next time.
    let all = ["bits/sec", "stopped:", "rtt"]
        .iter()
        .any(|word| line.contains(word));
    let timed = [
        "vswitch top",
        "vswitch trace",
        "capture",
        "tshark",
        "tcpdump",
    ];
    let timed = timed.iter().any(|words| command.contains(words));
    let all = all || command == "demo" || timed;
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.dedup_by(|unit, number| UNITS.contains(unit) && is_number(number));
    let words: Vec<String> = words.into_iter().map(|word| sign(word, all)).collect();
    words.join(" ")
}

fn sign(word: &str, all: bool) -> String {
    let end = word.trim_end_matches([',', ')']);
    let tail = &word[end.len()..];
    if let Some((key, _)) = (end.split_once('=')).filter(|(_, value)| is_number(value)) {
        return format!("{key}=N");
    }
    let sign = if is_mac(end) {
        "MAC"
    } else if is_time(end)
        || is_moment(end)
        || end.starts_with("0x")
        || is_number(end) && (all || end != "0")
        || end == "-"
    {
        "N"
    } else if let Some(address) = with_port(end) {
        return format!("{address}:PORT{tail}");
    } else if word.ends_with("Bytes") || word.ends_with("bits/sec") {
        return word.trim_start_matches(['G', 'M', 'K']).to_owned();
    } else if end.strip_suffix("/s").is_some_and(is_number) {
        "N/s"
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

/// `2026-11-22T10:00:00.123Z`.
fn is_moment(word: &str) -> bool {
    let clock = word.split_once('T').map(|(_, clock)| clock);
    clock.is_some_and(|clock| clock.ends_with('Z') && clock.len() == "10:00:00.123Z".len())
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
