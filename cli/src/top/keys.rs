//! Keys: what each does, in one table that the help is made of as well.

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

/// Keys that ask for one thing.
#[derive(Debug)]
pub struct Binding {
    keys: &'static [(KeyCode, KeyModifiers)],
    /// How the help writes them.
    pub shown: &'static str,
    /// What they do.
    pub does: &'static str,
    wish: Wish,
}

const PLAIN: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;

const fn char(c: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(c), PLAIN)
}

const fn ctrl(c: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(c), CTRL)
}

const fn code(code: KeyCode) -> (KeyCode, KeyModifiers) {
    (code, PLAIN)
}

macro_rules! bindings {
    ($($shown:literal $does:literal $wish:expr, [$($key:expr),+];)+) => {
        &[$(Binding {
            keys: &[$($key),+],
            shown: $shown,
            does: $does,
            wish: $wish,
        }),+]
    };
}

/// All keys, in the order of the help.
pub const KEYS: &[Binding] = bindings! {
    "q, Ctrl-c" "quit" Wish::Quit, [char('q'), ctrl('c')];
    "?, h, F1" "this help" Wish::Help, [char('?'), char('h'), code(KeyCode::F(1))];
    "Tab, Right" "next tab" Wish::Next, [code(KeyCode::Tab), code(KeyCode::Right)];
    "Shift-Tab, Left" "tab before" Wish::Previous, [code(KeyCode::BackTab), code(KeyCode::Left)];
    "1" "ports" Wish::Open(Tab::Ports), [char('1')];
    "2" "flows" Wish::Open(Tab::Flows), [char('2')];
    "3" "NAT" Wish::Open(Tab::Nat), [char('3')];
    "4" "latency" Wish::Open(Tab::Latency), [char('4')];
    "5" "drops" Wish::Open(Tab::Drops), [char('5')];
    "6" "trace" Wish::Open(Tab::Trace), [char('6')];
    "j, Down" "row down" Wish::Move(1), [char('j'), code(KeyCode::Down)];
    "k, Up" "row up" Wish::Move(-1), [char('k'), code(KeyCode::Up)];
    "PgDn, Ctrl-d" "page down" Wish::Page(1), [code(KeyCode::PageDown), ctrl('d')];
    "PgUp, Ctrl-u" "page up" Wish::Page(-1), [code(KeyCode::PageUp), ctrl('u')];
    "g, Home" "first row" Wish::First, [char('g'), code(KeyCode::Home)];
    "G, End" "last row" Wish::Last, [char('G'), code(KeyCode::End)];
    "/" "show rows that contain it" Wish::Search, [char('/')];
    "Space, Ctrl-f" "freeze, go on" Wish::Freeze, [char(' '), ctrl('f')];
    "s" "sort by the next column" Wish::Sort, [char('s')];
    "r" "reverse the order" Wish::Reverse, [char('r')];
    "+" "look less often" Wish::Slower, [char('+'), char('=')];
    "-" "look more often" Wish::Faster, [char('-')];
    "Esc" "leave help, search, freeze" Wish::Back, [code(KeyCode::Esc)];
};

/// What a key asks for; `None`: nothing.
#[must_use]
pub fn wish(key: KeyEvent) -> Option<Wish> {
    // A capital letter is a letter of its own, with or without the word that Shift was held.
    let modifiers = key.modifiers.difference(KeyModifiers::SHIFT);
    let pressed = (key.code, modifiers);
    let mut bindings = KEYS.iter();
    let found = bindings.find(|binding| binding.keys.contains(&pressed));
    found.map(|binding| binding.wish)
}
