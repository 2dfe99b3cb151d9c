//! A classic BPF machine, to run what libpcap's compiler makes of a filter.
//!
//! It follows `pcap_filter_with_aux_data` of libpcap's bpf_filter.c.

use std::process::Command;

/// One instruction.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    k: u32,
}

/// A program of libpcap's.
#[derive(Debug)]
pub(super) struct Program(Vec<Instruction>);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Accepted,
    Rejected,
    /// It read beyond the frame or divided by 0, which rejects too.
    GaveUp,
}

/// Whether there is a tcpdump to ask.
pub(super) fn tcpdump_is_here() -> bool {
    let version = Command::new("tcpdump").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Compiles by tcpdump, with or without libpcap's optimizer; else its complaint.
pub(super) fn compile(filter: &str, optimize: bool) -> Result<Program, String> {
    let mut command = Command::new("tcpdump");
    command.args(["-ddd", "-y", "EN10MB"]);
    if !optimize {
        command.arg("-O");
    }
    let output = command.args(["--", filter]).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().skip(1);
    let program: Option<Vec<Instruction>> = lines.map(instruction).collect();
    program.map(Program).ok_or(text)
}

fn instruction(line: &str) -> Option<Instruction> {
    let mut numbers = line.split(' ').map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    Some(Instruction {
        code: next()?.try_into().ok()?,
        yes: next()?.try_into().ok()?,
        no: next()?.try_into().ok()?,
        k: next()?,
    })
}

#[derive(Default)]
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; 16],
}

impl Program {
    /// Runs it over a frame that had `length` bytes on the wire.
    pub(super) fn run(&self, frame: &[u8], length: u32) -> End {
        let mut machine = Machine::default();
        let mut at = 0;
        loop {
            let i = self.0[at];
            at += 1;
            match i.code & 7 {
                6 if i.k == 0 => return End::Rejected,
                6 => return End::Accepted,
                5 => at += machine.jump(i),
                _ => {
                    if machine.step(i, frame, length).is_none() {
                        return End::GaveUp;
                    }
                }
            }
        }
    }
}

impl Machine {
    fn step(&mut self, i: Instruction, frame: &[u8], length: u32) -> Option<()> {
        let slot = usize::try_from(i.k).unwrap();
        match i.code {
            0x00 => self.a = i.k,
            0x01 => self.x = i.k,
            0x60 => self.a = self.memory[slot],
            0x61 => self.x = self.memory[slot],
            0x80 => self.a = length,
            0x81 => self.x = length,
            0x20 | 0x28 | 0x30 => self.a = load(i.code, frame, i.k, 0)?,
            0x40 | 0x48 | 0x50 => self.a = load(i.code, frame, i.k, self.x)?,
            0xb1 => self.x = 4 * (load(0x30, frame, i.k, 0)? & 0xf),
            0x02 => self.memory[slot] = self.a,
            0x03 => self.memory[slot] = self.x,
            0x07 => self.x = self.a,
            0x87 => self.a = self.x,
            0x84 => self.a = self.a.wrapping_neg(),
            code if code & 7 == 4 => {
                let operand = if code & 8 == 0 { i.k } else { self.x };
                self.a = compute(code & 0xf0, self.a, operand)?;
            }
            code => panic!("no instruction {code:#x} is known"),
        }
        Some(())
    }

    fn jump(&self, i: Instruction) -> usize {
        let operand = if i.code & 8 == 0 { i.k } else { self.x };
        let taken = match i.code & 0xf0 {
            0x00 => return usize::try_from(i.k).unwrap(),
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            0x40 => self.a & operand != 0,
            code => panic!("no jump {code:#x} is known"),
        };
        usize::from(if taken { i.yes } else { i.no })
    }
}

fn compute(code: u16, a: u32, b: u32) -> Option<u32> {
    Some(match code {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b)?,
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a.checked_shl(b).unwrap_or(0),
        0x70 => a.checked_shr(b).unwrap_or(0),
        0x90 => a.checked_rem(b)?,
        0xa0 => a ^ b,
        _ => panic!("no operation {code:#x} is known"),
    })
}

fn load(code: u16, frame: &[u8], k: u32, x: u32) -> Option<u32> {
    let width = match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        _ => 1,
    };
    let start = usize::try_from(k)
        .ok()?
        .checked_add(usize::try_from(x).ok()?)?;
    let bytes = frame.get(start..start.checked_add(width)?)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u32::from(byte)),
    )
}
