//! Numbers that a filter computes from a frame.

use super::eval::{Frame, Offset};

/// A comparison of unsigned 32-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn of_sign(sign: &str) -> Option<Self> {
        Some(match sign {
            "=" | "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    pub(super) fn holds(self, left: u32, right: u32) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

/// What makes one number of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Xor,
    Left,
    Right,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Operator {
    pub(super) fn of_sign(sign: &str) -> Option<Self> {
        Some(match sign {
            "|" => Self::Or,
            "&" => Self::And,
            "^" => Self::Xor,
            "<<" => Self::Left,
            ">>" => Self::Right,
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Modulo,
            _ => return None,
        })
    }

    /// How strongly it binds, from 1; none for the two that libpcap's grammar gives no place in
    /// the order, which are therefore taken only where the order does not matter.
    pub(super) fn strength(self) -> Option<u8> {
        match self {
            Self::Or => Some(1),
            Self::And => Some(2),
            Self::Left | Self::Right => Some(3),
            Self::Add | Self::Subtract => Some(4),
            Self::Multiply | Self::Divide => Some(5),
            Self::Xor | Self::Modulo => None,
        }
    }

    /// As the BPF machine computes (`pcap_filter` in libpcap's bpf_filter.c): modulo 2^32, shifts
    /// beyond the word give 0, and a division by 0 ends the filter.
    fn apply(self, left: u32, right: u32) -> Option<u32> {
        Some(match self {
            Self::Or => left | right,
            Self::And => left & right,
            Self::Xor => left ^ right,
            Self::Left => left.checked_shl(right).unwrap_or(0),
            Self::Right => left.checked_shr(right).unwrap_or(0),
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide => left.checked_div(right)?,
            Self::Modulo => left.checked_rem(right)?,
        })
    }
}

/// Where the bytes of `proto[...]` begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The Ethernet header.
    Link,
    /// The header behind the EtherType.
    Network,
    /// Behind the IPv4 header, options and all.
    Transport,
    /// Behind the fixed IPv6 header.
    Ipv6Payload,
}

/// How many bytes make a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
}

/// A number, or how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Constant(u32),
    /// Bytes of the frame on the wire.
    Length,
    /// Bytes at a fixed place.
    Field {
        base: Base,
        width: Width,
        at: u16,
        offset: u32,
    },
    /// Bytes at a computed place.
    Indexed {
        base: Base,
        width: Width,
        at: u16,
        offset: Box<Self>,
    },
    Negated(Box<Self>),
    Computed(Operator, Box<(Self, Self)>),
}

impl Value {
    pub(super) fn load(base: Base, width: Width, at: u16, offset: Self) -> Self {
        match offset {
            Self::Constant(offset) => Self::Field {
                base,
                width,
                at,
                offset,
            },
            Self::Length
            | Self::Field { .. }
            | Self::Indexed { .. }
            | Self::Negated(_)
            | Self::Computed(..) => Self::Indexed {
                base,
                width,
                at,
                offset: Box::new(offset),
            },
        }
    }

    /// Combines two values; constants at once. `None` for a division by a constant 0.
    pub(super) fn computed(operator: Operator, left: Self, right: Self) -> Option<Self> {
        let divides = matches!(operator, Operator::Divide | Operator::Modulo);
        match (&left, &right) {
            (_, Self::Constant(0)) if divides => None,
            (Self::Constant(left), Self::Constant(right)) => {
                operator.apply(*left, *right).map(Self::Constant)
            }
            _ => Some(Self::Computed(operator, Box::new((left, right)))),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(value.wrapping_neg()),
            Self::Length
            | Self::Field { .. }
            | Self::Indexed { .. }
            | Self::Negated(_)
            | Self::Computed(..) => Self::Negated(Box::new(self)),
        }
    }

    /// The number; `None` where the BPF machine gives up: beyond the frame, or divided by 0.
    pub(super) fn of(&self, frame: Frame<'_>) -> Option<u32> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Length => Some(frame.length),
            Self::Field {
                base,
                width,
                at,
                offset,
            } => load(frame, *base, *width, *at, *offset),
            Self::Indexed {
                base,
                width,
                at,
                offset,
            } => load(frame, *base, *width, *at, offset.of(frame)?),
            Self::Negated(value) => value.of(frame).map(u32::wrapping_neg),
            Self::Computed(operator, sides) => {
                operator.apply(sides.0.of(frame)?, sides.1.of(frame)?)
            }
        }
    }
}

fn load(frame: Frame<'_>, base: Base, width: Width, at: u16, offset: u32) -> Option<u32> {
    let network = Offset::behind(at);
    let place = match base {
        Base::Link => Offset::START.plus(offset)?,
        Base::Network => network.plus(offset)?,
        // The machine adds the header's length to the index modulo 2^32, so an index may be
        // negative here as long as the sum is not.
        Base::Transport => network.plus(frame.ipv4_header(network)?.wrapping_add(offset))?,
        Base::Ipv6Payload => network.and(40).plus(offset)?,
    };
    match width {
        Width::One => frame.byte(place).map(u32::from),
        Width::Two => frame.half(place).map(u32::from),
        Width::Four => frame.word(place),
    }
}
