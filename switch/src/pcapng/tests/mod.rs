//! Tests of the format. `foreign` reads what others write, `damage` what nobody meant.

mod damage;
mod foreign;
mod roundtrip;

use super::blocks::{BYTE_ORDER_MAGIC, SHB};
use super::options::Order;
use super::{Direction, Interface, ReadError, Reader};

/// A packet that has left its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    interface: usize,
    time: Option<u64>,
    original_bytes: u32,
    bytes: Vec<u8>,
    direction: Option<Direction>,
    packet_id: Option<u64>,
    dropped: Option<u64>,
    queue: Option<u32>,
    comments: Vec<String>,
}

/// All that a file gives until its end or its first fault.
#[derive(Debug)]
struct Course {
    packets: Vec<Kept>,
    interfaces: Vec<Interface>,
    lost: u64,
    fault: Option<ReadError>,
}

impl Course {
    /// The offset and the words of the fault.
    fn words(&self) -> (u64, String) {
        let fault = self.fault.as_ref().unwrap();
        (fault.offset, fault.fault.to_string())
    }
}

fn read(bytes: &[u8]) -> Course {
    let mut course = Course {
        packets: Vec::new(),
        interfaces: Vec::new(),
        lost: 0,
        fault: None,
    };
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(fault) => {
            course.fault = Some(fault);
            return course;
        }
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => course.packets.push(Kept {
                interface: packet.interface,
                time: packet.time,
                original_bytes: packet.original_bytes,
                bytes: packet.bytes.to_vec(),
                direction: packet.direction,
                packet_id: packet.packet_id,
                dropped: packet.dropped,
                queue: packet.queue,
                comments: packet.comments().map(String::from).collect(),
            }),
            Ok(None) => break,
            Err(fault) => {
                course.fault = Some(fault);
                assert!(
                    reader.next_packet().unwrap().is_none(),
                    "a fault is the end"
                );
                break;
            }
        }
    }
    course.interfaces = reader.interfaces().to_vec();
    course.lost = reader.lost();
    course
}

/// What [`read`] gives for a file that must be sound.
fn read_whole(bytes: &[u8]) -> Course {
    let course = read(bytes);
    assert!(course.fault.is_none(), "{:?}", course.fault);
    course
}

/// Makes files as another program might, in either byte order.
#[derive(Debug, Clone)]
struct Foreign {
    order: Order,
    bytes: Vec<u8>,
}

impl Foreign {
    fn new(order: Order) -> Self {
        let mut file = Self {
            order,
            bytes: Vec::new(),
        };
        file.section(order);
        file
    }

    fn section(&mut self, order: Order) {
        self.order = order;
        let mut body = self.u32(BYTE_ORDER_MAGIC).to_vec();
        body.extend([self.u16(1), self.u16(2)].concat());
        body.extend([0xff; 8]);
        self.block(SHB, &body);
    }

    fn interface(&mut self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) {
        let mut body = [self.u16(link), [0; 2]].concat();
        body.extend(self.u32(snaplen));
        body.extend(self.options(options));
        self.block(super::blocks::IDB, &body);
    }

    fn packet(&mut self, interface: u32, units: u64, bytes: &[u8], options: &[(u16, &[u8])]) {
        let length = self.u32(u32::try_from(bytes.len()).unwrap());
        let high = self.u32(u32::try_from(units >> 32).unwrap());
        let low = self.u32(u32::try_from(units & 0xffff_ffff).unwrap());
        let mut body = [self.u32(interface), high, low, length, length].concat();
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(self.options(options));
        self.block(super::blocks::EPB, &body);
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let length = self.u32(u32::try_from(body.len() + 12).unwrap());
        let kind = self.u32(kind);
        for part in [&kind, &length, body, &length] {
            self.bytes.extend(part);
        }
    }

    fn options(&self, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (code, value) in options {
            all.extend(self.u16(*code));
            all.extend(self.u16(u16::try_from(value.len()).unwrap()));
            all.extend(*value);
            all.resize(all.len().next_multiple_of(4), 0);
        }
        all
    }

    fn u16(&self, number: u16) -> [u8; 2] {
        match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        }
    }

    fn u32(&self, number: u32) -> [u8; 4] {
        match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        }
    }

    fn u64(&self, number: u64) -> [u8; 8] {
        match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        }
    }
}
