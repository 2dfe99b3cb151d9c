//! `[top]`: how a person wants `vswitch top`. It is nothing to a switch.
//!
//! ```toml
//! [top.keys]
//! row-down = "n"                     # a key, or several in a list
//! freeze = ["Space", "F5"]
//!
//! [top.colours]
//! good = "light-blue"
//! ```

use toml::Spanned;
use toml::de::DeValue;

use super::{Mistake, Step, string, table};
use crate::top::keys::{KEYS, Key};
use crate::top::theme::{ROLES, Theme, colour};

pub(super) fn theme(theme: &mut Theme, value: &Spanned<DeValue<'_>>) -> Step {
    for (key, value) in table(value, "[top.keys]")? {
        match key.get_ref().as_ref() {
            "keys" => keys(theme, value)?,
            "colours" => colours(theme, value)?,
            other => return Err(Mistake::unknown(key.span(), other, &["keys", "colours"])),
        }
    }
    Ok(())
}

fn keys(theme: &mut Theme, value: &Spanned<DeValue<'_>>) -> Step {
    let known: Vec<&str> = KEYS.iter().map(|binding| binding.name).collect();
    let mut given: Vec<(Key, &str)> = Vec::new();
    for (name, value) in table(value, "[top.keys]")? {
        let word = name.get_ref().as_ref();
        let texts = match value.get_ref().as_array() {
            Some(array) => array.iter().collect(),
            None => vec![value],
        };
        let mut own = Vec::new();
        for text in texts {
            let wrong = |why: String| Mistake::new(text.span(), why);
            let key: Key = string(text)?.parse().map_err(wrong)?;
            if key == Key::INTERRUPT && word != "quit" {
                return Err(wrong("Ctrl-c quits, whatever else does".into()));
            }
            if let Some((_, other)) = given.iter().find(|(taken, _)| *taken == key) {
                return Err(wrong(format!("`{other}` has this key already")));
            }
            given.push((key, word));
            own.push(key);
        }
        if !theme.keys.bind(word, own) {
            return Err(Mistake::unknown(name.span(), word, &known));
        }
    }
    Ok(())
}

fn colours(theme: &mut Theme, value: &Spanned<DeValue<'_>>) -> Step {
    for (name, value) in table(value, "[top.colours]")? {
        let word = name.get_ref().as_ref();
        let wrong = |why: String| Mistake::new(value.span(), why);
        let colour = colour(string(value)?).map_err(wrong)?;
        if !theme.colours.set(word, colour) {
            let known: Vec<&str> = ROLES.iter().map(|(_, name, ..)| *name).collect();
            return Err(Mistake::unknown(name.span(), word, &known));
        }
    }
    Ok(())
}
