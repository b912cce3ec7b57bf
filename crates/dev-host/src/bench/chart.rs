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
    let mut text = head(title, height);
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

/// A chart of bars that are made of parts, all in one scale, with what each colour stands for.
pub(super) fn stacked(title: &str, unit: &str, parts: &[&str], bars: &[(String, Vec<f64>)]) -> String {
    let whole = |it: &(String, Vec<f64>)| it.1.iter().sum::<f64>();
    let longest = bars.iter().map(whole).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let legend = parts.len().div_ceil(LEGEND_COLUMNS) as f64 * ROW;
    let height = TOP + bars.len() as f64 * THICK_ROW + legend + 24.0;
    let mut text = head(title, height);
    let mut y = TOP;
    for bar in bars {
        let (name, values) = bar;
        let _ = writeln!(
            text,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 17.0,
            escaped(name)
        );
        let mut x = LEFT;
        for ((part, value), fill) in parts.iter().zip(values).zip(FILLS.iter().cycle()) {
            let length = LONGEST * value / longest;
            let _ = writeln!(
                text,
                "<rect x=\"{x:.1}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"22\" fill=\"{fill}\"><title>{}: {} \
                 {unit}</title></rect>",
                y + 2.0,
                escaped(part),
                short(*value)
            );
            x += length;
        }
        let _ = writeln!(
            text,
            "<text x=\"{:.0}\" y=\"{:.0}\">{} {unit}</text>",
            x + 6.0,
            y + 17.0,
            short(whole(bar))
        );
        y += THICK_ROW;
    }
    y += 14.0;
    for (index, (part, fill)) in parts.iter().zip(FILLS.iter().cycle()).enumerate() {
        let x = 12.0 + (index % LEGEND_COLUMNS) as f64 * (WIDTH - 24.0) / LEGEND_COLUMNS as f64;
        let y = y + (index / LEGEND_COLUMNS) as f64 * ROW;
        let _ = writeln!(
            text,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"12\" height=\"12\" fill=\"{fill}\"/><text x=\"{:.0}\" \
             y=\"{:.0}\">{}</text>",
            x + 18.0,
            y + 11.0,
            escaped(part)
        );
    }
    text.push_str("</svg>\n");
    text
}

fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    )
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
const THICK_ROW: f64 = 32.0;
const LEGEND_COLUMNS: usize = 5;

/// Colours that differ in lightness as well, for who cannot tell them apart otherwise.
const FILLS: [&str; 9] = ["#bbb", "#9bc", "#678", "#c9a", "#e80", "#a50", "#fc6", "#06c", "#036"];

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

    #[test]
    fn parts_stand_one_after_the_other() {
        let bars = [("a".to_owned(), vec![10.0, 30.0]), ("b".to_owned(), vec![20.0, 0.0])];
        let text = stacked("title", "ms", &["x & y", "z"], &bars);
        for part in [
            "x=\"300.0\" y=\"42\" width=\"107.5\"",
            "x=\"407.5\" y=\"42\" width=\"322.5\"",
            "40.0 ms",
            "x &amp; y",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
