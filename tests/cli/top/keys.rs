//! Keys and what they do, one after the other.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use vswitch_cli::top::app::{App, Event, Tab, Then};
use vswitch_cli::top::keys::KEYS;
use vswitch_cli::top::look::Wants;

use super::{app, look};

/// A key by the name the help has for it.
pub(super) fn key(name: &str) -> KeyEvent {
    let (modifiers, name) = match name.strip_prefix("Ctrl-") {
        Some(rest) => (KeyModifiers::CONTROL, rest),
        None => (KeyModifiers::NONE, name),
    };
    let code = match name {
        "Tab" => KeyCode::Tab,
        "Shift-Tab" => return KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT),
        "Right" => KeyCode::Right,
        "Left" => KeyCode::Left,
        "Down" => KeyCode::Down,
        "Up" => KeyCode::Up,
        "PgDn" => KeyCode::PageDown,
        "PgUp" => KeyCode::PageUp,
        "Home" => KeyCode::Home,
        "End" => KeyCode::End,
        "Space" => KeyCode::Char(' '),
        "Esc" => KeyCode::Esc,
        "Enter" => KeyCode::Enter,
        "Backspace" => KeyCode::Backspace,
        "F1" => KeyCode::F(1),
        "F5" => KeyCode::F(5),
        "F9" => KeyCode::F(9),
        "G" => return KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT),
        one => KeyCode::Char(
            one.chars()
                .next()
                .filter(|_| one.chars().count() == 1)
                .unwrap(),
        ),
    };
    KeyEvent::new(code, modifiers)
}

pub(super) fn press(app: &mut App, keys: &str) -> Then {
    let mut then = Then::Go;
    for name in keys.split(' ') {
        assert_eq!(then, Then::Go, "{keys}: ended early");
        then = app.update(Event::Key(key(name)));
    }
    then
}

/// What can be seen of the state.
fn state(app: &App) -> String {
    let cursor = app.cursor();
    let mut words = vec![app.tab.title().1.to_owned(), format!("row {}", cursor.row)];
    words.extend(app.order().map(|order| format!("by {order}")));
    words.extend(cursor.reversed.then(|| "reversed".into()));
    words.extend((!app.search.is_empty()).then(|| format!("/{}", app.search)));
    words.extend(app.searching.then(|| "typing".into()));
    words.extend(app.is_frozen().then(|| "frozen".into()));
    words.extend(app.help.then(|| "help".into()));
    if app.interval != Duration::from_secs(1) {
        words.push(format!("{:?}", app.interval));
    }
    words.join(", ")
}

#[test]
fn keys_do_what_the_table_says() {
    let cases = [
        ("Tab", "Flows, row 0, by rate"),
        ("Right Right", "NAT, row 0"),
        ("Shift-Tab", "Trace, row 0"),
        ("Left Left", "Drops, row 0, by rate"),
        ("6 Tab", "Ports, row 0, by index"),
        ("1", "Ports, row 0, by index"),
        ("2", "Flows, row 0, by rate"),
        ("3", "NAT, row 0"),
        ("4", "Latency, row 0"),
        ("5", "Drops, row 0, by rate"),
        ("6", "Trace, row 0"),
        ("2 j j Down k", "Flows, row 2, by rate"),
        ("2 k Up", "Flows, row 0, by rate"),
        ("2 PgDn Ctrl-d Ctrl-d j", "Flows, row 31, by rate"),
        ("2 PgDn PgDn PgDn PgDn PgDn", "Flows, row 39, by rate"),
        ("2 PgDn PgDn PgUp Ctrl-u Ctrl-u", "Flows, row 0, by rate"),
        ("2 G k", "Flows, row 38, by rate"),
        ("2 End Home", "Flows, row 0, by rate"),
        ("2 G g", "Flows, row 0, by rate"),
        ("2 / u d p Enter PgDn", "Flows, row 7, by rate, /udp"),
        ("2 / u d p Enter G k", "Flows, row 6, by rate, /udp"),
        ("2 / n o n e Enter G k j", "Flows, row 0, by rate, /none"),
        ("2 j 1 j 2", "Flows, row 1, by rate"),
        ("s", "Ports, row 0, by name"),
        ("s s s s s", "Ports, row 0, by index"),
        ("s r", "Ports, row 0, by name, reversed"),
        ("r r", "Ports, row 0, by index"),
        ("3 s", "NAT, row 0"),
        ("4 G k j", "Latency, row 3"),
        ("/ v e t", "Ports, row 0, by index, /vet, typing"),
        ("/ v e Backspace t Enter", "Ports, row 0, by index, /vt"),
        ("/ q h ? 2 Space Enter", "Ports, row 0, by index, /qh?2 "),
        ("/ v Esc", "Ports, row 0, by index"),
        ("/ v Enter Esc", "Ports, row 0, by index"),
        ("Space", "Ports, row 0, by index, frozen"),
        ("Ctrl-f Ctrl-f", "Ports, row 0, by index"),
        ("Space Esc", "Ports, row 0, by index"),
        ("?", "Ports, row 0, by index, help"),
        ("h h", "Ports, row 0, by index"),
        ("F1 Esc", "Ports, row 0, by index"),
        (
            "Space / x Enter ? Esc",
            "Ports, row 0, by index, /x, frozen",
        ),
        (
            "Space / x Enter ? Esc Esc",
            "Ports, row 0, by index, frozen",
        ),
        ("+", "Ports, row 0, by index, 2s"),
        ("+ = + + + + + +", "Ports, row 0, by index, 60s"),
        ("- - - - -", "Ports, row 0, by index, 100ms"),
        ("+ -", "Ports, row 0, by index"),
        ("x Enter Ctrl-x", "Ports, row 0, by index"),
    ];
    let fresh = app(Tab::Ports);
    for (keys, expected) in cases {
        let mut app = fresh.clone();
        assert_eq!(press(&mut app, keys), Then::Go, "{keys}");
        assert_eq!(state(&app), expected, "{keys}");
    }
    for keys in ["q", "Ctrl-c", "/ a b Ctrl-c", "? q", "Space 2 q"] {
        assert_eq!(press(&mut fresh.clone(), keys), Then::Quit, "{keys}");
    }
}

/// Goal: what the help names is what the keys do. Method: each name of each line is pressed; those
/// of one line come to the same, and every one changes something or ends.
#[test]
fn every_key_of_the_help_does_something() {
    for binding in KEYS {
        let ends: Vec<String> = (binding.shown.split(", "))
            .map(|name| {
                let mut app = app(Tab::Flows);
                press(&mut app, "PgDn Space");
                let before = state(&app);
                let then = press(&mut app, name);
                let after = state(&app);
                let same = before == after && then == Then::Go;
                assert_eq!(same, binding.shown == "2", "{name}: {after}");
                format!("{then:?} {after}")
            })
            .collect();
        assert!(
            ends.windows(2).all(|two| two[0] == two[1]),
            "{}: {ends:?}",
            binding.shown
        );
    }
}

/// A picture that stands still does so whatever comes, and then shows the latest.
#[test]
fn a_frozen_screen_stands_still() {
    let mut app = app(Tab::Ports);
    press(&mut app, "Space");
    let still = app.sight().clone();
    let later = super::Snapshot::between(Some(&look(200)), &look(201));
    app.update(Event::Tick(Box::new(later.clone())));
    assert_eq!(*app.sight(), still);
    press(&mut app, "Space");
    assert_eq!(app.sight().snapshot, Some(later));
    app.update(Event::Trouble("no answer".into()));
    assert_eq!(app.trouble.as_deref(), Some("no answer"));
    app.update(Event::Tick(Box::new(super::snapshot())));
    assert_eq!(app.trouble, None);
}

/// A cursor that was moved stays on its packet while others come; one at the top shows the latest.
#[test]
fn the_cursor_stays_on_its_packet() {
    let mut app = app(Tab::Trace);
    let packets: Vec<_> = super::traced().collect();
    let come = |app: &mut App| {
        for packet in &packets {
            app.update(Event::Traced(Box::new(packet.clone())));
        }
    };
    come(&mut app);
    assert_eq!(state(&app), "Trace, row 0");
    press(&mut app, "j j j");
    come(&mut app);
    assert_eq!(state(&app), "Trace, row 6");
    // A packet that is not shown moves nothing.
    press(&mut app, "/ D R O P P E D Enter");
    come(&mut app);
    assert_eq!(state(&app), "Trace, row 7, /DROPPED");
    assert!(app.wants_traces());
    press(&mut app, "Space");
    assert!(!app.wants_traces());
    for _ in 0..100 {
        come(&mut app);
    }
    press(&mut app, "Space G");
    assert_eq!(app.sight().traced.len(), 200);
    press(&mut app, "k");
    assert_eq!(state(&app), "Trace, row 64, /DROPPED");
    assert!(!super::app(Tab::Ports).wants_traces());
}

#[test]
fn what_costs_is_asked_for_only_while_it_is_on_screen() {
    for tab in Tab::ALL {
        let wants = Wants {
            sessions: matches!(tab, Tab::Flows | Tab::Nat),
            latency: tab == Tab::Latency,
        };
        assert_eq!(app(tab).wants(), wants, "{tab:?}");
    }
}
