//! Requirements and their tests: a table that names a test which is gone, or leaves a requirement
//! out, misleads whoever judges the gateway by it.

use super::files;

/// Where the tables stand: of the engine, and of what is around it.
const TABLES: [&str; 2] = ["nat/src/lib.rs", "ARCHITECTURE.md"];

/// The requirements of the gateway, each group from 1 to this number.
const GROUPS: [(&str, usize); 7] = [
    ("A1", 18),
    ("A2", 16),
    ("A3", 10),
    ("A4", 12),
    ("A5", 5),
    ("A6", 8),
    ("D", 7),
];
const SINGLE: [&str; 13] = [
    "A2-3b", "A2-3c", "A4-4b", "A4-4c", "E-3", "E-4", "E-5", "F-7", "F-8", "F-9", "F-10", "F-13",
    "F-16",
];

/// Not built, which ARCHITECTURE.md says below its table: blocks of ports, and PCP.
const LATER: [&str; 2] = ["A4-7", "A4-9"];

#[test]
fn each_requirement_has_a_row_and_each_row_its_tests() {
    let files = files();
    let tests: Vec<(&str, &str)> = files
        .iter()
        .flat_map(|(path, text)| names(path, text))
        .collect();
    let rows = rows(&files);
    let mut breaches = Vec::new();
    for (table, ids, places) in &rows {
        for id in ids
            .iter()
            .filter(|id| !tests.iter().any(|(_, name)| proves(name, id)))
        {
            breaches.push(format!("{table}: no test is named after {id}"));
        }
        for place in places.iter().flat_map(|code| paths(code)) {
            let there = |(path, name): &(&str, &str)| {
                is_within(path, &place) && ids.iter().any(|id| proves(name, id))
            };
            if !tests.iter().any(there) {
                breaches.push(format!("{table}: {place} has no test of {ids:?}"));
            }
        }
    }
    let named = |id: &String| rows.iter().any(|(_, ids, _)| ids.contains(id));
    for id in all().iter().filter(|id| !named(id)) {
        breaches.push(format!("{id} is in no table"));
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

fn all() -> Vec<String> {
    let numbered = GROUPS.iter();
    let numbered = numbered.flat_map(|(group, n)| (1..=*n).map(move |n| format!("{group}-{n}")));
    let single = SINGLE.map(String::from);
    let ids = numbered.chain(single);
    ids.filter(|id| !LATER.contains(&id.as_str())).collect()
}

/// The rows of both tables: the table, the identifiers of the first cell, the code in the last.
fn rows(files: &[(String, String)]) -> Vec<(&str, Vec<String>, Vec<&str>)> {
    let tables = files
        .iter()
        .filter(|(path, _)| TABLES.contains(&path.as_str()));
    let lines = tables.flat_map(|(path, text)| text.lines().map(move |line| (path.as_str(), line)));
    let rows = lines.filter_map(|(path, line)| {
        let row = line.trim_start_matches("//! ").strip_prefix("| ")?;
        let ids = identifiers(row.split(" |").next()?)?;
        let places = row.trim_end_matches(" |").rsplit(" | ").next()?;
        Some((path, ids, places.split('`').skip(1).step_by(2).collect()))
    });
    rows.collect()
}

/// `A1-1 A1-3` as they are, `A3-1 to A3-6` with those between; nothing where a word is neither.
fn identifiers(cell: &str) -> Option<Vec<String>> {
    let (mut ids, mut words) = (Vec::<String>::new(), cell.split(' '));
    while let Some(word) = words.next() {
        if word == "to" {
            let (group, last) = words.next()?.rsplit_once('-')?;
            let first: usize = ids.last()?.rsplit_once('-')?.1.parse().ok()?;
            ids.extend((first + 1..=last.parse().ok()?).map(|n| format!("{group}-{n}")));
        } else {
            let (group, number) = word.split_once('-')?;
            let is_group = group.starts_with(|c: char| c.is_ascii_uppercase()) && group.len() <= 2;
            let is_one = is_group && number.starts_with(|c: char| c.is_ascii_digit());
            ids.push(is_one.then(|| word.to_owned())?);
        }
    }
    Some(ids)
}

/// The file, or the modules of the engine or of the crate named first: `tests::{udp, tcp}`.
fn paths(code: &str) -> Vec<String> {
    if code.contains('/') {
        return vec![code.to_owned()];
    }
    let (parent, modules) = match code.split_once('{') {
        Some((parent, modules)) => (parent, modules.trim_end_matches('}')),
        None => ("", code),
    };
    let paths = modules.split(", ").map(|module| {
        let path = format!("{parent}{module}").replace("::", "/");
        match path.strip_prefix("switch/") {
            Some(path) => format!("switch/src/{path}"),
            None => format!("nat/src/{path}"),
        }
    });
    paths.collect()
}

/// Whether a file is the one named, that of a module, or within its directory.
fn is_within(path: &str, place: &str) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| matches!(rest, "" | ".rs") || rest.starts_with('/'))
}

/// The names of a file's test functions.
fn names<'t>(path: &'t str, text: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
    let rust = if path.ends_with(".rs") { text } else { "" };
    let after = rust.split("#[test]").skip(1);
    let name = |rest: &'t str| rest.split_once("fn ")?.1.split('(').next();
    after.filter_map(name).map(move |name| (path, name))
}

/// Whether a test's name begins with the identifier, or with others and then with it.
fn proves(name: &str, id: &str) -> bool {
    let id = id.to_lowercase().replace('-', "_");
    format!("_{name}").contains(&format!("_{id}_"))
}
