//! The grammar: how words make questions, and questions a filter.
//!
//! ```text
//! expression = term { ("and" | "or") term }            equal strength, from the left
//! term       = { "not" } ( "(" expression ")" | comparison | question | operand )
//! question   = [protocol] [direction] [kind] operand | protocol | "vlan" [ID] | ...
//! operand    = { "not" } ( "(" operand { ("and" | "or") operand } ")" | address | port | ... )
//! ```
//!
//! An operand may stand for a term where a question went before (`port 80 or 443`); what it is an
//! operand of, its [`Context`], goes along from left to right. Steps are appended as terms are
//! read, so the order of the text is the order of the questions.

use super::code::{Block, Code, Side, Step, Test};
use super::error::FilterError;
use super::lex::{Lexeme, Lexer, Token};
use super::operand::{Kind, Protocol, Qualifier};
use super::{DEPTH_MAX, TEXT_MAX};
use crate::mac::Mac;

pub(super) type Parsed<T> = Result<T, FilterError>;

/// What a bare operand belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    Nothing,
    Network(Qualifier),
    On,
    Reason,
    Worker,
}

const TERMS: [&str; 11] = [
    "host", "net", "port", "ip", "tcp", "udp", "icmp", "arp", "vlan", "drop", "on",
];
const KINDS: [&str; 5] = ["host", "net", "port", "portrange", "proto"];

/// Makes the steps of a text.
pub(super) fn parse(text: &str) -> Parsed<Box<[Step]>> {
    if text.len() > TEXT_MAX {
        let mut characters = text.char_indices().map(|(at, c)| at..at + c.len_utf8());
        let beyond = characters.find(|place| place.end > TEXT_MAX);
        let why = format!("longer than {TEXT_MAX} bytes");
        return Err(FilterError::new(text, beyond.unwrap_or(0..0), why, &[]));
    }
    let mut parser = Parser::new(text)?;
    if parser.current.token == Token::End {
        return Ok(Box::default());
    }
    let (whole, _) = parser.expression(Context::Nothing)?;
    if parser.current.token != Token::End {
        return Err(parser.unexpected("two questions need a word between them", &["and", "or"]));
    }
    Ok(parser.code.finish(&whole))
}

pub(super) struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) current: Lexeme<'a>,
    code: Code,
    /// Where the EtherType is that the next question is about.
    pub(super) at: u16,
    pub(super) depth: u8,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Self> {
        let mut lexer = Lexer::new(text);
        let current = lexer.next()?;
        Ok(Self {
            lexer,
            current,
            code: Code::default(),
            at: 12,
            depth: 0,
        })
    }

    pub(super) fn advance(&mut self) -> Parsed<()> {
        self.current = self.lexer.next()?;
        Ok(())
    }

    /// The token after the current one, if it is one.
    pub(super) fn peek(&self) -> Option<Lexeme<'a>> {
        let mut ahead = self.lexer;
        ahead.next().ok()
    }

    pub(super) fn fail(
        &self,
        at: Lexeme<'_>,
        why: impl Into<String>,
        expected: &[&'static str],
    ) -> FilterError {
        FilterError::new(self.lexer.text, at.place(), why, expected)
    }

    /// The current token cannot stand here.
    pub(super) fn unexpected(&self, why: &str, expected: &[&'static str]) -> FilterError {
        let place = self.current.place();
        let found = &self.lexer.text[place];
        let why = if self.current.token == Token::End {
            format!("the filter ends too early: {why}")
        } else {
            format!(
                "unexpected `{}`: {why}",
                found.replace(char::is_control, "?")
            )
        };
        self.fail(self.current, why, expected)
    }

    pub(super) fn take_sign(&mut self, sign: &str) -> Parsed<bool> {
        let taken = self.current.is_sign(sign);
        if taken {
            self.advance()?;
        }
        Ok(taken)
    }

    pub(super) fn take_word(&mut self, word: &str) -> Parsed<bool> {
        let taken = self.current.is_word(word);
        if taken {
            self.advance()?;
        }
        Ok(taken)
    }

    pub(super) fn close(&mut self, sign: &'static str) -> Parsed<()> {
        if self.take_sign(sign)? {
            self.depth -= 1;
            return Ok(());
        }
        Err(self.unexpected("something is still open", &[sign]))
    }

    /// Goes one level deeper: the parser calls itself, and so does what it makes.
    pub(super) fn open(&mut self) -> Parsed<()> {
        if self.depth == DEPTH_MAX {
            let why = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(self.fail(self.current, why, &[]));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) fn test(&mut self, test: Test) -> Parsed<Block> {
        let block = self.code.test(test);
        block.ok_or_else(|| self.fail(self.current, "too many questions", &[]))
    }

    pub(super) fn join(&mut self, and: bool, first: Block, then: Block) -> Block {
        if and {
            self.code.and(first, then)
        } else {
            self.code.or(first, then)
        }
    }

    /// Takes `and` or `or` in any spelling; true for `and`.
    pub(super) fn take_junction(&mut self) -> Parsed<Option<bool>> {
        let junction = junction(&self.current);
        if junction.is_some() {
            self.advance()?;
        }
        Ok(junction)
    }

    /// Takes any number of `not`; true if an odd number.
    pub(super) fn take_nots(&mut self) -> Parsed<bool> {
        let mut negated = false;
        while self.current.is_word("not") || self.current.is_sign("!") {
            self.advance()?;
            negated = !negated;
        }
        Ok(negated)
    }

    fn expression(&mut self, context: Context) -> Parsed<(Block, Context)> {
        let (mut block, mut context) = self.term(context)?;
        while let Some(and) = self.take_junction()? {
            let (next, after) = self.term(context)?;
            block = self.join(and, block, next);
            context = after;
        }
        Ok((block, context))
    }

    fn term(&mut self, context: Context) -> Parsed<(Block, Context)> {
        let negated = self.take_nots()?;
        let (block, context) = self.positive(context)?;
        Ok((if negated { block.not() } else { block }, context))
    }

    fn positive(&mut self, context: Context) -> Parsed<(Block, Context)> {
        match self.current.token {
            Token::Sign("(") => self.parenthesis(context),
            Token::Sign("-") => self.comparison(),
            Token::Word(word) => self.question(&word.to_ascii_lowercase(), context),
            Token::Number(_) if self.number_begins_comparison() => self.comparison(),
            Token::Number(_)
            | Token::Dotted(_)
            | Token::Mac(_)
            | Token::Ipv6(_)
            | Token::Escaped(_) => self.bare_operand(context),
            Token::Sign(_) | Token::End => Err(self.unexpected("a question belongs here", &TERMS)),
        }
    }

    fn bare_operand(&mut self, context: Context) -> Parsed<(Block, Context)> {
        if context != Context::Nothing {
            return Ok((self.operand(context)?, context));
        }
        let found = &self.lexer.text[self.current.place()];
        let (why, expected): (_, &[&str]) = match self.current.token {
            Token::Number(_) => (
                "a number alone asks nothing",
                &["port", "proto", "vlan", "len"],
            ),
            Token::Mac(_) => (
                "an address needs a word before it",
                &["ether host", "ether src", "ether dst"],
            ),
            Token::Dotted(_) | Token::Ipv6(_) => (
                "an address needs a word before it",
                &["host", "src", "dst", "net"],
            ),
            Token::Word(_) | Token::Escaped(_) | Token::Sign(_) | Token::End => {
                ("no word of the filter language", &TERMS)
            }
        };
        Err(self.fail(self.current, format!("`{found}`: {why}"), expected))
    }

    /// What opens here may be a value, `(tcp[0] + 1) * 2 = 4`, or an expression; only what stands
    /// behind it tells. Nothing is appended to the steps until a comparison is whole, so the one
    /// is tried and then the other; of two errors the one that came further is told.
    fn parenthesis(&mut self, context: Context) -> Parsed<(Block, Context)> {
        let (lexer, current, depth) = (self.lexer, self.current, self.depth);
        let no_comparison = match self.comparison() {
            Ok(comparison) => return Ok(comparison),
            Err(error) => error,
        };
        (self.lexer, self.current, self.depth) = (lexer, current, depth);
        match self.group(context) {
            // `port 80 or (1) << 40 = 0`: what opened was a value after all, and a wrong one.
            Ok(_) if self.at_sign_of_value() => Err(no_comparison),
            Err(no_group) if no_group.column >= no_comparison.column => Err(no_group),
            Err(_) => Err(no_comparison),
            group => group,
        }
    }

    /// Behind the parenthesis a bare operand belongs to what stood before it.
    fn group(&mut self, context: Context) -> Parsed<(Block, Context)> {
        self.open()?;
        self.advance()?;
        let (block, _) = self.expression(context)?;
        self.close(")")?;
        Ok((block, context))
    }

    fn question(&mut self, word: &str, context: Context) -> Parsed<(Block, Context)> {
        let alone = |block| (block, Context::Nothing);
        match word {
            "vlan" => self.vlan().map(alone),
            "less" | "greater" => self.size(word == "less").map(alone),
            "broadcast" | "multicast" => self.group_address(None).map(alone),
            "len" | "length" => self.comparison(),
            "drop" => self.simple(Test::Dropped).map(alone),
            "nat" => self.simple(Test::Translated).map(alone),
            "stp" => {
                let (at, sap, pair) = (self.at, 0x42, false);
                self.simple(Test::Llc { at, sap, pair }).map(alone)
            }
            "on" => self.own(Context::On),
            "reason" => self.own(Context::Reason),
            "worker" => self.own(Context::Worker),
            "src" | "dst" | "host" | "net" | "port" | "portrange" | "proto" => self.head(None),
            "and" | "or" | "mask" => Err(self.unexpected("a question belongs here", &TERMS)),
            _ => match Protocol::of_word(word) {
                Some(protocol) => self.protocol(protocol),
                None => self.bare_operand(context),
            },
        }
    }

    fn simple(&mut self, test: Test) -> Parsed<Block> {
        self.advance()?;
        self.test(test)
    }

    /// A word of our own and its operand.
    fn own(&mut self, context: Context) -> Parsed<(Block, Context)> {
        let list = |lexeme: Lexeme<'_>| lexeme.is_sign("(") || lexeme.is_word("not");
        if context == Context::On && !self.peek().is_some_and(list) {
            // A port's name may begin with a character that is in no other word.
            self.current = self.lexer.name();
        } else {
            self.advance()?;
        }
        Ok((self.operand(context)?, context))
    }

    /// A protocol: before `[`, before other words, or by itself.
    fn protocol(&mut self, protocol: Protocol) -> Parsed<(Block, Context)> {
        if self.peek().is_some_and(|next| next.is_sign("[")) {
            return self.comparison();
        }
        let word = self.current;
        self.advance()?;
        if self.current.is_word("broadcast") || self.current.is_word("multicast") {
            let block = self.group_address(Some(protocol))?;
            return Ok((block, Context::Nothing));
        }
        let heads = ["src", "dst"].iter().chain(&KINDS);
        if heads.clone().any(|head| self.current.is_word(head)) {
            return self.head(Some(protocol));
        }
        let Some(test) = protocol.test(self.at) else {
            let expected = [
                "ether host",
                "ether src",
                "ether dst",
                "ether proto",
                "ether[",
            ];
            return Err(self.fail(word, "`ether` alone asks nothing", &expected));
        };
        Ok((self.test(test)?, Context::Nothing))
    }

    /// `[direction] [kind] operand`, behind a protocol or not.
    fn head(&mut self, protocol: Option<Protocol>) -> Parsed<(Block, Context)> {
        let side = self.direction()?;
        let place = self.current;
        let kind = KINDS.iter().zip(Kind::ALL);
        let kind = kind.clone().find(|(word, _)| place.is_word(word));
        if kind.is_some() {
            self.advance()?;
        }
        let qualifier = Qualifier {
            protocol,
            side: side.unwrap_or(Side::Either),
            kind: kind.map_or(Kind::Host, |(_, kind)| kind),
        };
        if side.is_some() && qualifier.kind == Kind::Protocol {
            return Err(self.fail(place, "a protocol has no direction", &KINDS[..4]));
        }
        if !qualifier.fits() {
            let (why, expected) = qualifier.misfit();
            return Err(self.fail(place, why, expected));
        }
        let context = Context::Network(qualifier);
        Ok((self.operand(context)?, context))
    }

    /// `src`, `dst`, or both with `or` or `and` between.
    fn direction(&mut self) -> Parsed<Option<Side>> {
        let (side, other) = if self.current.is_word("src") {
            (Side::Source, "dst")
        } else if self.current.is_word("dst") {
            (Side::Destination, "src")
        } else {
            return Ok(None);
        };
        self.advance()?;
        let other_follows = self.peek().is_some_and(|next| next.is_word(other));
        Ok(Some(match junction(&self.current) {
            Some(and) if other_follows => {
                self.advance()?;
                self.advance()?;
                if and { Side::Both } else { Side::Either }
            }
            _ => side,
        }))
    }

    /// `vlan [ID]`: a tag here, and everything further on is behind it.
    fn vlan(&mut self) -> Parsed<Block> {
        self.advance()?;
        let parentheses = self.peek_parenthesized_number();
        if parentheses {
            self.advance()?;
        }
        let id = if self.current.number().is_some() {
            Some(self.number(4095, "a VLAN is 0 to 4095")?)
        } else {
            None
        };
        if parentheses {
            self.advance()?;
        }
        let id = id.and_then(|id| u16::try_from(id).ok());
        let test = Test::Vlan { at: self.at, id };
        // A text of the longest length does not get near the end of 16 bits.
        self.at = self.at.saturating_add(4);
        self.test(test)
    }

    fn peek_parenthesized_number(&self) -> bool {
        let mut ahead = self.lexer;
        let number = ahead.next().is_ok_and(|lexeme| lexeme.number().is_some());
        let closed = ahead.next().is_ok_and(|lexeme| lexeme.is_sign(")"));
        self.current.is_sign("(") && number && closed
    }

    fn size(&mut self, less: bool) -> Parsed<Block> {
        use super::value::{Comparison, Value};
        self.advance()?;
        let bytes = Value::Constant(self.number(u32::MAX, "a number of bytes belongs here")?);
        let comparison = if less {
            Comparison::LessOrEqual
        } else {
            Comparison::GreaterOrEqual
        };
        self.test(Test::Compare(Box::new((Value::Length, comparison, bytes))))
    }

    /// `broadcast` or `multicast`, behind a protocol or not.
    fn group_address(&mut self, protocol: Option<Protocol>) -> Parsed<Block> {
        let (at, word) = (self.at, self.current);
        let broadcast = self.current.is_word("broadcast");
        self.advance()?;
        let test = match protocol {
            None | Some(Protocol::Link) if broadcast => Test::Mac {
                side: Side::Destination,
                mac: Mac::BROADCAST,
            },
            None | Some(Protocol::Link) => Test::Group,
            Some(Protocol::Ipv4) if !broadcast => Test::Multicast4 { at },
            Some(Protocol::Ipv6) if !broadcast => Test::Multicast6 { at },
            Some(Protocol::Ipv4) => {
                let why = "the broadcast address of a subnet depends on its mask";
                return Err(self.fail(word, why, &["dst host 10.77.0.255", "broadcast"]));
            }
            Some(_) => {
                let why = "this protocol has no addresses of its own";
                return Err(self.fail(word, why, &["broadcast", "multicast"]));
            }
        };
        self.test(test)
    }

    /// Takes a number up to `max`.
    pub(super) fn number(&mut self, max: u32, why: &str) -> Parsed<u32> {
        match self.current.number() {
            Some(number) if number <= max => {
                self.advance()?;
                Ok(number)
            }
            _ => Err(self.unexpected(why, &[])),
        }
    }
}

/// `and` is true, `or` false, anything else none.
fn junction(lexeme: &Lexeme<'_>) -> Option<bool> {
    if lexeme.is_word("and") || lexeme.is_sign("&&") {
        Some(true)
    } else if lexeme.is_word("or") || lexeme.is_sign("||") {
        Some(false)
    } else {
        None
    }
}
