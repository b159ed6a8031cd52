//! How `mmproxy top` is drawn.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::model::{Count, Model, RefusalLine, ServiceLine, SessionLine, Sort};
use crate::units::{size, time};

/// Draws everything anew; the terminal is told only what has changed.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let (services, refusals) = (model.services(), model.refusals());
    let workers = &model.status().workers;
    let head = 1 + u16::from(!model.status().counted.return_path.is_empty());
    let middle = rows(refusals.len().max(workers.len()).min(MOST_REASONS));
    let [top, of_services, between, of_sessions, foot] = Layout::vertical([
        Constraint::Length(head),
        Constraint::Length(rows(services.len())),
        Constraint::Length(middle),
        Constraint::Min(rows(3)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)])
        .spacing(2)
        .areas(between);
    frame.render_widget(Paragraph::new(header(model)), top);
    frame.render_widget(service_table(&services), of_services);
    frame.render_widget(refusal_table(&refusals), left);
    frame.render_widget(worker_table(model), right);
    session_table(frame, model, of_sessions);
    frame.render_widget(footer(model), foot);
}

/// Lines of a table with so many rows: its title, its header, and an empty line.
fn rows(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX).saturating_add(3)
}

fn header(model: &Model) -> Vec<Line<'static>> {
    let status = model.status();
    let reloads = status.counted.reloads.iter().filter(|(_, times)| **times > 0);
    let reloads: Vec<String> = reloads.map(|(outcome, times)| format!("{times} {outcome}")).collect();
    let mut first = vec![
        Span::from(format!("mmproxy {}", status.version)).bold(),
        Span::from(format!("  process {}  up {}", status.pid, time(status.uptime_s))),
    ];
    if !reloads.is_empty() {
        first.push(Span::from(format!("  reloads: {}", reloads.join(", "))));
    }
    if status.counted.worker_restarts > 0 {
        let ended = format!("  workers that ended by themselves: {}", status.counted.worker_restarts);
        first.push(Span::styled(ended, BAD));
    }
    let mut lines = vec![Line::from(first)];
    if !status.counted.return_path.is_empty() {
        let mut places = vec![Span::from("return path:")];
        for (place, intact) in &status.counted.return_path {
            let (word, style) = if *intact { ("intact", GOOD) } else { ("BROKEN", BAD) };
            places.push(Span::from(format!("  {place} ")));
            places.push(Span::styled(word, style));
        }
        lines.push(Line::from(places));
    }
    lines
}

fn service_table(services: &[ServiceLine<'_>]) -> Table<'static> {
    let rows = services.iter().map(|line| {
        let targets = line.targets.iter().flat_map(|(target, up)| match up {
            Some(true) => [Span::from(format!("{target} ")), Span::styled("up ", GOOD)],
            Some(false) => [Span::from(format!("{target} ")), Span::styled("DOWN ", BAD)],
            None => [Span::from(format!("{target} ")), Span::default()],
        });
        let refused = if line.refused.rate.is_some_and(|rate| rate > 0.0) { BAD } else { Style::new() };
        Row::new([
            Cell::from(line.service.name.clone()).bold(),
            Cell::from(format!("{} {}", line.service.protocol, line.service.listen.join(" "))),
            Cell::from(Line::from(targets.collect::<Vec<_>>())),
            number(line.live.to_string()),
            number(line.opened.total.to_string()),
            number(per_second(line.opened.rate)),
            number(line.refused.total.to_string()).style(refused),
            number(per_second(line.refused.rate)).style(refused),
            number(speed(line.up.rate)),
            number(speed(line.down.rate)),
        ])
    });
    let widths = [
        Constraint::Min(8),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(12),
        Constraint::Length(12),
    ];
    table(
        "Services",
        rows,
        &widths,
        &["SERVICE", "LISTENS ON", "TARGETS", "LIVE", "OPENED", "/s", "REFUSED", "/s", "UP", "DOWN"],
        3,
    )
}

fn refusal_table(refusals: &[RefusalLine<'_>]) -> Table<'static> {
    let rows = refusals.iter().map(|line| {
        let Count { total, rate } = line.times;
        let style = if rate.is_some_and(|rate| rate > 0.0) { BAD } else { Style::new() };
        Row::new([
            Cell::from(line.reason.to_owned()),
            Cell::from(line.service.to_owned()),
            number(total.to_string()),
            number(per_second(rate)),
        ])
        .style(style)
    });
    let widths = [Constraint::Length(22), Constraint::Fill(1), Constraint::Length(9), Constraint::Length(7)];
    table("Refused", rows, &widths, &["BECAUSE", "SERVICE", "TIMES", "/s"], 2)
}

fn worker_table(model: &Model) -> Table<'static> {
    let rows = model.status().workers.iter().map(|worker| {
        Row::new([
            Cell::from(worker.worker.to_string()),
            Cell::from(worker.state.clone()),
            number(worker.pid.to_string()),
        ])
    });
    table(
        "Workers",
        rows,
        &[Constraint::Length(8), Constraint::Fill(1), Constraint::Length(10)],
        &["WORKER", "STATE", "PROCESS"],
        2,
    )
}

fn session_table(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let sessions = model.sessions();
    let listed = sessions.len();
    let title = format!("Sessions: {} live", model.live());
    let title = if listed as u64 == model.live() { title } else { format!("{title}, {listed} from here on") };
    let (sort, inverted) = model.order();
    let name = |name: &str, of: Sort| {
        let marked = if of != sort {
            name.to_owned()
        } else if inverted {
            format!("^{name}")
        } else {
            format!("v{name}")
        };
        (marked, of == sort)
    };
    let names = [
        ("SESSION".to_owned(), false),
        ("SERVICE".to_owned(), false),
        ("CLIENT".to_owned(), false),
        ("BALANCER".to_owned(), false),
        ("TARGET".to_owned(), false),
        ("STATE".to_owned(), false),
        name("AGE", Sort::Age),
        name("BYTES", Sort::Bytes),
        name("SPEED", Sort::Speed),
        name("RTT", Sort::Rtt),
        ("RETR".to_owned(), false),
    ];
    let header = names.into_iter().enumerate().map(|(place, (name, chosen))| {
        let cell = if place < 6 { Cell::from(name) } else { number(name) };
        if chosen { cell.style(Style::new().add_modifier(Modifier::REVERSED)) } else { cell }
    });
    let widths = [
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(11),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(5),
    ];
    // No more than fit: the rest would be laid out in vain.
    let shown = sessions.iter().take(area.height.into()).map(session_row);
    let table = Table::new(shown, widths).header(Row::new(header).bold()).block(titled(title));
    frame.render_widget(table, area);
}

fn session_row(line: &SessionLine<'_>) -> Row<'static> {
    let row = &line.session.row;
    let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let tcp = row.peer_tcp.as_ref();
    Row::new([
        Cell::from(line.session.session.to_string()),
        Cell::from(row.service.clone()),
        Cell::from(or_nothing(&row.client)),
        Cell::from(row.peer.clone()),
        Cell::from(or_nothing(&row.target)),
        Cell::from(row.state.clone()),
        number(time(row.age_ms / 1000)),
        number(size(row.bytes_up.saturating_add(row.bytes_down))),
        number(speed(line.speed)),
        number(tcp.map_or_else(|| "-".to_owned(), |tcp| format!("{:.1} ms", tcp.rtt_ms))),
        number(tcp.map_or_else(|| "-".to_owned(), |tcp| tcp.retransmits.to_string())),
    ])
}

fn footer(model: &Model) -> Paragraph<'static> {
    match model.complaint() {
        Some(complaint) => Paragraph::new(format!("no answer, trying again: {complaint}")).style(BAD),
        None => Paragraph::new(
            "q quit   sort: a age  b bytes  s speed  r rtt  i invert, or left and right   up, down, page up, page down",
        )
        .style(Style::new().add_modifier(Modifier::DIM)),
    }
}

/// A table whose columns from `numbers` on are numbers.
fn table<'a>(
    title: &'static str,
    rows: impl Iterator<Item = Row<'a>>,
    widths: &[Constraint],
    names: &[&'static str],
    numbers: usize,
) -> Table<'a> {
    let names = names
        .iter()
        .enumerate()
        .map(|(place, name)| if place < numbers { Cell::from(*name) } else { number((*name).to_owned()) });
    Table::new(rows, widths.iter().copied()).header(Row::new(names).bold()).block(titled(title.to_owned()))
}

fn titled(title: String) -> Block<'static> {
    Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().add_modifier(Modifier::DIM))
        .title(Span::styled(format!(" {title} "), Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)))
}

fn number(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).alignment(Alignment::Right))
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 99.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn speed(rate: Option<f64>) -> String {
    // Bytes are whole; a float that is none would be a bug, and nought.
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", size(rate as u64)))
}

/// Reasons that are shown: those of now come first.
const MOST_REASONS: usize = 8;

const GOOD: Style = Style::new().fg(Color::Green);

const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

#[cfg(test)]
mod tests {
    use super::super::model::tests::look;
    use super::super::model::{Key, Wanted};
    use super::*;
    use crate::exit::{Exit, Failure};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Instant;

    fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    /// With one blank where there are several.
    #[track_caller]
    fn has(lines: &[String], wanted: &str) {
        let squeezed = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            lines.iter().any(|line| squeezed(line).contains(wanted)),
            "{wanted:?} in\n{}",
            lines.join("\n")
        );
    }

    #[test]
    fn everything_is_on_the_screen() {
        let start = Instant::now();
        let mut model = Model::new(look(start, 0, 10, 2, 1024));
        model.note(Ok(look(start, 2, 15, 6, 5 * 1024)));
        let lines = drawn(&model, 160, 30);
        for wanted in [
            "mmproxy 0.1.0 process 7 up 2 s",
            "return path: docker:web BROKEN host intact",
            "ssh tcp 0.0.0.0:2222 127.0.0.1:22 up 9 15 2.5 6 2.0 2.0 KiB/s 10.0 KiB/s",
            "header_missing ssh 6 2.0",
            "1 serving 8",
            "Sessions: 9 live, 3 from here on",
            "AGE vBYTES SPEED RTT RETR",
            "1.2 ssh 192.0.2.2:4711 10.0.0.2:40112 127.0.0.1:22 relay 1 min 20 s 10.0 KiB 4.0 KiB/s 10.0 ms 0",
            "q quit",
        ] {
            has(&lines, wanted);
        }
    }

    #[test]
    fn the_chosen_column_is_marked_and_a_failure_stands_at_the_foot() {
        let mut model = Model::new(look(Instant::now(), 0, 10, 2, 1024));
        for (key, marked) in [(Key::SortBy(Sort::Rtt), "vRTT"), (Key::Invert, "^RTT"), (Key::Left, "^SPEED")]
        {
            assert_eq!(model.press(key), Wanted::More);
            has(&drawn(&model, 160, 30), marked);
        }
        model.note(Err(Failure::new(Exit::Unavailable, "no mmproxy answers at /run/x")));
        has(&drawn(&model, 160, 30), "no answer, trying again: no mmproxy answers at /run/x");
    }

    #[test]
    fn no_terminal_is_too_small() {
        let model = Model::new(look(Instant::now(), 0, 10, 2, 1024));
        for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24), (400, 100)] {
            drawn(&model, width, height);
        }
    }
}
