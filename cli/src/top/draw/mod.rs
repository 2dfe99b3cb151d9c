//! The screen, made of what is known: the same for the same state and size.

mod drops;
mod flows;
mod help;
mod latency;
mod nat;
mod paint;
mod ports;
mod trace;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::app::{App, Tab};
use super::grid::Tone;
use super::snapshot::Snapshot;
use super::tables::rate;
use crate::show::units;

pub use paint::Paint;

use paint::{take, write, write_all};

/// Draws everything into a buffer of any size.
pub fn draw(buf: &mut Buffer, app: &App, paint: Paint) {
    let mut area = buf.area;
    let sight = app.sight();
    header(buf, take(&mut area, 1), app, paint);
    tabs(buf, take(&mut area, 1), app, paint);
    let foot = Rect {
        y: area.bottom().saturating_sub(1),
        height: area.height.min(1),
        ..area
    };
    area.height = area.height.saturating_sub(1);
    footer(buf, foot, app, paint);
    take(&mut area, 1);
    match &sight.snapshot {
        _ if app.help => help::draw(buf, area, &app.keys, paint),
        None => {
            write(buf, area, "looking for the first time", paint.dim());
        }
        Some(snapshot) => {
            let scene = Scene {
                app,
                snapshot,
                paint,
            };
            match app.tab {
                Tab::Ports => ports::draw(buf, area, &scene),
                Tab::Flows => flows::draw(buf, area, &scene),
                Tab::Nat => nat::draw(buf, area, &scene),
                Tab::Latency => latency::draw(buf, area, &scene),
                Tab::Drops => drops::draw(buf, area, &scene),
                Tab::Trace => trace::draw(buf, area, &scene),
            }
        }
    }
}

/// What a tab is drawn from.
struct Scene<'a> {
    app: &'a App,
    snapshot: &'a Snapshot,
    paint: Paint,
}

/// Whose figures these are, and everything together.
fn header(buf: &mut Buffer, area: Rect, app: &App, paint: Paint) {
    let Some(snapshot) = &app.sight().snapshot else {
        write(buf, area, "vswitch", paint.tone(Tone::Strong));
        return;
    };
    let (switch, totals) = (&snapshot.switch, &snapshot.totals);
    let plain = Style::new();
    let text = format!(
        "  up {}  {} pps  {} bit/s  drops ",
        units::age(switch.uptime),
        rate(totals.frames_per_second),
        rate(totals.bits_per_second),
    );
    let loss = super::tables::loss(totals.drops_per_second);
    let sessions = match &snapshot.nat {
        Some(nat) => format!("  NAT {}", units::count(nat.sessions)),
        None => String::new(),
    };
    write_all(
        buf,
        area,
        &[
            (&switch.name, paint.tone(Tone::Strong)),
            (&text, plain),
            (&loss.text, paint.tone(loss.tone)),
            ("/s", plain),
            (&sessions, plain),
        ],
    );
    let state = match app.is_frozen() {
        true => " FROZEN".to_owned(),
        false => format!(" every {}", seconds(app.interval)),
    };
    let width = u16::try_from(state.len()).unwrap_or(0).min(area.width);
    let right = Rect {
        x: area.right() - width,
        width,
        ..area
    };
    let style = match app.is_frozen() {
        true => paint.tone(Tone::Note),
        false => paint.dim(),
    };
    write(buf, right, &state, style);
}

/// `0.5 s`, `10 s`.
fn seconds(interval: std::time::Duration) -> String {
    format!("{} s", interval.as_secs_f64())
}

fn tabs(buf: &mut Buffer, area: Rect, app: &App, paint: Paint) {
    let titles = Tab::ALL.map(|tab| {
        let (key, name) = tab.title();
        let style = match tab == app.tab {
            true => paint.marked(),
            false => Style::new(),
        };
        (format!(" {key} {name} "), style)
    });
    let titles = titles
        .each_ref()
        .map(|(text, style)| (text.as_str(), *style));
    write_all(buf, area, &titles);
}

/// What is typed, what is wrong, or which keys there are.
fn footer(buf: &mut Buffer, area: Rect, app: &App, paint: Paint) {
    if app.searching {
        let cursor = if paint.ascii { "_" } else { "█" };
        let text = format!("/{}{cursor}", app.search);
        write(buf, area, &text, Style::new());
        return;
    }
    if let Some(trouble) = &app.trouble {
        write(buf, area, trouble, paint.tone(Tone::Bad));
        return;
    }
    let mut text = String::new();
    if !app.search.is_empty() {
        text.push_str(&format!("/{}  ", app.search));
    }
    if let Some(order) = app.order() {
        let turned = if app.cursor().reversed {
            ", reversed"
        } else {
            ""
        };
        text.push_str(&format!("by {order}{turned}  "));
    }
    write_all(
        buf,
        area,
        &[(&text, Style::new()), (&app.keys.hint(), paint.dim())],
    );
}
