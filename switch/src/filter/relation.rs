//! Comparisons of values: `tcp[tcpflags] & tcp-syn != 0`.

use super::DEPTH_MAX;
use super::code::{Block, Test};
use super::lex::{Lexeme, Token};
use super::operand::Protocol;
use super::parse::{Context, Parsed, Parser};
use super::value::{Base, Comparison, Operator, Value, Width};

/// A value, what a frame must be to have it, and how deep it nests.
struct Term {
    value: Value,
    /// In the order in which they are asked.
    guards: Vec<Test>,
    depth: u8,
}

impl Term {
    fn of(value: Value) -> Self {
        Self {
            value,
            guards: Vec::new(),
            depth: 0,
        }
    }
}

/// The operators of one value outside its parentheses.
#[derive(Default)]
struct Chain<'a> {
    operators: usize,
    /// One without a place in the order.
    unordered: Option<Lexeme<'a>>,
}

const VALUES: [&str; 5] = ["len", "ip[9]", "tcp[tcpflags]", "ether[0:4]", "0x800"];
const RELATIONS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

impl<'a> Parser<'a> {
    /// `value relation value`. Nothing is appended before all of it is read.
    pub(super) fn comparison(&mut self) -> Parsed<(Block, Context)> {
        let left = self.value()?;
        let Some(relation) = Comparison::of_sign(self.current.sign()) else {
            return Err(self.unexpected("a value must be compared", &RELATIONS));
        };
        self.advance()?;
        let right = self.value()?;
        let compare = Test::Compare(Box::new((left.value, relation, right.value)));
        let mut block = None;
        for test in left.guards.into_iter().chain(right.guards).chain([compare]) {
            let next = self.test(test)?;
            block = Some(match block {
                None => next,
                Some(block) => self.join(true, block, next),
            });
        }
        let block = block.ok_or_else(|| self.unexpected("a comparison belongs here", &VALUES))?;
        Ok((block, Context::Nothing))
    }

    /// Whether a number at the current place is the left end of a comparison.
    pub(super) fn number_begins_comparison(&self) -> bool {
        self.peek().is_some_and(|next| continues_value(&next))
    }

    /// Whether the current place goes on with a value that was begun before.
    pub(super) fn at_sign_of_value(&self) -> bool {
        continues_value(&self.current)
    }

    fn value(&mut self) -> Parsed<Term> {
        let mut chain = Chain::default();
        let term = self.operation(1, &mut chain)?;
        match chain.unordered {
            Some(operator) if chain.operators > 1 => {
                let why = "beside other operators this one needs parentheses";
                Err(self.fail(operator, why, &["(a ^ b) + c", "a + (b % c)"]))
            }
            _ => Ok(term),
        }
    }

    /// Operators of at least this strength, from the left.
    fn operation(&mut self, least: u8, chain: &mut Chain<'a>) -> Parsed<Term> {
        let mut left = self.factor(chain)?;
        while let Some(operator) = Operator::of_sign(self.current.sign()) {
            let strength = operator.strength().unwrap_or(u8::MAX - 1);
            if strength < least {
                break;
            }
            let place = self.current;
            chain.operators += 1;
            if operator.strength().is_none() {
                chain.unordered = Some(place);
            }
            self.advance()?;
            let right = self.operation(strength + 1, chain)?;
            left = self.combine(place, operator, left, right)?;
        }
        Ok(left)
    }

    fn combine(
        &self,
        place: Lexeme<'_>,
        operator: Operator,
        left: Term,
        right: Term,
    ) -> Parsed<Term> {
        if matches!(operator, Operator::Left | Operator::Right)
            && matches!(right.value, Value::Constant(bits) if bits > 31)
        {
            return Err(self.fail(place, "a shift by more than 31 bits leaves nothing", &[]));
        }
        let depth = left.depth.max(right.depth) + 1;
        if depth >= DEPTH_MAX {
            return Err(self.fail(place, "too many operators in one value", &[]));
        }
        let Some(value) = Value::computed(operator, left.value, right.value) else {
            return Err(self.fail(place, "a division by 0", &[]));
        };
        let mut guards = left.guards;
        guards.extend(right.guards);
        Ok(Term {
            value,
            guards,
            depth,
        })
    }

    fn factor(&mut self, chain: &mut Chain<'a>) -> Parsed<Term> {
        match self.current.token {
            Token::Number(number) => {
                self.advance()?;
                Ok(Term::of(Value::Constant(number)))
            }
            Token::Sign("-") => {
                self.open()?;
                chain.operators += 1;
                self.advance()?;
                let mut term = self.factor(chain)?;
                self.depth -= 1;
                term.value = term.value.negated();
                term.depth += 1;
                Ok(term)
            }
            Token::Sign("(") => {
                self.open()?;
                self.advance()?;
                let term = self.value()?;
                self.close(")")?;
                Ok(term)
            }
            Token::Word(word) => self.named_value(&word.to_ascii_lowercase()),
            Token::Escaped(_)
            | Token::Dotted(_)
            | Token::Mac(_)
            | Token::Ipv6(_)
            | Token::Sign(_)
            | Token::End => Err(self.unexpected("a value belongs here", &VALUES)),
        }
    }

    fn named_value(&mut self, word: &str) -> Parsed<Term> {
        if matches!(word, "len" | "length") {
            self.advance()?;
            return Ok(Term::of(Value::Length));
        }
        let Some(protocol) = Protocol::of_word(word) else {
            return Err(self.unexpected("a value belongs here", &VALUES));
        };
        let place = self.current;
        self.advance()?;
        if !self.current.is_sign("[") {
            return Err(self.unexpected("bytes of a protocol are asked for by offset", &["["]));
        }
        self.open()?;
        self.advance()?;
        let index = self.value()?;
        let width = self.width()?;
        self.close("]")?;
        let Some(term) = self.load(protocol, width, index) else {
            let expected = [
                "ether[", "ip[", "ip6[", "arp[", "tcp[", "udp[", "icmp[", "icmp6[",
            ];
            return Err(self.fail(
                place,
                "bytes of this protocol cannot be asked for",
                &expected,
            ));
        };
        Ok(term)
    }

    fn width(&mut self) -> Parsed<Width> {
        if !self.take_sign(":")? {
            return Ok(Width::One);
        }
        let width = match self.current.number() {
            Some(1) => Width::One,
            Some(2) => Width::Two,
            Some(4) => Width::Four,
            _ => return Err(self.unexpected("a number is of 1, 2 or 4 bytes", &["1", "2", "4"])),
        };
        self.advance()?;
        Ok(width)
    }

    /// `protocol[index]`, and what libpcap asks before it reads there, in its order.
    fn load(&self, protocol: Protocol, width: Width, index: Term) -> Option<Term> {
        let at = self.at;
        let own = protocol.test(at);
        let (base, before, after) = match protocol {
            Protocol::Link => (Base::Link, None, None),
            Protocol::Ipv4 | Protocol::Ipv6 | Protocol::Arp | Protocol::Rarp => {
                (Base::Network, None, own)
            }
            Protocol::Icmp
            | Protocol::Igmp
            | Protocol::Tcp
            | Protocol::Udp
            | Protocol::Sctp
            | Protocol::Pim
            | Protocol::Vrrp => (Base::Transport, Protocol::Ipv4.test(at), own),
            Protocol::Icmp6 => (Base::Ipv6Payload, None, Protocol::Ipv6.test(at)),
            Protocol::Ah | Protocol::Esp => return None,
        };
        let last = match base {
            Base::Transport => Some(Test::FirstFragment { at }),
            Base::Ipv6Payload => Some(Test::NextHeader { at, protocol: 58 }),
            Base::Link | Base::Network => None,
        };
        let guards = before
            .into_iter()
            .chain(index.guards)
            .chain(after)
            .chain(last);
        Some(Term {
            guards: guards.collect(),
            value: Value::load(base, width, at, index.value),
            depth: index.depth + 1,
        })
    }
}

fn continues_value(lexeme: &Lexeme<'_>) -> bool {
    let sign = lexeme.sign();
    Comparison::of_sign(sign).is_some() || Operator::of_sign(sign).is_some()
}
