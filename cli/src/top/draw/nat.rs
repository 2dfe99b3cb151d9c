//! NAT: how full it is, sessions over time and by state, what is published.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Scene;
use super::paint::{chart_over_time, gauge, grid, take, write, write_all};
use crate::show::units;
use crate::top::grid::Tone;
use crate::top::tables::{self, rate};
use crate::top::theme::Role;

/// Columns of the names before the bars, and of the bars.
const NAMES: usize = 24;
const BAR: u16 = 24;
/// Lines of the sessions over time.
const CHART_LINES: u16 = 4;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, scene: &Scene<'_>) {
    let Scene {
        app,
        snapshot,
        paint,
    } = *scene;
    let Some(nat) = &snapshot.nat else {
        write(buf, area, "this switch does no NAT", paint.dim());
        return;
    };
    for (what, used, total) in tables::fullness(nat) {
        let mut line = take(&mut area, 1);
        let taken = write(
            buf,
            line,
            &format!("{what:NAMES$}"),
            paint.tone(Tone::Strong),
        );
        line.x += taken;
        line.width -= taken;
        let bar = Rect {
            width: BAR.min(line.width),
            ..line
        };
        gauge(buf, bar, used, total, paint);
        let rest = Rect {
            x: bar.right(),
            width: line.right() - bar.right(),
            ..line
        };
        let share = units::percent(used, total);
        write(
            buf,
            rest,
            &format!("  {used} of {total} ({share})"),
            Style::new(),
        );
    }
    let pace = format!(
        "{} packets translated and {} ports given a second",
        rate(nat.translations_per_second),
        rate(nat.ports_given_per_second)
    );
    write(buf, take(&mut area, 1), &pace, Style::new());
    for (count, words) in tables::refused(nat) {
        let texts = [
            (units::count(count), paint.tone(Tone::Bad)),
            (format!(" {words}"), Style::new()),
        ];
        let texts = texts
            .each_ref()
            .map(|(text, style)| (text.as_str(), *style));
        write_all(buf, take(&mut area, 1), &texts);
    }
    take(&mut area, 1);
    if area.height > 2 * CHART_LINES {
        let title = |max| format!("Sessions over time, most {}", units::rate(max));
        let sessions = (&app.sight().history.sessions, title);
        let style = (Role::Sessions, paint);
        chart_over_time(buf, &mut area, CHART_LINES, sessions, style);
    }
    let states = tables::states(nat);
    let lines = u16::try_from(states.rows.len() + 1).unwrap_or(u16::MAX);
    grid(buf, take(&mut area, lines), &states, None, paint);
    take(&mut area, 1);
    let (published, _) = tables::published(nat).shown(area.width, &app.search);
    if !nat.published.is_empty() {
        grid(buf, area, &published, Some(app.cursor().row), paint);
    }
}
