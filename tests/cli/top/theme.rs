//! Keys and colours of a person's own.

use ratatui::style::Color;
use vswitch_cli::config::file::parse_theme;
use vswitch_cli::top::app::{App, Event, Tab, Then};
use vswitch_cli::top::draw::Paint;
use vswitch_cli::top::keys::{KEYS, Key};
use vswitch_cli::top::theme::{ROLES, Theme};

use super::super::{Scratch, snapshot as committed, vswitch};
use super::keys::press;
use super::{UNICODE, app, drawn, letters};

const PAGE: &str = include_str!("../../../docs/top.md");

fn theme(text: &str) -> Theme {
    parse_theme("top.toml", text).unwrap()
}

fn with(text: &str, tab: Tab) -> App {
    let mut app = app(tab);
    app.keys = theme(text).keys;
    app
}

#[test]
fn an_action_has_the_keys_it_is_given_and_no_others() {
    let keys = "[top.keys]\nrow-down = \"n\"\nfreeze = [\"F5\", \"Alt-f\"]\nquit = \"x\"\n\
                sort = []\nsearch = \"s\"";
    let mut app = with(keys, Tab::Flows);
    press(&mut app, "n n j Down");
    assert_eq!(app.cursor().row, 2);
    press(&mut app, "Space");
    assert!(!app.is_frozen());
    // A key that something else had is taken from it; what is typed is no key.
    press(&mut app, "s x n Enter");
    assert_eq!((app.search.as_str(), app.order()), ("xn", Some("rate")));
    assert_eq!(press(&mut app, "q"), Then::Go);
    for quits in ["x", "Ctrl-c"] {
        assert_eq!(press(&mut app.clone(), quits), Then::Quit);
    }
    let text = letters(&drawn(&app, (80, 24), UNICODE));
    let foot = "x quit  ? help  Tab next  s search  F5 freeze  +- pace";
    assert!(text.contains(foot), "{text}");
    press(&mut app, "?");
    let help = letters(&drawn(&app, (100, 24), UNICODE));
    for line in ["x, Ctrl-c        quit", "F5, Alt-f        freeze, go on"] {
        assert!(help.contains(line), "{help}");
    }
}

/// Goal: every action can be given any key. Method: each in turn gets one that nothing has.
#[test]
fn every_action_can_have_another_key() {
    for binding in KEYS {
        let text = format!("[top.keys]\n{} = \"F9\"", binding.name);
        let theirs = theme(&text).keys;
        let usual = Theme::default().keys;
        let names = binding.shown.split(", ").map(super::keys::key);
        for key in names {
            assert!(usual.wish(key).is_some());
            let interrupt = Key::from(key) == Key::INTERRUPT;
            assert_eq!(theirs.wish(key).is_some(), interrupt, "{key:?}");
        }
        let key = super::keys::key(binding.shown.split(", ").next().unwrap());
        assert_eq!(theirs.wish(super::keys::key("F9")), usual.wish(key));
    }
}

/// Goal: a role has its colour, and where there are to be no colours there are none. Method: every
/// role gets a colour that nothing has; the screens show them all.
#[test]
fn roles_have_their_colours_unless_there_are_none() {
    let colours = (1..).zip(ROLES).map(|(number, (_, name, ..))| {
        let number = 100 + number;
        format!("{name} = \"{number}\"\n")
    });
    let theme = theme(&format!("[top.colours]\n{}", colours.collect::<String>()));
    let paint = Paint {
        colours: theme.colours,
        ..UNICODE
    };
    let mut seen = std::collections::BTreeSet::new();
    for tab in Tab::ALL {
        let buffer = drawn(&app(tab), (120, 40), paint);
        for cell in &buffer.content {
            if let Color::Indexed(number) = cell.fg {
                seen.insert(number);
            } else {
                assert_eq!(cell.fg, Color::Reset);
            }
        }
        let colour = false;
        let plain = drawn(&app(tab), (120, 40), Paint { colour, ..paint });
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset));
    }
    let all: Vec<u8> = (101..101 + u8::try_from(ROLES.len()).unwrap()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let mistakes = [
        "[top]\nkey = 1",
        "[top.keys]\nrow-dwn = \"n\"",
        "[top.keys]\nsort = \"Hyper-s\"",
        "[top.keys]\nsort = [\"t\", 7]",
        "[top.keys]\nsort = \"n\"\nreverse = [\"m\", \"n\"]",
        "[top.keys]\nsort = \"Ctrl-c\"",
        "[top.keys]\nsort = \"Ctrl-i\"",
        "[top.colours]\ngoood = \"green\"",
        "[top.colours]\ngood = \"pinkish\"",
        "[top.colours]\ngood = 300",
        "port = 1",
    ];
    let told = mistakes.map(|text| parse_theme("top.toml", text).unwrap_err().to_string());
    committed("top/mistakes.txt", &(told.join("\n\n") + "\n"));
}

/// Goal: the program reads that file, and a switch's own may have it too.
#[test]
fn the_program_tells_of_mistakes_before_it_asks_for_a_switch() {
    let scratch = Scratch::new();
    let file = scratch.file("top.toml", "[top.colours]\ngood = \"pinkish\"\n");
    for words in ["top --once --config", "config check"] {
        let ended = vswitch(words, &[&file]);
        let place = format!("error: {}:2:8: no colour; ", file.display());
        assert_eq!(ended.code, 1);
        assert!(ended.stderr.starts_with(&place), "{}", ended.stderr);
    }
    let right = scratch.file(
        "lab.toml",
        "ports = [\"veth1\"]\n[top.keys]\nsort = \"o\"\n",
    );
    assert_eq!(vswitch("config check", &[&right]).code, 0);
    let run_dir = scratch.path().display();
    let none = vswitch(
        &format!("top --once --run-dir {run_dir} --config"),
        &[&right],
    );
    assert_eq!(none.code, 3, "{}", none.stderr);
}

/// Goal: the page names every colour, and its example is right. Method: its rows are those of the
/// table; each block is read.
#[test]
fn the_page_names_every_colour_and_its_example_is_right() {
    let (_, rows) = PAGE
        .split_once("| colour | of | usually |\n|---|---|---|\n")
        .unwrap();
    let rows = rows.lines().take_while(|line| line.starts_with('|'));
    let parts = ROLES.iter();
    let expected = parts.map(|(_, name, of, colour)| {
        let colour = colour
            .to_string()
            .to_lowercase()
            .replace("reset", "default");
        format!("| `{name}` | {of} | {colour} |")
    });
    assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    let blocks = PAGE.split("```toml\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 1);
    let theme = theme(blocks[0]);
    assert_ne!(theme.keys, Theme::default().keys);
    assert_ne!(theme.colours, Theme::default().colours);
    let mut app = app(Tab::Ports);
    app.keys = theme.keys;
    app.update(Event::Key(super::keys::key("F5")));
    assert!(app.is_frozen());
}
