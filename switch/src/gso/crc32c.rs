//! CRC32c, the checksum of SCTP (RFC 9260 appendix A; polynomial 0x1EDC6F41 of RFC 3385).

/// The polynomial with its bits reversed, as the register shifts right.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Bytes taken in one step ("slicing by 8", Kounavis and Berry, 2005).
const STEP: usize = 8;

/// `TABLES[k][b]`: what byte `b` does to the register when `k` more bytes follow in the step.
static TABLES: [[u32; 256]; STEP] = tables();

#[expect(
    clippy::cast_possible_truncation,
    reason = "an index below 256, in a const fn"
)]
const fn tables() -> [[u32; 256]; STEP] {
    let mut tables = [[0; 256]; STEP];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let out = register & 1;
            register = (register >> 1) ^ (POLYNOMIAL * out);
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut step = 1;
    while step < STEP {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[step - 1][byte];
            tables[step][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        step += 1;
    }
    tables
}

/// A CRC32c being computed over several pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    /// The CRC of nothing yet.
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    /// The CRC after `bytes` too.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        let mut register = self.0;
        let mut steps = bytes.chunks_exact(STEP);
        for step in &mut steps {
            let [a, b, c, d] = register.to_le_bytes();
            let mixed = [
                step[0] ^ a,
                step[1] ^ b,
                step[2] ^ c,
                step[3] ^ d,
                step[4],
                step[5],
                step[6],
                step[7],
            ];
            register = mixed
                .iter()
                .zip(TABLES.iter().rev())
                .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)]);
        }
        for byte in steps.remainder() {
            let [low, ..] = register.to_le_bytes();
            register = (register >> 8) ^ TABLES[0][usize::from(low ^ byte)];
        }
        Self(register)
    }

    /// The finished value, as the number the RFCs print.
    pub(super) const fn finish(self) -> u32 {
        !self.0
    }
}

/// The CRC32c of `bytes`, as the number the RFCs print.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc32c::new().add(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(bytes: &[u8]) -> u32 {
        crc32c(bytes)
    }

    #[test]
    fn known_answers() {
        // The check value of the algorithm, and the iSCSI examples of RFC 3720 B.4.
        assert_eq!(crc(b"123456789"), 0xe306_9283);
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc(&up), 0x46dd_794e);
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc(&down), 0x113f_db5c);
        assert_eq!(crc(b""), 0);
    }

    #[test]
    fn pieces_make_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(Crc32c::new().add(head).add(tail).finish(), crc(&bytes));
        }
    }
}
