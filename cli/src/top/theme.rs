//! Keys and colours, as the configuration file may have them.

use ratatui::style::Color;

use super::keys::Keys;

/// What a colour is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It works.
    Good,
    /// Worth a look.
    Note,
    /// It does not work.
    Bad,
    /// What the eye shall find first.
    Heading,
    /// Charts of what came in.
    Received,
    /// Charts of what went out.
    Sent,
    /// The small charts beside the ports.
    History,
    /// The chart of drops.
    Drops,
    /// The chart of sessions.
    Sessions,
    /// The heat map, where there are few.
    HeatFew,
    /// Where there are some.
    HeatSome,
    /// Where there are many.
    HeatMany,
    /// Where there are most.
    HeatMost,
}

/// A role, what a configuration file calls it, what it colours, and how where nobody says.
pub type Part = (Role, &'static str, &'static str, Color);

/// All roles.
pub const ROLES: [Part; 13] = [
    (Role::Good, "good", "what works", Color::Green),
    (Role::Note, "note", "what is worth a look", Color::Yellow),
    (Role::Bad, "bad", "what does not work", Color::Red),
    (Role::Heading, "heading", "headers and names", Color::Reset),
    (
        Role::Received,
        "received",
        "charts of what came in",
        Color::Green,
    ),
    (Role::Sent, "sent", "charts of what went out", Color::Blue),
    (
        Role::History,
        "history",
        "the small charts beside the ports",
        Color::Cyan,
    ),
    (Role::Drops, "drops", "the chart of drops", Color::Red),
    (
        Role::Sessions,
        "sessions",
        "the chart of sessions",
        Color::Magenta,
    ),
    (
        Role::HeatFew,
        "heat-few",
        "the heat map, from few",
        Color::Blue,
    ),
    (Role::HeatSome, "heat-some", "over some", Color::Cyan),
    (Role::HeatMany, "heat-many", "and many", Color::Yellow),
    (Role::HeatMost, "heat-most", "to most", Color::Red),
];

/// The colour of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours([Color; ROLES.len()]);

impl Default for Colours {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Colours {
    /// Those where nobody says.
    pub const USUAL: Self = {
        let mut colours = [Color::Reset; ROLES.len()];
        let mut number = 0;
        while number < ROLES.len() {
            colours[number] = ROLES[number].3;
            number += 1;
        }
        Self(colours)
    };

    /// The colour of a role.
    #[must_use]
    pub fn of(&self, role: Role) -> Color {
        let mut parts = ROLES.iter().zip(self.0);
        let found = parts.find(|((known, ..), _)| *known == role);
        found.map_or(Color::Reset, |(_, colour)| colour)
    }

    /// Gives what is called so that colour. False where nothing is called so.
    pub fn set(&mut self, name: &str, colour: Color) -> bool {
        let mut parts = ROLES.iter().zip(&mut self.0);
        let found = parts.find(|((_, known, ..), _)| *known == name);
        found.map(|(_, own)| *own = colour).is_some()
    }
}

/// Reads `green`, `light-blue`, `208`, `#ff8700`, or `default`, which is the terminal's own.
///
/// # Errors
/// It is none of these.
pub fn colour(text: &str) -> Result<Color, String> {
    let colour = match text {
        "default" => Some(Color::Reset),
        text => text.parse().ok(),
    };
    colour.ok_or_else(|| {
        "no colour; colours are default, green, light-blue, 0 to 255, #ff8700".to_owned()
    })
}

/// How a person wants it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Theme {
    /// The keys.
    pub keys: Keys,
    /// The colours.
    pub colours: Colours,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_names_numbers_and_parts() {
        for (text, expected) in [
            ("default", Color::Reset),
            ("green", Color::Green),
            ("light-blue", Color::LightBlue),
            ("208", Color::Indexed(208)),
            ("#ff8700", Color::Rgb(255, 135, 0)),
        ] {
            assert_eq!(colour(text), Ok(expected));
        }
        for text in ["", "pinkish", "256", "-1", "#ff87", "#gg8700"] {
            assert!(colour(text).is_err(), "{text}");
        }
        for (role, name, _, usual) in ROLES {
            let mut colours = Colours::default();
            assert_eq!(colours.of(role), usual);
            assert!(colours.set(name, Color::Indexed(7)));
            assert_eq!(colours.of(role), Color::Indexed(7));
            assert!(!colours.set("other", Color::Black));
        }
    }
}
