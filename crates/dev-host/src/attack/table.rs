//! What was measured, for people and for programs.

use super::Row;
use super::others::Reads;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// A table in Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(HEADING);
    for row in rows {
        let Row { name, answers, before, during, took, .. } = row;
        let counts: Vec<_> =
            answers.counts.iter().map(|(answer, count)| format!("{count} × {answer}")).collect();
        let sent = match answers.sent {
            0 => String::new(),
            sent => format!("; at most {:.1} MiB were taken", sent as f64 / f64::from(1 << 20)),
        };
        let memory = row.memory.map_or_else(
            || "not measured here".to_owned(),
            |it| it.map(|bytes| (bytes >> 20).to_string()).join(" → "),
        );
        let [median, p99] = [0.5, 0.99].map(|part| {
            let [before, during] = [before, during].map(|it| milliseconds(it.quantile(part)));
            format!("{before} → {during}")
        });
        let (good, all) = (during.times.len(), during.times.len() + during.failed.len());
        let (longest, took) = (milliseconds(Some(answers.longest)), took.as_secs());
        let _ = writeln!(
            text,
            "| {name} | {}{sent} | {longest} | {good} of {all} | {median} | {p99} | {memory} | {took} |",
            counts.join(", "),
        );
    }
    text
}

/// The same as JSON.
pub(super) fn json(rows: &[Row]) -> String {
    let reads = |it: &Reads| {
        let [median, p99] = [0.5, 0.99].map(|part| it.quantile(part).map(|it| it.as_secs_f64() * 1e3));
        json!({ "good": it.times.len(), "failed": it.failed.len(), "median_ms": median, "p99_ms": p99 })
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "attack": row.name,
                "answers": row.answers.counts,
                "bytes_taken": row.answers.sent,
                "longest_answer_ms": row.answers.longest.as_secs_f64() * 1e3,
                "reads": {
                    "before": reads(&row.before),
                    "during": reads(&row.during),
                    "after": reads(&row.after),
                },
                "memory_bytes": row.memory.map(|it| json!({ "before": it[0], "peak": it[1], "after": it[2] })),
                "seconds": row.took.as_secs_f64(),
                "problems": row.problems(),
            })
        })
        .collect();
    json!(rows).to_string()
}

fn milliseconds(time: Option<Duration>) -> String {
    match time.map(|it| it.as_secs_f64() * 1e3) {
        None => "–".to_owned(),
        Some(time) if time < 10.0 => format!("{time:.1}"),
        Some(time) => format!("{time:.0}"),
    }
}

const HEADING: &str = "\
| attack | how it was answered | longest answer, ms | good reads by others | their median, ms | their p99, ms \
| memory, MiB | s |
|---|---|---|---|---|---|---|---|
";
