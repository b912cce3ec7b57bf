//! The pages on errors, metrics and the log, and `deploy/alerts`, agree with the gateway.

mod errors;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use errors::table;
use keyvault_gateway::error::Error;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::telemetry::log::{self, CallLine, Codes, ItemLine, Level, Line};
use keyvault_gateway::telemetry::metrics::Metrics;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[test]
fn every_code_has_a_runbook_with_its_causes() {
    let mut expected: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (error, status, code) in table() {
        expected.entry(format!("{status} `{code}`")).or_default().insert(cause(&error));
    }
    expected.insert("500 `InternalError`".to_owned(), BTreeSet::new());
    let page = read("docs/reference/errors.md");
    let mut runbooks = BTreeMap::new();
    for runbook in page.split("\n## ").skip(1) {
        let (heading, text) = runbook.split_once('\n').unwrap();
        let whole = |row: &Vec<String>| row.len() == 3 && row[1..].iter().all(|cell| cell.ends_with('.'));
        assert!(rows(text).iter().all(whole), "{heading}");
        runbooks.insert(heading.to_owned(), rows(text).into_iter().map(|row| row[0].clone()).collect());
    }
    assert_eq!(runbooks, expected);
}

#[test]
fn metrics_page_lists_every_metric_and_label() {
    let page = read("docs/reference/metrics.md");
    let described = section(&page, "## List");
    let on_the_page: BTreeMap<_, _> = rows(described)
        .into_iter()
        .map(|row| {
            let labels = row[2].split(", ").filter(|label| *label != "–").map(str::to_owned);
            (row[0].clone(), (row[1].clone(), labels.collect::<BTreeSet<_>>()))
        })
        .collect();
    assert_eq!(on_the_page, metrics());
    for (label, value) in metric_text().lines().flat_map(labels) {
        let unbounded = ["le", "status", "code"].contains(&label.as_str());
        assert!(unbounded || described.contains(&format!("`{value}`")), "{label}={value}");
    }
}

#[test]
fn sample_log_lines_match_the_format() {
    let page = read("docs/reference/log.md");
    let samples: Vec<_> = page.lines().filter(|line| line.starts_with('{')).collect();
    let mut shown = BTreeSet::new();
    for sample in &samples {
        let fields: Map<String, Value> = serde_json::from_str(sample).unwrap();
        assert_eq!(&rendered(&fields), sample);
        shown.extend(fields.into_iter().map(|(name, _)| name));
    }
    assert!(samples.len() > 5);
    assert_eq!(
        rows(section(&page, "## Fields")).into_iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(),
        shown
    );
}

#[test]
fn alerts_use_existing_metrics_labels_and_codes() {
    let page = read("docs/how-to/monitor/README.md");
    let reasons: BTreeSet<_> =
        rows(section(&page, "## Why these thresholds")).into_iter().map(|row| row[0].clone()).collect();
    let codes: BTreeSet<_> = table().into_iter().map(|(_, _, code)| code).chain(["InternalError"]).collect();
    let series: BTreeSet<_> = metric_text().lines().flat_map(labels).collect();
    let mut named = BTreeSet::new();
    for file in ["prometheus.yaml", "loki.yaml", "alerts.bicep", "alerts.jq"] {
        let text = read(&format!("deploy/alerts/{file}"));
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            if word.starts_with("KeyVaultGateway") {
                named.insert(word.to_owned());
            }
            if word.starts_with("keyvault_gateway_") {
                assert!(metrics().keys().any(|family| is_series_of(word, family)), "{file}: {word}");
            }
        }
        // Codes and label values are quoted. A regular expression has several in one pair of quotes.
        for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', '/'])) {
            let quoted = line.split('"').skip(1).step_by(2).flat_map(|text| text.split('|'));
            for word in
                quoted.filter(|word| word.starts_with(char::is_uppercase) && !word.contains("Gateway"))
            {
                assert!(codes.contains(word), "{file}: there is no code {word}");
            }
        }
        for (label, value) in text.lines().flat_map(labels).filter(|_| file == "prometheus.yaml") {
            let plain = value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            let exists = series.iter().any(|(name, of)| *name == label && (*of == value || !plain));
            assert!(exists || label == "job", "{file}: {label}={value}");
        }
    }
    assert_eq!(named, reasons);
}

/// The log line of the gateway with these fields.
fn rendered(fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let time = OffsetDateTime::parse(text("time").unwrap(), &Rfc3339).unwrap();
    let time = time.unix_timestamp().try_into().unwrap();
    let level = match text("level").unwrap() {
        "error" => Level::Error,
        "info" => Level::Info,
        "debug" => Level::Debug,
        other => panic!("{other}"),
    };
    let request = text("request").unwrap();
    let status = fields.get("status").and_then(Value::as_u64).map(|status| u16::try_from(status).unwrap());
    let duration = Duration::from_secs_f64(fields["ms"].as_f64().unwrap() / 1000.0);
    if let Some(call) = text("call") {
        return log::render(&CallLine { time, level, request, call, status }, duration);
    }
    if let Some(item) = text("item") {
        let cause = text("cause").map(|cause| table().into_iter().find(|row| row.0.to_string() == cause));
        let cause = cause.map(|row| row.unwrap().0);
        let (secret, cause, cache) = (text("secret"), cause.as_ref(), text("cache"));
        return log::render(&ItemLine { time, level, request, secret, item, cause, cache }, duration);
    }
    let (status, code) = (status.unwrap(), text("code").unwrap());
    // Of several secrets, each has a code, and one of them the cause.
    let known = |name: &str| table().into_iter().map(|row| row.2).find(|code| *code == name).unwrap_or("OK");
    let counts = fields.get("codes").and_then(Value::as_object).into_iter().flatten();
    let counts = counts.map(|(name, count)| (known(name), count.as_u64().unwrap().try_into().unwrap()));
    let codes: Vec<(&'static str, u32)> = counts.collect();
    let fits = |row: &(Error, u16, &str)| {
        let is_it = row.1 == status && row.2 == code || codes.iter().any(|(code, _)| *code == row.2);
        text("cause") == Some(&row.0.to_string()) && is_it
    };
    let cause = text("cause").map(|_| table().into_iter().find(fits).unwrap().0);
    let unused: Vec<_> = fields.get("unused").and_then(Value::as_array).into_iter().flatten().collect();
    let line = Line {
        time,
        level,
        request,
        caller: text("caller"),
        secret: text("secret"),
        status,
        code,
        codes: Codes(&codes),
        stale: fields.get("stale").map_or(0, |stale| stale.as_u64().unwrap().try_into().unwrap()),
        cause: cause.as_ref(),
        unused: &unused.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>(),
        cache: text("cache"),
        upstream: fields["upstream"].as_u64().unwrap().try_into().unwrap(),
    };
    log::render(&line, duration)
}

/// The cause in the log, as the page has it: `…` stands for the parts that vary.
fn cause(error: &Error) -> String {
    match (error, error.to_string().split_once(" (")) {
        (Error::Setting(_), _) => "the setting …".to_owned(),
        (_, Some((cause, _))) => format!("{cause} (…)"),
        (_, None) => error.to_string(),
    }
}

/// The kind and the labels of each metric. Every histogram has the label `le`, which is not listed.
fn metrics() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = metric_text();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let with_labels = |(family, kind): (&str, &str)| {
        let series = text.lines().filter(|line| is_series_of(line.split('{').next().unwrap(), family));
        let names = series.flat_map(labels).map(|(label, _)| label).filter(|label| label != "le");
        (family.to_owned(), (kind.to_owned(), names.collect()))
    };
    families.map(with_labels).collect()
}

/// The metrics of an instance that has a token.
fn metric_text() -> String {
    let metrics = Metrics::new();
    metrics.replied(&Reply::state("ok"), None, Duration::ZERO);
    metrics.item("OK");
    metrics.render((0, 0), Some((Duration::ZERO, Duration::ZERO)))
}

/// The labels and values between the braces of a line, in the text format and in the selectors of Prometheus.
fn labels(line: &str) -> Vec<(String, String)> {
    let lists = line.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let pairs = lists.flat_map(|list| list.split(',')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(label, value)| (label.to_owned(), value.trim_matches(['~', '"']).to_owned())).collect()
}

fn is_series_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
}

/// The text below `heading`, up to the next heading of its kind.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let next = format!("\n{} ", heading.split(' ').next().unwrap());
    section.split(&next).next().unwrap().split("\n## ").next().unwrap()
}

/// The rows of the tables in `text` whose first cell is code, without the backticks.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    let cells = lines.map(|line| line[2..].trim_end_matches(" |").split(" | "));
    cells.map(|row| row.map(|cell| cell.replace('`', "")).collect()).collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
