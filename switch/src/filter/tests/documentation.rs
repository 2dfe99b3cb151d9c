//! What docs/filter.md says is so.

use crate::filter::Filter;

const TEXT: &str = include_str!("../../../../docs/filter.md");

/// The blocks fenced as `kind`.
fn blocks(kind: &str) -> impl Iterator<Item = &'static str> {
    let start = format!("```{kind}\n");
    let mut rest = TEXT;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&start)?;
        let (block, after) = after.split_once("```")?;
        rest = after;
        Some(block)
    })
}

#[test]
fn every_example_is_a_filter() {
    let examples: Vec<&str> = blocks("filter").flat_map(str::lines).collect();
    assert!(examples.len() > 40, "{} examples", examples.len());
    for example in examples {
        let filter = Filter::parse(example);
        assert!(filter.is_ok(), "{example}: {filter:?}");
        assert_eq!(filter.unwrap().as_str(), example);
    }
}

#[test]
fn every_wrong_example_has_the_error_shown() {
    let mut wrong = 0;
    let mut differing = Vec::new();
    for block in blocks("wrong") {
        let example = block.lines().next().unwrap();
        let error = Filter::parse(example).unwrap_err();
        let now = format!("{}\n{error}\n", error.caret(example));
        if now != block {
            differing.push(now);
        }
        wrong += 1;
    }
    assert!(wrong > 10, "{wrong} errors");
    assert!(differing.is_empty(), "now:\n{}", differing.join("\n"));
}
