//! Charts of a record: bars, simple enough to be read without an explanation.

use std::fs;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::case::{Load, Protocol};
use crate::record::Record;
use crate::subject::{DIRECT, OURS};
use crate::summary::{Cell, number};

/// File and title of each chart.
pub(crate) const CHARTS: &[(&str, &str)] = &[
    ("rates-tcp.svg", "TCP: rate, in percent of a direct connection's (more is better)"),
    ("rates-udp.svg", "UDP: rate, in percent of a direct path's (more is better)"),
    ("cpu.svg", "CPU time for the same work, in percent of mmproxy's (less is better)"),
    ("latency.svg", "99th percentile of the time for one round trip or connection, in ms (less is better)"),
    ("memory.svg", "Memory for an idle session, KiB (less is better)"),
];

/// Draws all of them into `folder`.
pub(crate) fn draw_all(record: &Record, folder: &Path) -> Result<(), String> {
    for (file, title) in CHARTS {
        let groups = match *file {
            "rates-tcp.svg" => rates(record, Protocol::Tcp),
            "rates-udp.svg" => rates(record, Protocol::Udp),
            "cpu.svg" => {
                groups(record, |_| true, |cell, ours| Some(cell.cpu?.median / ours?.cpu?.median * 100.0))
            }
            "latency.svg" => groups(record, |_| true, |cell, _| cell.p99_us.map(|p99| p99.median / 1000.0)),
            _ => idle_groups(record),
        };
        let path = folder.join(file);
        let svg = draw(title, &groups).map_err(|error| format!("{}: {error}", path.display()))?;
        fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The bars of one case.
struct Group {
    title: &'static str,
    bars: Vec<(String, f64)>,
}

/// Not of mixed loads: what they show is in the latencies.
fn rates(record: &Record, protocol: Protocol) -> Vec<Group> {
    let wanted = |load: Load| load.protocol() == protocol && !matches!(load, Load::Mixed { .. });
    groups(record, wanted, |cell, _| cell.ratio.map(|ratio| ratio * 100.0))
}

fn groups(
    record: &Record,
    wanted: impl Fn(Load) -> bool,
    value: impl Fn(&Cell, Option<&Cell>) -> Option<f64>,
) -> Vec<Group> {
    let loaded = record.cases().filter(|case| !case.variant && !matches!(case.load, Load::Idle { .. }));
    let loaded = loaded.filter(|case| wanted(case.load));
    let group = |case| {
        let ours = Cell::of(record, case, OURS);
        let bar = |name: &String| Some((name.clone(), value(&Cell::of(record, case, name)?, ours.as_ref())?));
        let names = record.about.subjects.iter().map(|subject| &subject.name);
        Group { title: case.title, bars: names.filter_map(bar).collect() }
    };
    loaded.map(group).filter(|group| !group.bars.is_empty()).collect()
}

fn idle_groups(record: &Record) -> Vec<Group> {
    let idle = record.cases().filter(|case| matches!(case.load, Load::Idle { .. }));
    let group = |case| {
        let bar = |name: &String| Some((name.clone(), Cell::of(record, case, name)?.rate?.median));
        let names = record.about.subjects.iter().map(|subject| &subject.name);
        Group { title: case.title, bars: names.filter_map(bar).collect() }
    };
    idle.map(group).filter(|group| !group.bars.is_empty()).collect()
}

fn draw(title: &str, groups: &[Group]) -> Result<String, Box<dyn std::error::Error>> {
    let rows: i32 = groups.iter().map(|group| i32::try_from(group.bars.len())).sum::<Result<_, _>>()?;
    let height = TOP + i32::try_from(groups.len())? * GROUP + rows * BAR + MARGIN;
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH.try_into()?, height.try_into()?)).into_drawing_area();
        let heading = ("sans-serif", 16).into_font().color(&INK);
        area.draw_text(title, &heading, (MARGIN, MARGIN))?;
        let mut y = TOP;
        for group in groups {
            let label = ("sans-serif", 13).into_font().color(&INK);
            area.draw_text(group.title, &label, (MARGIN, y + 8))?;
            y += GROUP;
            // Each group has its own scale: what is compared stands together.
            let greatest = group.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
            for (name, value) in &group.bars {
                #[expect(clippy::cast_possible_truncation, reason = "no wider than the drawing")]
                let length = (f64::from(LONGEST) * value / greatest) as i32;
                let middle = y + BAR / 2;
                let right = Pos::new(HPos::Right, VPos::Center);
                let left = Pos::new(HPos::Left, VPos::Center);
                let text = ("sans-serif", 12).into_font().color(&INK);
                area.draw_text(name, &text.pos(right), (NAMES, middle))?;
                let bar = [(NAMES + 8, y + 2), (NAMES + 8 + length.max(1), y + BAR - 2)];
                area.draw(&Rectangle::new(bar, colour(name).filled()))?;
                let text = ("sans-serif", 12).into_font().color(&INK);
                area.draw_text(&number(*value), &text.pos(left), (NAMES + 14 + length.max(1), middle))?;
                y += BAR;
            }
        }
        area.present()?;
    }
    Ok(with_dark_mode(&svg))
}

/// The drawing has no background; where the page is dark, its ink becomes light.
fn with_dark_mode(svg: &str) -> String {
    let ink = format!("#{:02X}{:02X}{:02X}", INK.0, INK.1, INK.2);
    let style = format!(
        "<style>@media (prefers-color-scheme: dark) {{ [fill=\"{ink}\"] {{ fill: #E6EDF3; }} }}</style>"
    );
    match svg.find("<svg").and_then(|start| Some(start + svg[start..].find('>')? + 1)) {
        Some(after) => format!("{}\n{style}{}", &svg[..after], &svg[after..]),
        None => svg.to_owned(),
    }
}

/// Of middle brightness, so that they are seen on light and on dark pages.
fn colour(subject: &str) -> RGBColor {
    match subject {
        DIRECT => RGBColor(139, 148, 158),
        OURS => RGBColor(232, 89, 12),
        "go-mmproxy" => RGBColor(34, 139, 230),
        "mmproxy-rs" => RGBColor(132, 94, 247),
        "haproxy" => RGBColor(55, 155, 80),
        "nginx" => RGBColor(21, 152, 170),
        _ => RGBColor(214, 51, 108),
    }
}

const INK: RGBColor = RGBColor(31, 35, 40);
const WIDTH: i32 = 760;
const MARGIN: i32 = 12;
/// Where the first group begins.
const TOP: i32 = 40;
/// Height of a group's title.
const GROUP: i32 = 28;
const BAR: i32 = 18;
/// Right edge of the names.
const NAMES: i32 = 110;
const LONGEST: i32 = 540;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_what_it_shows_and_changes_its_ink_with_the_page() {
        let bars = vec![("direct".to_owned(), 100.0), ("mmproxy".to_owned(), 50.0)];
        let svg = draw("Title", &[Group { title: "one case", bars }]).unwrap();
        for text in ["Title", "one case", "direct", "mmproxy", "100", "50.0", "prefers-color-scheme: dark"] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        let inked = svg.matches("fill=\"#1F2328\"").count();
        assert!(inked >= 6, "the ink is written otherwise: {svg}");
    }
}
