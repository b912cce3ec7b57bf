//! Draws what was measured as SVG: bars, lengths from zero, so that what is twice as long is twice as much.

use std::fmt::Write as _;

/// A group of bars with a title of its own.
pub(super) struct Group {
    pub(super) title: String,
    /// What each bar stands for, how long it is, and its colour.
    pub(super) bars: Vec<(String, f64, Colour)>,
}

/// Whose bar it is.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    Gateway,
    Floor,
    Native,
}

/// A chart of groups that share one scale.
pub(super) fn svg(title: &str, unit: &str, groups: &[Group]) -> String {
    let longest =
        groups.iter().flat_map(|it| &it.bars).map(|it| it.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let rows: usize = groups.iter().map(|it| it.bars.len()).sum();
    let height = TOP + rows as f64 * ROW + groups.len() as f64 * HEADING + 10.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    let mut y = TOP;
    for group in groups {
        let _ = writeln!(
            text,
            "<text x=\"12\" y=\"{:.0}\" font-weight=\"bold\">{}</text>",
            y + 16.0,
            escaped(&group.title)
        );
        y += HEADING;
        for (name, value, colour) in &group.bars {
            let length = (LONGEST * value / longest).max(1.0);
            let fill = match colour {
                Colour::Gateway => "#06c",
                Colour::Floor => "#9bc",
                Colour::Native => "#a50",
            };
            let _ = writeln!(
                text,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT}\" y=\"{:.0}\" \
                 width=\"{length:.1}\" height=\"14\" fill=\"{fill}\"/><text x=\"{:.0}\" y=\"{:.0}\">{} {unit}</text>",
                LEFT - 8.0,
                y + 13.0,
                escaped(name),
                y + 2.0,
                LEFT + length + 6.0,
                y + 13.0,
                short(*value),
            );
            y += ROW;
        }
    }
    text.push_str("</svg>\n");
    text
}

/// A number with as many digits as say something.
pub(super) fn short(value: f64) -> String {
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let rounded = format!("{value:.digits$}");
    let whole = rounded.split('.').next().unwrap_or_default().len();
    let mut grouped = String::new();
    for (index, digit) in rounded.chars().enumerate() {
        if index > 0 && index < whole && (whole - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 300.0;
const LONGEST: f64 = 430.0;
const TOP: f64 = 40.0;
const ROW: f64 = 19.0;
const HEADING: f64 = 26.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.456, "0.46"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (12_345.6, "12,346"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(short(value), text, "{value}");
        }
    }

    #[test]
    fn what_is_twice_as_much_is_twice_as_long() {
        let bars = vec![("a & b".to_owned(), 10.0, Colour::Gateway), ("c".to_owned(), 5.0, Colour::Floor)];
        let text = svg("title", "ms", &[Group { title: "group".to_owned(), bars }]);
        assert!(text.contains("width=\"430.0\"") && text.contains("width=\"215.0\""), "{text}");
        assert!(text.contains("a &amp; b") && text.contains("10.0 ms") && text.contains("5.00 ms"), "{text}");
    }
}
