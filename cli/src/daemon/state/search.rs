//! What must hold whatever bytes a state file has: played by the fuzz target of that name.

use std::time::Duration;

use nat::{Config, Nanos, Nat};

use super::format::{self, Header};

const NAME: &str = "vsw";
const SESSIONS: u32 = 64;

/// Reads `input` as a state file and, where its first byte says so, as the sections of one whose
/// frame and checksums are right; then brings back what sessions it has.
///
/// # Panics
/// Panics if what was read is not read again as it was written, or an engine takes more sessions
/// than it has room for.
pub fn play(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let file = if how & 1 == 0 {
        rest.to_vec()
    } else {
        sealed(rest)
    };
    let Ok(loaded) = format::read(&file, NAME) else {
        return;
    };
    let again = [
        format::preface(),
        header(),
        format::sessions(&loaded.sessions),
        format::end(),
    ]
    .concat();
    let again = format::read(&again, NAME).map(|again| again.sessions);
    assert_eq!(again.ok().as_ref(), Some(&loaded.sessions));
    let mut config = Config::new([192, 0, 2, 10].into(), 61_000..=65_535);
    config.sessions_max = SESSIONS;
    let mut nat = Nat::new(config, 1);
    for kept in &loaded.sessions {
        // Refused or not, the engine goes on.
        let _ = nat.restore(&kept.record, Nanos::from_secs(1));
    }
    assert!(nat.len() <= usize::try_from(SESSIONS).unwrap_or(usize::MAX));
    nat.expire(Nanos::from_secs(1 << 40), usize::MAX);
    assert!(nat.is_empty(), "a session that cannot end");
}

/// A header, the sections that `rest` says (kind, length in 16 bits, payload), and the end.
fn sealed(mut rest: &[u8]) -> Vec<u8> {
    let mut file = [format::preface(), header()].concat();
    while let [kind, high, low, payload @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(payload.len());
        let (payload, next) = payload.split_at(length);
        file.extend(format::sealed(u32::from(*kind), payload));
        rest = next;
    }
    file.extend(format::end());
    file
}

fn header() -> Vec<u8> {
    format::header(&Header {
        saved_at: Duration::from_secs(1),
        seed: 1,
        nat_ports: (61_000, 65_535),
        external: vec![[192, 0, 2, 10].into()],
        name: NAME.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_22_a_file_of_any_sections_is_played() {
        play(&[]);
        play(&[0, 1, 2, 3]);
        // A section of sessions, cut off in the midst of one, and a whole one of zeroes.
        for length in [0_u8, 10, 72] {
            let head = [1, 3, 0, length];
            play(&[head.as_slice(), &vec![0; usize::from(length)]].concat());
        }
    }
}
