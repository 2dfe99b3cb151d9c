//! Keys: what each does, in one table that the help is made of as well, and those that a
//! configuration file gives instead.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::Tab;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// End.
    Quit,
    /// Show or hide the help.
    Help,
    /// Go to the next tab.
    Next,
    /// Go to the one before.
    Previous,
    /// Go to this tab.
    Open(Tab),
    /// Go so many rows down, or up.
    Move(i32),
    /// Go a page down, or up.
    Page(i32),
    /// Go to the first row.
    First,
    /// Go to the last.
    Last,
    /// Type what to search for.
    Search,
    /// Let the picture stand still, or go on.
    Freeze,
    /// Sort by the next column.
    Sort,
    /// Turn the order round.
    Reverse,
    /// Close the help, forget the search, go on.
    Back,
    /// Look less often.
    Slower,
    /// Look more often.
    Faster,
}

/// Something that keys ask for.
#[derive(Debug)]
pub struct Binding {
    /// What a configuration file calls it.
    pub name: &'static str,
    /// Its keys, where nobody has chosen others.
    pub shown: &'static str,
    /// What they do.
    pub does: &'static str,
    wish: Wish,
}

const fn bind(name: &'static str, shown: &'static str, does: &'static str, wish: Wish) -> Binding {
    Binding {
        name,
        shown,
        does,
        wish,
    }
}

/// All of them, in the order of the help.
pub const KEYS: &[Binding] = &[
    bind("quit", "q, Ctrl-c", "quit", Wish::Quit),
    bind("help", "?, h, F1", "this help", Wish::Help),
    bind("next-tab", "Tab, Right", "next tab", Wish::Next),
    bind(
        "tab-before",
        "Shift-Tab, Left",
        "tab before",
        Wish::Previous,
    ),
    bind("ports", "1", "ports", Wish::Open(Tab::Ports)),
    bind("flows", "2", "flows", Wish::Open(Tab::Flows)),
    bind("nat", "3", "NAT", Wish::Open(Tab::Nat)),
    bind("latency", "4", "latency", Wish::Open(Tab::Latency)),
    bind("drops", "5", "drops", Wish::Open(Tab::Drops)),
    bind("trace", "6", "trace", Wish::Open(Tab::Trace)),
    bind("row-down", "j, Down", "row down", Wish::Move(1)),
    bind("row-up", "k, Up", "row up", Wish::Move(-1)),
    bind("page-down", "PgDn, Ctrl-d", "page down", Wish::Page(1)),
    bind("page-up", "PgUp, Ctrl-u", "page up", Wish::Page(-1)),
    bind("first-row", "g, Home", "first row", Wish::First),
    bind("last-row", "G, End", "last row", Wish::Last),
    bind("search", "/", "show rows that contain it", Wish::Search),
    bind("freeze", "Space, Ctrl-f", "freeze, go on", Wish::Freeze),
    bind("sort", "s", "sort by the next column", Wish::Sort),
    bind("reverse", "r", "reverse the order", Wish::Reverse),
    bind("slower", "+, =", "look less often", Wish::Slower),
    bind("faster", "-", "look more often", Wish::Faster),
    bind("back", "Esc", "leave help, search, freeze", Wish::Back),
];

/// Keys that have a name.
const NAMES: [(&str, KeyCode); 16] = [
    ("Tab", KeyCode::Tab),
    ("Shift-Tab", KeyCode::BackTab),
    ("Left", KeyCode::Left),
    ("Right", KeyCode::Right),
    ("Up", KeyCode::Up),
    ("Down", KeyCode::Down),
    ("PgUp", KeyCode::PageUp),
    ("PgDn", KeyCode::PageDown),
    ("Home", KeyCode::Home),
    ("End", KeyCode::End),
    ("Insert", KeyCode::Insert),
    ("Delete", KeyCode::Delete),
    ("Space", KeyCode::Char(' ')),
    ("Enter", KeyCode::Enter),
    ("Backspace", KeyCode::Backspace),
    ("Esc", KeyCode::Esc),
];

/// A key as it is pressed. A capital letter is a letter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

impl Key {
    /// Ends `top` whatever else does: who has given that key away could not leave.
    pub const INTERRUPT: Self = Self {
        code: KeyCode::Char('c'),
        modifiers: KeyModifiers::CONTROL,
    };
}

impl From<KeyEvent> for Key {
    /// With or without the word that Shift was held.
    fn from(key: KeyEvent) -> Self {
        Self {
            code: key.code,
            modifiers: key.modifiers.difference(KeyModifiers::SHIFT),
        }
    }
}

impl FromStr for Key {
    type Err = String;

    /// Reads `j`, `G`, `Space`, `PgDn`, `F5`, `Ctrl-d`, `Alt-x`; names in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |code| Self {
            code,
            modifiers: KeyModifiers::NONE,
        };
        let mut names = NAMES.iter();
        if let Some((_, code)) = names.find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(plain(*code));
        }
        let number = text.strip_prefix(['F', 'f']).and_then(|n| n.parse().ok());
        if let Some(number @ 1..=12) = number {
            return Ok(plain(KeyCode::F(number)));
        }
        let (modifiers, letter) = match text.get(..4).zip(text.get(4..)) {
            Some((word, rest)) if word.eq_ignore_ascii_case("Alt-") => (KeyModifiers::ALT, rest),
            _ => match text.get(..5).zip(text.get(5..)) {
                Some((word, rest)) if word.eq_ignore_ascii_case("Ctrl-") => {
                    (KeyModifiers::CONTROL, rest)
                }
                _ => (KeyModifiers::NONE, text),
            },
        };
        let mut letters = letter.chars();
        let (Some(letter), None) = (letters.next(), letters.next()) else {
            return Err("no key; keys are j, G, Space, PgDn, F5, Ctrl-d, Alt-x".into());
        };
        match (modifiers, letter) {
            (KeyModifiers::CONTROL, 'i') => Err("a terminal does not tell it from Tab".into()),
            (KeyModifiers::CONTROL, 'm') => Err("a terminal does not tell it from Enter".into()),
            (KeyModifiers::CONTROL, other) if !other.is_ascii_lowercase() => {
                Err("with Ctrl goes a letter from a to z".into())
            }
            (_, blank) if blank.is_whitespace() || blank.is_control() => {
                Err("no key; the long one is Space".into())
            }
            (modifiers, letter) => Ok(Self {
                code: KeyCode::Char(letter),
                modifiers,
            }),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = NAMES.iter();
        if let Some((name, _)) = names.find(|(_, code)| *code == self.code) {
            return f.write_str(name);
        }
        let word = match self.modifiers {
            KeyModifiers::CONTROL => "Ctrl-",
            KeyModifiers::ALT => "Alt-",
            _ => "",
        };
        f.write_str(word)?;
        // The codes of keys that can be read are these, and those with a name.
        if let KeyCode::Char(letter) = self.code {
            write!(f, "{letter}")
        } else if let KeyCode::F(number) = self.code {
            write!(f, "F{number}")
        } else {
            Ok(())
        }
    }
}

/// Which keys ask for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<Vec<Key>>);

impl Default for Keys {
    /// Those of the table.
    fn default() -> Self {
        let keys = |binding: &Binding| {
            let names = binding.shown.split(", ");
            names.filter_map(|name| name.parse().ok()).collect()
        };
        Self(KEYS.iter().map(keys).collect())
    }
}

impl Keys {
    /// What a key asks for; `None`: nothing.
    #[must_use]
    pub fn wish(&self, key: KeyEvent) -> Option<Wish> {
        let key = Key::from(key);
        let mut bound = self.0.iter().zip(KEYS);
        let found = bound.find(|(keys, _)| keys.contains(&key));
        found.map(|(_, binding)| binding.wish)
    }

    /// Gives what is called so these keys and no others; what had one of them loses it.
    /// [`Key::INTERRUPT`] quits all the same. False where nothing is called so.
    pub fn bind(&mut self, name: &str, mut keys: Vec<Key>) -> bool {
        let Some(number) = KEYS.iter().position(|binding| binding.name == name) else {
            return false;
        };
        for others in &mut self.0 {
            others.retain(|key| !keys.contains(key));
        }
        if KEYS.get(number).is_some_and(|it| it.wish == Wish::Quit)
            && !keys.contains(&Key::INTERRUPT)
        {
            keys.push(Key::INTERRUPT);
        }
        if let Some(own) = self.0.get_mut(number) {
            *own = keys;
        }
        true
    }

    /// The lines of the help: keys, and what they do.
    pub fn lines(&self) -> impl Iterator<Item = (String, &'static str)> {
        let names = |keys: &Vec<Key>| {
            let names: Vec<String> = keys.iter().map(Key::to_string).collect();
            names.join(", ")
        };
        let lines = self.0.iter().zip(KEYS);
        lines.map(move |(keys, binding)| (names(keys), binding.does))
    }

    /// The keys that are needed first, on a line.
    #[must_use]
    pub fn hint(&self) -> String {
        let first = |name: &str| {
            let number = KEYS.iter().position(|binding| binding.name == name)?;
            self.0.get(number)?.first().map(Key::to_string)
        };
        let words = [
            ("quit", "quit"),
            ("help", "help"),
            ("next-tab", "next"),
            ("search", "search"),
            ("freeze", "freeze"),
            ("sort", "sort"),
        ];
        let words = words.into_iter();
        let hint = words.filter_map(|(name, word)| Some(format!("{} {word}", first(name)?)));
        let mut hint: Vec<String> = hint.collect();
        if let Some((slower, faster)) = first("slower").zip(first("faster")) {
            hint.push(format!("{slower}{faster} pace"));
        }
        hint.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for binding in KEYS {
            for name in binding.shown.split(", ") {
                assert_eq!(name.parse::<Key>().unwrap().to_string(), name);
            }
        }
        for (text, name) in [
            ("pgdn", "PgDn"),
            ("f12", "F12"),
            ("ctrl-w", "Ctrl-w"),
            ("ALT-x", "Alt-x"),
            ("Alt-X", "Alt-X"),
            ("f", "f"),
            ("é", "é"),
            (",", ","),
        ] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), name);
        }
        for text in [
            "", " ", "jj", "F0", "F13", "Ctrl-", "Ctrl-D", "Ctrl-i", "Ctrl-m", "Alt- ", "Super-x",
            "\u{7}", "Ctrl-é",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
