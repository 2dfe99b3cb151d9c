//! Random frames with the addresses and ports that random filters ask for.

/// A small generator (xorshift64*), so that a frame is known by its seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[7]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

pub(super) const MACS: [[u8; 6]; 5] = [
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [0xff; 6],
    [1, 0, 0x5e, 0, 0, 0xfb],
    [0x33, 0x33, 0, 0, 0, 1],
];
pub(super) const IPV4: [[u8; 4]; 6] = [
    [10, 9, 0, 2],
    [10, 9, 0, 3],
    [10, 9, 7, 1],
    [192, 0, 2, 1],
    [224, 0, 0, 251],
    [255, 255, 255, 255],
];
pub(super) const IPV6: [[u8; 16]; 4] = [
    [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];
pub(super) const PORTS: [u16; 7] = [22, 53, 67, 69, 80, 443, 1024];
pub(super) const PROTOCOLS: [u8; 10] = [1, 2, 6, 6, 17, 17, 132, 50, 51, 58];
pub(super) const VLANS: [u16; 3] = [0, 5, 4095];

/// A frame, perhaps cut, and the bytes it had on the wire.
pub(super) fn frame(random: &mut Random) -> (Vec<u8>, u32) {
    let mut frame = whole(random);
    if random.one_in(5) {
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len());
            frame[at] = random.byte();
        }
    }
    let mut length = frame.len();
    if random.one_in(3) {
        frame.truncate(random.below(length + 1));
        if random.one_in(2) {
            length = frame.len();
        }
    }
    (frame, u32::try_from(length).unwrap())
}

fn whole(random: &mut Random) -> Vec<u8> {
    let mut frame = random.of(&MACS).to_vec();
    frame.extend(random.of(&MACS));
    let tags = random.of(&[0, 0, 0, 1, 1, 2]);
    for _ in 0..tags {
        frame.extend(
            random
                .of(&[0x8100_u16, 0x8100, 0x88a8, 0x9100])
                .to_be_bytes(),
        );
        let priority = random.of(&[0, 0x2000, 0x1000]);
        frame.extend((random.of(&VLANS) | priority).to_be_bytes());
    }
    let (ethertype, payload) = match random.below(16) {
        0..8 => (0x0800, ipv4(random)),
        8..12 => (0x86dd, ipv6(random)),
        12 => (0x0806, arp(random)),
        13 => (0x8035, arp(random)),
        14 => (random.of(&[40, 1500]), llc(random)),
        _ => (random.of(&[0x88cc, 1501, 0x0600, 0xffff]), random.bytes(40)),
    };
    frame.extend(u16::to_be_bytes(ethertype));
    frame.extend(payload);
    let padding = random.of(&[0, 0, 6, 30]);
    frame.extend(random.bytes(padding));
    frame
}

fn ipv4(random: &mut Random) -> Vec<u8> {
    let words = random.of(&[5, 5, 5, 6, 8, 15, 0, 2]);
    let fragment = random.of(&[0_u16, 0, 0x4000, 0x2000, 0x2001, 100]);
    let mut packet = vec![0x40 | words, random.byte(), 0, 60];
    packet.extend(random.bytes(2));
    packet.extend(fragment.to_be_bytes());
    packet.extend([random.of(&[1, 64, 255]), random.of(&PROTOCOLS)]);
    packet.extend(random.bytes(2));
    packet.extend(random.of(&IPV4));
    packet.extend(random.of(&IPV4));
    packet.extend(random.bytes(4 * usize::from(words.max(5) - 5)));
    packet.extend(transport(random));
    packet
}

fn ipv6(random: &mut Random) -> Vec<u8> {
    let next = random.of(&[6, 17, 132, 58, 58, 44, 44, 0]);
    let mut packet = vec![0x60, 0, 0, 0, 0, 60, next, random.of(&[1, 64, 255])];
    packet.extend(random.of(&IPV6));
    packet.extend(random.of(&IPV6));
    if next == 44 {
        packet.extend([random.of(&PROTOCOLS), 0]);
        packet.extend(random.of(&[0_u16, 1, 8]).to_be_bytes());
        packet.extend(random.bytes(4));
    }
    packet.extend(transport(random));
    packet
}

fn transport(random: &mut Random) -> Vec<u8> {
    let mut segment = Vec::new();
    if random.one_in(4) {
        let icmp = random.of(&[0, 3, 8, 11, 128, 135]);
        segment.extend([icmp, random.of(&[0, 1, 4])]);
    } else {
        segment.extend(random.of(&PORTS).to_be_bytes());
        segment.extend(random.of(&PORTS).to_be_bytes());
    }
    segment.extend(random.bytes(8));
    segment.extend([0x50, random.of(&[0x02, 0x12, 0x10, 0x11, 0x04, 0x18])]);
    let rest = random.below(30);
    segment.extend(random.bytes(rest));
    segment
}

fn arp(random: &mut Random) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, random.of(&[1, 2])];
    packet.extend(random.of(&MACS));
    packet.extend(random.of(&IPV4));
    packet.extend(random.of(&MACS));
    packet.extend(random.of(&IPV4));
    packet
}

fn llc(random: &mut Random) -> Vec<u8> {
    let mut packet = vec![random.of(&[0x42, 0x06, 0xfe, 0xaa]); 2];
    packet.extend([3, 0, 0, 0]);
    packet.extend(random.bytes(34));
    packet
}
