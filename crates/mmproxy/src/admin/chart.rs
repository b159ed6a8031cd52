//! A small line chart as inline SVG.

use std::fmt::Write;

use maud::{Markup, html};

use super::history::KEPT;

/// One line, newest value at the right edge; what it shows is said to those who cannot see it.
pub(super) fn chart(label: &str, values: &[f64], show: impl Fn(f64) -> String) -> Markup {
    let now = values.last().copied().unwrap_or(0.0);
    let most = values.iter().copied().fold(0.0, f64::max);
    let line = points(values, most);
    let said = format!("{label}: {} now, at most {}", show(now), show(most));
    html! {
        figure {
            figcaption { span { (label) } b { (show(now)) } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(said) {
                @if !line.is_empty() {
                    polygon class="area" points=(format!("{line} {WIDTH},{HEIGHT} {},{HEIGHT}", left(values.len()))) {}
                    polyline class="line" points=(line) {}
                }
            }
            small { "peak " (show(most)) }
        }
    }
}

/// Corners of the line; a value of `most` touches the upper edge.
fn points(values: &[f64], most: f64) -> String {
    let mut line = String::new();
    for (index, value) in values.iter().enumerate() {
        let x = left(values.len() - index);
        let y = if most > 0.0 { HEIGHT - value / most * (HEIGHT - 2.0) - 1.0 } else { HEIGHT - 1.0 };
        let space = if line.is_empty() { "" } else { " " };
        // A String takes everything.
        write!(line, "{space}{x:.1},{y:.1}").ok();
    }
    line
}

/// Where the value that is `from_end` from the right edge stands.
fn left(from_end: usize) -> f64 {
    WIDTH - (from_end.saturating_sub(1)) as f64 * WIDTH / (KEPT - 1) as f64
}

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_at_the_right_edge_and_the_largest_at_the_top() {
        assert_eq!(points(&[0.0, 5.0], 5.0), "238.0,47.0 240.0,1.0");
        assert_eq!(points(&[0.0], 0.0), "240.0,47.0");
        assert_eq!(points(&[], 0.0), "");
        let full = points(&[1.0; KEPT], 1.0);
        assert!(full.starts_with("0.0,1.0 "), "{full}");
    }
}
