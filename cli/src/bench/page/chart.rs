//! The two kinds of picture: bars with their spread, and curves.

use super::super::table::figure;
use super::svg::{Anchor, Svg};

/// Width of every drawing.
const WIDTH: f64 = 720.0;

/// Between which powers of ten a logarithmic axis lies.
const POWERS: (f64, f64) = (1e-3, 1e18);

/// How many colours there are; one more forwarder than that begins again.
const COLOURS: usize = 8;

/// One bar.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    /// Whose colour it has.
    pub(super) series: usize,
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
    pub(super) values: Vec<f64>,
}

/// One curve.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    /// Whose colour it has.
    pub(super) series: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// One axis: from where to where, and what is written at it.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    label: String,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
    logarithmic: bool,
}

impl Axis {
    /// From 0 to a round number not below `high`.
    pub(super) fn from_zero(label: &str, high: f64) -> Self {
        let (step, count) = steps(high);
        let ticks = (0..=count).map(|tick| f64::from(tick) * step);
        Self {
            label: label.to_owned(),
            low: 0.0,
            high: step * f64::from(count),
            ticks: ticks.map(|value| (value, tick(value))).collect(),
            logarithmic: false,
        }
    }

    /// By powers of ten, around `low` to `high`; what is not above 0 is drawn at the low end.
    pub(super) fn powers_of_ten(label: &str, low: f64, high: f64) -> Self {
        // Within bounds that hold for numbers of any kind, so that there is a last power.
        let low = low.clamp(POWERS.0, POWERS.1);
        let high = high.clamp(low, POWERS.1);
        let first = low.log10().floor();
        let last = high.log10().ceil().max(first + 1.0);
        let mut ticks = Vec::new();
        let mut power = first;
        while power <= last {
            let value = 10_f64.powf(power);
            ticks.push((value, figure_of_ten(value)));
            power += 1.0;
        }
        Self {
            label: label.to_owned(),
            low: 10_f64.powf(first),
            high: 10_f64.powf(last),
            ticks,
            logarithmic: true,
        }
    }

    /// Named places at 0, 1, 2 ...
    pub(super) fn places(label: &str, names: &[&str]) -> Self {
        let places = (0_u32..).zip(names);
        let ticks: Vec<_> = places
            .map(|(at, name)| (f64::from(at), (*name).to_owned()))
            .collect();
        Self {
            label: label.to_owned(),
            low: 0.0,
            high: ticks.last().map_or(1.0, |(at, _)| at.max(1.0)),
            ticks,
            logarithmic: false,
        }
    }

    /// Where a value lies: 0 at the low end, 1 at the high one, and never beyond.
    fn part(&self, value: f64) -> f64 {
        let place = |value: f64| {
            if self.logarithmic {
                value.log10()
            } else {
                value
            }
        };
        let (low, high) = (place(self.low), place(self.high));
        let part = (place(value.max(self.low)) - low) / (high - low);
        if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// A round step, and how many of them reach `high`: 1, 2 or 5 times a power of ten, at most 6.
fn steps(high: f64) -> (f64, u32) {
    let high = if high.is_finite() && high > 0.0 {
        high
    } else {
        1.0
    };
    let power = 10_f64.powf((high / 6.0).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let step = factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| step * 6.0 >= high);
    let step = step.unwrap_or(power * 10.0);
    let count = (1_u32..6).find(|count| f64::from(*count) * step >= high * 0.999_999);
    (step, count.unwrap_or(6))
}

/// A tick's number, without the rounding errors of its sum.
fn tick(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn figure_of_ten(value: f64) -> String {
    if value >= 1.0 {
        format!("{value:.0}")
    } else {
        tick(value)
    }
}

/// Bars from 0 to the median, each with its figures as dots and its spread as a whisker.
pub(super) fn bars(shows: &str, unit: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 36.0;
    const LEFT: f64 = 110.0;
    const RIGHT: f64 = 130.0;
    let rows = f64::from(u32::try_from(bars.len()).unwrap_or(u32::MAX));
    let bottom = rows * ROW + 6.0;
    let mut svg = Svg::new(WIDTH, bottom + 36.0);
    let axis = Axis::from_zero(unit, bars.iter().map(|bar| bar.max).fold(0.0, f64::max));
    let x = |value: f64| LEFT + axis.part(value) * (WIDTH - LEFT - RIGHT);
    for (value, text) in &axis.ticks {
        svg.line("grid", (x(*value), 0.0), (x(*value), bottom));
        svg.text("tick", (x(*value), bottom + 14.0), Anchor::Middle, text);
    }
    svg.text(
        "tick",
        (x(axis.high / 2.0), bottom + 30.0),
        Anchor::Middle,
        unit,
    );
    let mut middle = ROW / 2.0 + 3.0;
    for bar in bars {
        let colour = bar.series % COLOURS;
        svg.text("name", (LEFT - 8.0, middle + 4.0), Anchor::End, &bar.name);
        let size = (x(bar.median) - LEFT, 20.0);
        svg.bar(&format!("bar s{colour}"), (LEFT, middle - 10.0), size);
        svg.line("whisker", (x(bar.min), middle), (x(bar.max), middle));
        for end in [bar.min, bar.max] {
            svg.line("whisker", (x(end), middle - 5.0), (x(end), middle + 5.0));
        }
        for (round, value) in (1..).zip(&bar.values) {
            let title = format!("{} round {round}: {} {unit}", bar.name, figure(*value));
            svg.dot("figure", (x(*value), middle), 2.5, &title);
        }
        let text = format!("{} {unit}", figure(bar.median));
        let end = x(bar.max).max(x(bar.median)) + 8.0;
        svg.text("value", (end, middle + 4.0), Anchor::Start, &text);
        middle += ROW;
    }
    svg.end(shows)
}

/// Curves, each with its points and, at its end, its name.
pub(super) fn curves(shows: &str, horizontal: &Axis, vertical: &Axis, lines: &[Line]) -> String {
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 70.0;
    const TOP: f64 = 24.0;
    const RIGHT: f64 = 110.0;
    const BOTTOM: f64 = 44.0;
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let x = |value: f64| LEFT + horizontal.part(value) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - vertical.part(value) * (HEIGHT - TOP - BOTTOM);
    let (low, high) = (y(vertical.low), y(vertical.high));
    for (value, text) in &horizontal.ticks {
        svg.line("grid", (x(*value), high), (x(*value), low));
        svg.text("tick", (x(*value), low + 14.0), Anchor::Middle, text);
    }
    for (value, text) in &vertical.ticks {
        svg.line("grid", (LEFT, y(*value)), (WIDTH - RIGHT, y(*value)));
        svg.text("tick", (LEFT - 6.0, y(*value) + 4.0), Anchor::End, text);
    }
    svg.text(
        "tick",
        (WIDTH - RIGHT, low + 32.0),
        Anchor::End,
        &horizontal.label,
    );
    svg.text("tick", (LEFT - 6.0, 12.0), Anchor::Start, &vertical.label);
    for line in lines {
        let colour = line.series % COLOURS;
        let places: Vec<_> = line
            .points
            .iter()
            .map(|&(at, value)| (x(at), y(value)))
            .collect();
        svg.path(&format!("curve s{colour}"), &places);
        for (place, (at, value)) in places.iter().zip(&line.points) {
            let title = format!("{}: {} at {}", line.name, figure(*value), figure(*at));
            svg.dot(&format!("point s{colour}"), *place, 3.5, &title);
        }
    }
    let ends = lines.iter().filter_map(|line| {
        let (at, value) = line.points.last()?;
        Some((x(*at) + 8.0, y(*value) + 4.0, line))
    });
    for (x, y, line) in apart(ends.collect()) {
        svg.text(
            &format!("name s{}", line.series % COLOURS),
            (x, y),
            Anchor::Start,
            &line.name,
        );
    }
    svg.end(shows)
}

/// Names moved down until none lies on another.
fn apart(mut names: Vec<(f64, f64, &Line)>) -> Vec<(f64, f64, &Line)> {
    const GAP: f64 = 14.0;
    names.sort_by(|one, other| one.1.total_cmp(&other.1));
    for index in 1..names.len() {
        let above = names[index - 1].1;
        names[index].1 = names[index].1.max(above + GAP);
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (high, end, ticks) in [
            (0.37, 0.4, 5),
            (1.0, 1.0, 6),
            (9.8, 10.0, 6),
            (24_512.0, 25_000.0, 6),
            (0.0, 1.0, 6),
            (f64::NAN, 1.0, 6),
        ] {
            let axis = Axis::from_zero("", high);
            assert!((axis.high - end).abs() < 1e-9, "{high}: {axis:?}");
            assert_eq!(axis.ticks.len(), ticks, "{high}: {axis:?}");
        }
        let axis = Axis::powers_of_ten("", 19.0, 603.0);
        let texts: Vec<_> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["10", "100", "1000"]);
    }

    proptest! {
        /// Whatever is drawn, nothing lies outside its axis.
        #[test]
        fn every_value_lies_on_its_axis(
            values in prop::collection::vec(0.0..1e18_f64, 1..9),
            beside in any::<f64>(),
        ) {
            let high = values.iter().copied().fold(0.0, f64::max);
            let low = values.iter().copied().fold(f64::MAX, f64::min);
            for axis in [Axis::from_zero("", high), Axis::powers_of_ten("", low, high)] {
                prop_assert!(axis.high.is_finite() && axis.high >= high * 0.999_999);
                prop_assert!((2..=40).contains(&axis.ticks.len()), "{:?}", axis);
                for value in values.iter().copied().chain([beside]) {
                    prop_assert!((0.0..=1.0).contains(&axis.part(value)));
                }
            }
        }
    }
}
