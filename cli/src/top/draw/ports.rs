//! Ports: rates with a line of history each, the workers, and the port under the cursor over time.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Scene;
use super::paint::{chart, grid, take, write, write_all};
use crate::show::units;
use crate::top::grid::Tone;
use crate::top::snapshot::{PortRate, WayRate};
use crate::top::tables::{self, rate};
use crate::top::theme::Role;

/// Lines of the charts with their titles: at most, and the fewest that show anything.
const CHART_LINES_MAX: u16 = 10;
const CHART_LINES_MIN: u16 = 4;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, scene: &Scene<'_>) {
    let Scene {
        app,
        snapshot,
        paint,
    } = *scene;
    let ports = app.ports(&snapshot.ports);
    let (shown, indices) = tables::ports(&ports).shown(area.width, &app.search);
    let workers = tables::workers(snapshot);
    let lines = |rows: usize| u16::try_from(rows + 1).unwrap_or(u16::MAX);
    let below = lines(workers.rows.len()) + 1 + CHART_LINES_MIN;
    // The ports come first where there is no room for everything.
    let room = area.height.saturating_sub(below).max(area.height / 2);
    let top = take(&mut area, lines(shown.rows.len()).min(room));
    let row = app.cursor().row.min(shown.rows.len().saturating_sub(1));
    let placed = grid(buf, top, &shown, Some(row), paint);
    let history = Rect {
        x: placed.end,
        width: top.right().saturating_sub(placed.end),
        ..top
    };
    let mut lines_of_history = history;
    write(
        buf,
        take(&mut lines_of_history, 1),
        "HISTORY",
        paint.tone(Tone::Strong),
    );
    let seen = &app.sight().history;
    for index in indices.iter().skip(placed.first) {
        let line = take(&mut lines_of_history, 1);
        if let Some(port) = ports.get(*index).filter(|_| !line.is_empty()) {
            let samples = seen.both_ways(&port.ifname, usize::from(line.width));
            let max = samples.iter().flatten().copied().fold(0.0, f64::max);
            chart(buf, line, samples, max, (paint.fg(Role::History), paint));
        }
    }
    take(&mut area, 1);
    grid(
        buf,
        take(&mut area, lines(workers.rows.len())),
        &workers,
        None,
        paint,
    );
    take(&mut area, 1);
    let port = indices.get(row).and_then(|index| ports.get(*index));
    if let Some(port) = port.filter(|_| area.height >= CHART_LINES_MIN) {
        charts(buf, take(&mut area, CHART_LINES_MAX), scene, port);
    }
}

/// What a port received to the left, what it sent to the right.
fn charts(buf: &mut Buffer, area: Rect, scene: &Scene<'_>, port: &PortRate) {
    let Scene { app, paint, .. } = *scene;
    let Some([rx, tx]) = app.sight().history.ports.get(&port.ifname) else {
        return;
    };
    let half = area.width / 2;
    let left = Rect {
        width: half.saturating_sub(1),
        ..area
    };
    let right = Rect {
        x: area.x + half,
        width: area.width - half,
        ..area
    };
    let sides: [(_, _, _, &WayRate, _); 2] = [
        (left, "rx", rx, &port.rx, Role::Received),
        (right, "tx", tx, &port.tx, Role::Sent),
    ];
    for (mut place, word, series, way, role) in sides {
        let columns = usize::from(place.width);
        let max = series.max(columns);
        let now = rate(way.bits_per_second);
        let mut title = format!(" {word} {now} bit/s, most {}", units::rate(max));
        let sum = format!(", {} in all", units::bytes(way.bytes));
        let needed = port.ifname.len() + title.len() + sum.len();
        title.extend((needed < columns).then_some(sum));
        let texts = [
            (port.ifname.as_str(), paint.tone(Tone::Strong)),
            (&title, Style::new()),
        ];
        write_all(buf, take(&mut place, 1), &texts);
        chart(
            buf,
            place,
            series.latest(columns),
            max,
            (paint.fg(role), paint),
        );
    }
}
