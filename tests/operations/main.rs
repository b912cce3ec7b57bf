//! `docs/operations.md` has a runbook for every error, every metric, and lines as the gateway writes them, and nothing else.

mod alerts;
mod log_alerts;

mod grammars;
mod jq;

mod page;

#[path = "../errors/mod.rs"]
mod errors;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use errors::table;
use keyvault_gateway::error::Error;
use keyvault_gateway::log::{self, CallLine, Level, Line};
use keyvault_gateway::metrics::Metrics;
use keyvault_gateway::reply::Reply;
use page::{page, read, rows, runbooks, samples, section};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[test]
fn every_code_has_a_runbook_with_its_causes() {
    let mut expected: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (error, status, code) in table() {
        expected.entry((code.to_owned(), status)).or_default().insert(cause(&error));
    }
    // There is no error behind it that could be told.
    let internal = Reply::internal_error();
    expected.insert((internal.code().to_owned(), internal.status().as_u16()), BTreeSet::new());

    let runbooks: BTreeMap<_, _> = runbooks()
        .into_iter()
        .map(|(code, status, rows)| ((code, status), rows.into_iter().map(|it| it[0].clone()).collect()))
        .collect();
    assert_eq!(runbooks, expected);
}

#[test]
fn every_cause_has_a_reason_and_a_first_step() {
    for (code, _, rows) in runbooks() {
        for row in rows {
            assert!(row.len() == 3 && row[1..].iter().all(|it| it.ends_with('.')), "{code}: {row:?}");
        }
    }
}

#[test]
fn every_metric_is_on_the_page_with_its_kind_and_its_labels() {
    let mut expected: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let text = all_metrics();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            expected.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, labels)) = line.split_once('{') {
            let family = expected.keys().find(|it| is_series_of(name, it)).unwrap().clone();
            let labels = labels.split('}').next().unwrap().split(',').map(|it| it.split('=').next().unwrap());
            // Every histogram has it.
            expected.get_mut(&family).unwrap().1.extend(labels.filter(|it| *it != "le").map(str::to_owned));
        }
    }
    let page = page();
    let rows = rows(section(&page, "## Metrics"));
    let on_the_page = rows.into_iter().filter(|it| it[0].starts_with("keyvault_gateway_"));
    let on_the_page: BTreeMap<_, _> = on_the_page
        .map(|row| {
            let labels = row[2].split(", ").filter(|it| *it != "–").map(str::to_owned);
            (row[0].clone(), (row[1].clone(), labels.collect()))
        })
        .collect();
    assert_eq!(on_the_page, expected);
}

#[test]
fn every_value_of_a_label_is_on_the_page() {
    let page = page();
    let metrics = section(&page, "## Metrics");
    for line in all_metrics().lines().filter(|it| it.contains('{')) {
        for label in ["found=\"", "upstream=\""] {
            let Some((_, value)) = line.split_once(label) else { continue };
            let value = value.split('"').next().unwrap();
            assert!(metrics.contains(&format!("`{value}`")), "{line}");
        }
    }
}

#[test]
fn the_lines_on_the_page_are_as_the_gateway_writes_them() {
    let samples = samples();
    assert!(samples.len() > 5);
    for sample in samples {
        let fields: Value = serde_json::from_str(&sample).unwrap();
        let text = |name: &str| fields[name].as_str();
        let time = OffsetDateTime::parse(text("time").unwrap(), &Rfc3339).unwrap().unix_timestamp();
        let time = u64::try_from(time).unwrap();
        let level = match text("level").unwrap() {
            "error" => Level::Error,
            "info" => Level::Info,
            "debug" => Level::Debug,
            other => panic!("{other}"),
        };
        let request = text("request").unwrap();
        let status = fields["status"].as_u64().map(|it| u16::try_from(it).unwrap());
        let duration = Duration::from_secs_f64(fields["ms"].as_f64().unwrap() / 1000.0);
        let rendered = if let Some(call) = text("call") {
            log::render(&CallLine { time, level, request, call, status, duration })
        } else {
            let (code, status) = (text("code").unwrap(), status.unwrap());
            let cause = text("cause").map(|cause| {
                let of_table = table().into_iter().find(|it| it.0.to_string() == cause);
                let (error, its_status, its_code) = of_table.unwrap();
                assert_eq!((its_status, its_code), (status, code), "{sample}");
                error
            });
            assert_eq!(level == Level::Error, status >= 500, "{sample}");
            let unused = fields.get("unused").and_then(Value::as_array).cloned().unwrap_or_default();
            let unused: Vec<_> = unused.iter().map(|it| it.as_str().unwrap()).collect();
            log::render(&Line {
                time,
                level,
                request,
                caller: text("caller"),
                secret: text("secret"),
                status,
                code,
                cause: cause.as_ref(),
                unused: &unused,
                cache: text("cache"),
                upstream: fields["upstream"].as_u64().unwrap().try_into().unwrap(),
                duration,
            })
        };
        assert_eq!(rendered, sample);
    }
}

#[test]
fn every_field_of_a_line_is_on_the_page_and_in_a_sample() {
    let page = page();
    let described: BTreeSet<_> =
        rows(section(&page, "## The log")).into_iter().map(|it| it[0].clone()).collect();
    let shown: BTreeSet<_> = samples()
        .iter()
        .flat_map(|it| serde_json::from_str::<serde_json::Map<String, Value>>(it).unwrap())
        .map(|it| it.0)
        .collect();
    assert_eq!(described, shown);
    let error = Error::NoRoute;
    let line = log::render(&Line {
        time: 0,
        level: Level::Info,
        request: "",
        caller: Some(""),
        secret: Some(""),
        status: 200,
        code: "",
        cause: Some(&error),
        unused: &[""],
        cache: Some(""),
        upstream: 0,
        duration: Duration::ZERO,
    });
    let call = log::render(&CallLine {
        time: 0,
        level: Level::Debug,
        request: "",
        call: "",
        status: Some(200),
        duration: Duration::ZERO,
    });
    let written: BTreeSet<_> = [line, call]
        .iter()
        .flat_map(|it| serde_json::from_str::<serde_json::Map<String, Value>>(it).unwrap())
        .map(|it| it.0)
        .collect();
    assert_eq!(described, written);
}

#[test]
fn the_command_on_the_page_counts_what_it_says() {
    let page = page();
    let (_, command) = page.split_once("$ jq -Rrn '").unwrap();
    let (program, rest) = command.split_once("' gateway.log\n").unwrap();
    let (counts, _) = rest.split_once("```").unwrap();
    // A host may write something in front of each line, and lines of its own.
    let log: String =
        samples().iter().map(|it| format!("stderr [0] :: {it}\na line of the host's\n")).collect();
    let said = jq::run(program, 0, &log);
    let words = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|it| it.split_whitespace().map(str::to_owned).collect()).collect()
    };
    assert_eq!(words(&said.replace('\t', " ")), words(counts));
}

#[test]
fn links_lead_to_a_heading() {
    let page = page();
    let mut links = 0;
    for link in page.split("](").skip(1).map(|it| it.split(')').next().unwrap()) {
        if link.starts_with("https://") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let text = if file.is_empty() { page.clone() } else { read(&format!("docs/{file}")) };
        let headings = text.lines().filter(|it| it.starts_with('#')).map(anchor);
        assert!(heading.is_empty() || headings.into_iter().any(|it| it == heading), "{link}");
        links += 1;
    }
    assert!(links > 5);
}

/// What the log says of `error`, as it is on the page: `…` stands for what differs.
fn cause(error: &Error) -> String {
    match error {
        Error::Setting(_) => "the setting …".to_owned(),
        _ => match error.to_string().split_once(" (") {
            Some((cause, _)) => format!("{cause} (…)"),
            None => error.to_string(),
        },
    }
}

/// The metrics of an instance that has a token.
fn all_metrics() -> String {
    let metrics = Metrics::new();
    metrics.replied(&Reply::state("ok"), None, Duration::ZERO);
    metrics.render((0, 0), Some((Duration::ZERO, Duration::ZERO)))
}

/// Whether `name` is the name of a series of `family`.
fn is_series_of(name: &str, family: &str) -> bool {
    let rest = name.strip_prefix(family);
    rest.is_some_and(|it| ["", "_bucket", "_sum", "_count"].contains(&it))
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|it| it.is_alphanumeric() || matches!(it, '-' | '_')).collect()
}
