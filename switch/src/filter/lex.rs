//! From characters to words, numbers, addresses and signs.
//!
//! The rules are those of libpcap's scanner.l: a word begins with a letter or digit and may hold
//! `-`, `_` and `.`, but ends in none of `-` and `_`, so `tcp-syn` is one word and so is `10-5`.

use std::net::Ipv6Addr;

use super::error::FilterError;
use super::words;
use crate::mac::Mac;

/// One piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A word: of the language, or a name.
    Word(&'a str),
    /// A name written with a backslash, which is never a word of the language.
    Escaped(&'a str),
    /// A number, or the name of one.
    Number(u32),
    /// Two to four numbers with dots between.
    Dotted(&'a str),
    /// An Ethernet address.
    Mac(Mac),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A sign; `==`, `&&` and `||` stay as they are.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A token and the bytes of the text it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lexeme<'a> {
    pub(super) token: Token<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Lexeme<'_> {
    pub(super) fn place(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    /// Whether it is this word of the language, in any case.
    pub(super) fn is_word(&self, expected: &str) -> bool {
        matches!(self.token, Token::Word(word) if word.eq_ignore_ascii_case(expected))
    }

    pub(super) fn is_sign(&self, expected: &str) -> bool {
        matches!(self.token, Token::Sign(sign) if sign == expected)
    }

    /// The sign; empty if it is none.
    pub(super) fn sign(&self) -> &'static str {
        if let Token::Sign(sign) = self.token {
            sign
        } else {
            ""
        }
    }

    pub(super) fn number(&self) -> Option<u32> {
        if let Token::Number(number) = self.token {
            Some(number)
        } else {
            None
        }
    }
}

/// Longer ones first, so that `<<` is not two.
const SIGNS: [&str; 23] = [
    "&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "&", "|", "^", "<",
    ">", "=", "!", "(", ")", "[",
];
const MORE_SIGNS: [&str; 2] = ["]", ":"];

/// Where in the text the next token begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lexer<'a> {
    pub(super) text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Begins again at a byte of the text.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    fn lexeme(&mut self, token: Token<'a>, start: usize, bytes: usize) -> Lexeme<'a> {
        self.at = start + bytes;
        Lexeme {
            token,
            start,
            end: self.at,
        }
    }

    /// Leaves blanks out; returns where the next token begins, and the text from there.
    fn skip_blanks(&self) -> (usize, &'a str) {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']);
        (self.text.len() - rest.len(), rest)
    }

    /// Takes the next token.
    pub(super) fn next(&mut self) -> Result<Lexeme<'a>, FilterError> {
        let (start, rest) = self.skip_blanks();
        let Some(first) = rest.chars().next() else {
            return Ok(self.lexeme(Token::End, start, 0));
        };
        if let Some(found) = self.address(start, rest) {
            return found;
        }
        if first.is_ascii_alphanumeric() {
            return self.word(start, rest);
        }
        if first == '\\' {
            let name = upto(&rest[1..], |c| " !()\n\t".contains(c));
            if !name.is_empty() {
                return Ok(self.lexeme(Token::Escaped(name), start, 1 + name.len()));
            }
        }
        let mut signs = SIGNS.into_iter().chain(MORE_SIGNS);
        if let Some(sign) = signs.find(|sign| rest.starts_with(sign)) {
            return Ok(self.lexeme(Token::Sign(sign), start, sign.len()));
        }
        let place = start..start + first.len_utf8();
        let why = format!("{first:?} has no meaning in a filter");
        Err(FilterError::new(self.text, place, why, &[]))
    }

    /// Takes a name of any characters but blanks, parentheses, `!`, `&` and `|`: a port may be
    /// called what a word of the language is, or `tap:web0`.
    pub(super) fn name(&mut self) -> Lexeme<'a> {
        let (start, rest) = self.skip_blanks();
        let name = upto(rest, |c| c.is_whitespace() || "()!&|".contains(c));
        let token = if name.is_empty() {
            Token::End
        } else {
            Token::Word(name)
        };
        self.lexeme(token, start, name.len())
    }

    /// Takes what has two colons or more: an address, or nothing that could stand in a filter.
    fn address(&mut self, start: usize, rest: &'a str) -> Option<Result<Lexeme<'a>, FilterError>> {
        let run = upto(rest, |c| !(c.is_ascii_hexdigit() || c == ':' || c == '.'));
        if run.bytes().filter(|&b| b == b':').count() < 2 {
            return None;
        }
        let token = (run.parse().map(Token::Mac)).or_else(|_| run.parse().map(Token::Ipv6));
        Some(match token {
            Ok(token) => Ok(self.lexeme(token, start, run.len())),
            Err(_) => {
                let place = start..start + run.len();
                let why = format!("{run} is neither an Ethernet nor an IPv6 address");
                let forms = ["02:00:00:00:00:01", "2001:db8::1"];
                Err(FilterError::new(self.text, place, why, &forms))
            }
        })
    }

    fn word(&mut self, start: usize, rest: &'a str) -> Result<Lexeme<'a>, FilterError> {
        let run = upto(rest, |c| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
        let word = run.trim_end_matches(['-', '_']);
        let begins_a_number = word.bytes().all(|b| b.is_ascii_digit())
            || (word.len() > 2 && word.as_bytes()[..2].eq_ignore_ascii_case(b"0x"));
        let token = if let Some(number) = words::constant(word) {
            Token::Number(number)
        } else if begins_a_number {
            let Some(number) = words::number(word) else {
                let place = start..start + word.len();
                let why = format!("{word} is no number of 32 bits (a leading 0 makes it octal)");
                return Err(FilterError::new(self.text, place, why, &[]));
            };
            Token::Number(number)
        } else if word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            Token::Dotted(word)
        } else if word.contains('-') && word.len() >= 11 {
            word.parse().map_or(Token::Word(word), Token::Mac)
        } else {
            Token::Word(word)
        };
        Ok(self.lexeme(token, start, word.len()))
    }
}

/// The text before the first character that `ends` it.
fn upto(text: &str, ends: impl Fn(char) -> bool) -> &str {
    &text[..text.find(ends).unwrap_or(text.len())]
}
