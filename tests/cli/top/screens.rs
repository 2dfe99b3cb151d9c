//! Every tab on screens of several sizes.

use std::path::Path;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use vswitch_cli::top::app::{App, Event, Tab, Then};
use vswitch_cli::top::draw::Paint;
use vswitch_cli::top::theme::Colours;

use super::super::snapshot as committed;
use super::{UNICODE, app, drawn, letters, picture};

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];

fn press(app: &mut App, keys: &str) {
    for c in keys.chars() {
        let code = if c == '\n' {
            KeyCode::Enter
        } else {
            KeyCode::Char(c)
        };
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        assert_eq!(app.update(Event::Key(key)), Then::Go);
    }
}

fn name(tab: Tab) -> String {
    tab.title().1.to_lowercase()
}

#[test]
fn every_tab_looks_as_committed() {
    for tab in Tab::ALL {
        let app = app(tab);
        for size in SIZES {
            let text = letters(&drawn(&app, size, UNICODE));
            let file = format!("top/{}-{}x{}.txt", name(tab), size.0, size.1);
            committed(&file, &text);
        }
    }
}

#[test]
fn help_search_and_freeze_look_as_committed() {
    let mut helped = app(Tab::Ports);
    press(&mut helped, "?");
    committed(
        "top/help-80x24.txt",
        &letters(&drawn(&helped, SIZES[0], UNICODE)),
    );
    let mut searched = app(Tab::Flows);
    press(&mut searched, " /100.3\nsrjj");
    let text = letters(&drawn(&searched, SIZES[0], UNICODE));
    assert!(
        text.contains("FROZEN") && text.contains("/100.3  by bytes, reversed"),
        "{text}"
    );
    committed("top/search-80x24.txt", &text);
}

/// Goal: with `--ascii` every letter is one that any terminal has; without colours, none is used.
#[test]
fn a_poor_terminal_gets_neither_other_letters_nor_colours() {
    let paint = Paint {
        colour: false,
        ascii: true,
        colours: Colours::USUAL,
    };
    for tab in Tab::ALL {
        let buffer = drawn(&app(tab), SIZES[0], paint);
        let text = letters(&buffer);
        assert!(text.is_ascii(), "{text}");
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset));
        if tab == Tab::Ports {
            committed("top/ports-ascii.txt", &text);
        }
    }
    let coloured = drawn(&app(Tab::Ports), SIZES[0], UNICODE);
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Green));
}

/// Goal: no size makes it panic. Method: every tab, with and without help, on screens from nothing
/// to a strip; the rows are scrolled as far as they go.
#[test]
fn a_screen_may_be_as_small_as_it_likes() {
    for tab in Tab::ALL {
        let mut app = app(tab);
        for help in [false, true] {
            app.help = help;
            for size in [
                (20, 5),
                (1, 1),
                (0, 0),
                (80, 3),
                (3, 80),
                (200, 2),
                (79, 12),
                (300, 90),
            ] {
                drawn(&app, size, UNICODE);
                press(&mut app, "G");
                drawn(&app, size, UNICODE);
                press(&mut app, "g");
            }
        }
    }
    drawn(
        &App::new(Tab::Ports, std::time::Duration::ZERO),
        (20, 5),
        UNICODE,
    );
}

/// Goal: a name that a container chose reaches no terminal as a command to it.
#[test]
fn names_cannot_move_the_cursor() {
    let mut hostile = super::look(5);
    hostile.ports[0].ifname = "\u{1b}[2Jx\ny".into();
    hostile.status.name = "\u{7}bell".into();
    let snapshot = vswitch_cli::top::snapshot::Snapshot::between(None, &hostile);
    let mut app = App::new(Tab::Ports, std::time::Duration::from_secs(1));
    app.update(Event::Tick(Box::new(snapshot)));
    let buffer = drawn(&app, SIZES[0], UNICODE);
    let text = letters(&buffer);
    assert!(text.contains("?[2Jx?y") && text.contains("?bell"), "{text}");
    let mut symbols = buffer.content.iter();
    assert!(!symbols.any(|cell| cell.symbol().contains(char::is_control)));
}

/// The picture of the README is the screen of the first tab, as the test above has it.
#[test]
fn the_picture_is_of_this_screen() {
    let svg = picture::of(
        &drawn(&app(Tab::Ports), (100, 26), UNICODE),
        "vswitch top: rates, history and charts of every port",
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures/top.svg");
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        std::fs::write(&path, &svg).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == svg,
        "docs/pictures/top.svg; if it is meant: VSWITCH_BLESS=1 cargo test"
    );
}
