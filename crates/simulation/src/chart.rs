//! Draws the calls of fleets as SVG: both axes logarithmic, one line for each TTL, and Key Vault's limit.

use std::fmt::Write as _;

use crate::scale::{Calls, Case};

/// A chart of the vault calls in ten seconds over the number of instances. `simulated` has what the simulation counted for
/// so many instances and this TTL.
pub fn svg(ttls: &[u64], simulated: &[(u64, u64, Calls)]) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Vault calls in 10 seconds, {SECRETS} secrets, busy instances that live \
         on (WASI 0.3)</text>\n"
    );
    for power in 0..=5 {
        let at = x(10_f64.powi(power));
        let label = 10_u64.pow(power as u32);
        let _ = writeln!(text, "<path d=\"M{at:.0} {TOP}V{BOTTOM}\" stroke=\"#eee\"/>");
        let _ = writeln!(
            text,
            "<text x=\"{at:.0}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            BOTTOM + 20.0
        );
    }
    for power in -2..=5 {
        let at = y(10_f64.powi(power));
        let _ = writeln!(text, "<path d=\"M{LEFT} {at:.0}H{RIGHT}\" stroke=\"#eee\"/>");
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            10_f64.powi(power)
        );
    }
    let limit = y(LIMIT);
    let _ =
        writeln!(text, "<path d=\"M{LEFT} {limit:.0}H{RIGHT}\" stroke=\"#c00\" stroke-dasharray=\"6 4\"/>");
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{:.0}\" fill=\"#c00\">Key Vault's limit: 4,000</text>",
        LEFT + 8.0,
        limit - 6.0
    );
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">instances</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 42.0
    );
    for (index, ttl) in ttls.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let calls = 10.0 * busy(*ttl).model().vault;
        let (from, to) = (y(calls), y(calls * MOST));
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {from:.1}L{RIGHT} {to:.1}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>"
        );
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{:.0}\" fill=\"{colour}\">TTL {ttl} s</text>",
            RIGHT + 6.0,
            to + 4.0
        );
        for (instances, _, counted) in simulated.iter().filter(|it| it.1 == *ttl) {
            let (at, height) = (x(*instances as f64), y(counted.vault * 10.0 * *instances as f64));
            let _ = writeln!(text, "<circle cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
    }
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#555\">Lines: the model. Dots: counted in the simulation of the real \
         core.</text>\n</svg>",
        HEIGHT - 10.0
    );
    text
}

/// The instances of the chart.
pub const fn busy(ttl: u64) -> Case {
    Case { rate: 10.0, secrets: SECRETS, ttl, reuse: None, ahead: true }
}

fn x(instances: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * instances.log10() / MOST.log10()
}

fn y(calls: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * (calls.max(0.01).log10() + 2.0) / 7.0
}

const SECRETS: usize = 20;
const MOST: f64 = 100_000.0;
const LIMIT: f64 = 4000.0;
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 430.0;
const COLOURS: [&str; 4] = ["#06c", "#093", "#a50", "#639"];
