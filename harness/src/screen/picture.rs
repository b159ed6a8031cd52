//! A screen as SVG, for documents.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

/// The screen: one `text` for each run of cells that look the same.
pub(super) fn svg(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (width, height) =
        (u32::from(columns.get()) * WIDTH + 2 * MARGIN, u32::from(rows.get()) * HEIGHT + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n"
    );
    for row in 0..rows.get() {
        let cells: Vec<Option<&Cell>> = (0..columns.get()).map(|column| screen.cell(row, column)).collect();
        let mut column = 0;
        for run in cells.chunk_by(|one, other| look(*one) == look(*other)) {
            let text: String = run.iter().map(|cell| shown(*cell)).collect();
            let x = MARGIN + WIDTH * column;
            let y = MARGIN + HEIGHT * u32::from(row);
            column += u32::try_from(run.len()).unwrap_or_default();
            let length = WIDTH * u32::try_from(run.len()).unwrap_or_default();
            let Look { colour, bold, inverse } = look(run[0]);
            if inverse {
                writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{length}\" height=\"{HEIGHT}\" fill=\"{colour}\"/>"
                )
                .ok();
            }
            if text.trim().is_empty() {
                continue;
            }
            let fill = if inverse { BACKGROUND } else { colour };
            let weight = if bold { " font-weight=\"bold\"" } else { "" };
            // Whatever font there is: each run is as long as its cells.
            writeln!(
                svg,
                "<text x=\"{x}\" y=\"{}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{weight} \
                 xml:space=\"preserve\">{}</text>",
                y + BASELINE,
                escaped(&text)
            )
            .ok();
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// What makes runs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    colour: &'static str,
    bold: bool,
    inverse: bool,
}

fn look(cell: Option<&Cell>) -> Look {
    let Some(cell) = cell else { return Look { colour: TEXT, bold: false, inverse: false } };
    let colour = match cell.fgcolor() {
        Color::Idx(1 | 9) => "#ff6b68",
        Color::Idx(2 | 10) => "#7ec67e",
        Color::Idx(6 | 14) => "#6cc7d8",
        Color::Default | Color::Idx(_) | Color::Rgb(..) if cell.dim() => "#8a8f98",
        Color::Default | Color::Idx(_) | Color::Rgb(..) => TEXT,
    };
    Look { colour, bold: cell.bold(), inverse: cell.inverse() }
}

fn shown(cell: Option<&Cell>) -> &str {
    cell.map(Cell::contents).filter(|contents| !contents.is_empty()).unwrap_or(" ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Pixels of a cell.
const WIDTH: u32 = 8;
const HEIGHT: u32 = 18;

/// From a cell's upper edge.
const BASELINE: u32 = 13;

const MARGIN: u32 = 12;

const BACKGROUND: &str = "#1b1e24";

const TEXT: &str = "#d7dae0";
