//! The alerts on the log: the template for Azure Monitor, the rules for Loki and the program for jq. They say the same as the page
//! and as the alerts for Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::alerts::{Alert, Parts, alerts, parts, rules};
use crate::jq;
use crate::page::{blocks, page, read, rows, runbooks, section};

/// A rule of the template.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogAlert {
    pub(crate) name: String,
    description: String,
    pub(crate) query: String,
    by: String,
    aggregation: Aggregation,
    column: String,
    operator: Operator,
    threshold: u64,
    window: String,
    periods: u64,
    severity: u8,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
enum Aggregation {
    Average,
    Count,
    Total,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Operator {
    GreaterThan,
    LessThan,
}

#[test]
fn the_queries_of_the_page_are_those_of_the_template() {
    let page = page();
    let blocks = blocks(section(&page, "### For Azure Monitor"), "kusto");
    let sources = sources();
    let by_table = |table: &str| sources.iter().find(|it| it.0 == table).unwrap().1.as_str();
    let lines = format!("let lines = {}\n{}", by_table("ContainerAppConsoleLogs_CL"), reading());
    let first_lines: Vec<_> = sources.iter().map(|it| format!("let lines = {}\n", it.1)).collect();
    let rules: Vec<_> = log_alerts().iter().map(LogAlert::on_the_page).collect();
    assert_eq!(blocks, [lines, first_lines.concat(), rules.join("\n")]);
}

#[test]
fn every_rule_of_the_template_is_whole() {
    let columns: BTreeSet<_> = reading().split_whitespace().map(str::to_owned).collect();
    for LogAlert { name, description, query, by, aggregation, column, severity, .. } in log_alerts() {
        assert!(description.ends_with('.') && [1, 3].contains(&severity), "{name}");
        // What a rule looks at is a column of the lines, or one that its query makes.
        for column in [&by, &column].into_iter().filter(|it| !it.is_empty()) {
            assert!(columns.contains(column) || query.contains(&format!("{column} = ")), "{name}: {column}");
        }
        assert_eq!(column.is_empty(), aggregation == Aggregation::Count, "{name}");
        assert!(query.starts_with("lines"), "{name}");
    }
    let template = template();
    for line in [
        "query: 'let lines = ${sources[table]}\\n${read}${rule.query}'",
        "timeAggregation: rule.aggregation",
        "operator: rule.operator",
        "threshold: rule.threshold",
        "windowSize: rule.window",
        "evaluationFrequency: 'PT5M'",
        "numberOfEvaluationPeriods: rule.periods",
        "minFailingPeriodsToAlert: rule.periods",
        "metricMeasureColumn: rule.column",
        "severity: rule.severity",
        "autoMitigate: true",
    ] {
        assert_eq!(template.lines().filter(|it| it.trim() == line).count(), 1, "{line}");
    }
    let described = template
        .split("\n\n")
        .filter(|it| it.lines().any(|it| it.starts_with("param ") || it.starts_with("output ")));
    let bare: Vec<_> = described.filter(|it| !it.starts_with("@description('")).collect();
    assert_eq!(bare, Vec::<&str>::new());
    let allowed = template.split_once("@allowed([\n").unwrap().1.split_once("])").unwrap().0;
    let allowed: Vec<_> = allowed.lines().map(|it| it.trim().trim_matches('\'').to_owned()).collect();
    assert_eq!(allowed, sources().into_iter().map(|it| it.0).collect::<Vec<_>>());
}

#[test]
fn rules_read_fields_that_a_line_has() {
    let page = page();
    let fields: BTreeSet<_> =
        rows(section(&page, "## The log")).into_iter().map(|it| it[0].clone()).collect();
    let names = |text: &str, before: &str| -> Vec<String> {
        let all = text.split(before).skip(1);
        all.map(|it| it.chars().take_while(char::is_ascii_alphabetic).collect()).collect()
    };
    let loki: Vec<_> = loki().into_iter().map(|it| it.expr).collect();
    // In `json found="cache"`, the field is the second.
    let extracted = loki.iter().flat_map(|it| it.split("| json ").skip(1));
    let extracted = extracted.map(|it| it.split(" |").next().unwrap().split(" [").next().unwrap());
    let extracted: Vec<_> = extracted.flat_map(|it| names(it, "=\"")).collect();
    let in_jq = names(&read(JQ).replace(".age", ""), ".");
    let in_jq = in_jq.into_iter().filter(|it| !["", "md", "operations"].contains(&it.as_str())).collect();
    for (place, read) in
        [("alerts.bicep", names(&reading(), "line.")), ("loki.yaml", extracted), ("alerts.jq", in_jq)]
    {
        let unknown: Vec<_> = read.iter().filter(|it| !fields.contains(*it)).collect();
        assert_eq!((read.len() > 3, unknown), (true, vec![]), "{place}");
    }
}

#[test]
fn rules_are_about_codes_that_exist() {
    let codes: BTreeSet<_> = runbooks().into_iter().map(|it| it.0).collect();
    for rule in log_alerts() {
        let (found_codes, found) = rule.values();
        assert!(found_codes.is_subset(&codes), "{rule:?}");
        assert!(found.iter().all(|it| it == "stale"), "{rule:?}");
    }
    let program = read(JQ);
    let mut in_jq = BTreeSet::new();
    for listed in program.split("(of([").skip(1) {
        in_jq.extend(literals(listed.split_once("])").unwrap().0));
    }
    let of_the_template: BTreeSet<_> = log_alerts().iter().flat_map(|it| it.values().0).collect();
    assert_eq!(in_jq, of_the_template);
}

#[test]
fn rules_for_azure_monitor_are_those_for_prometheus() {
    let prometheus: BTreeMap<_, _> = alerts().into_iter().map(|it| (it.alert.clone(), it)).collect();
    let mut compared = 0;
    for rule in log_alerts().iter().filter(|it| it.name != SILENT) {
        let alert = &prometheus[&rule.name];
        let parts = parts(&alert.expr).unwrap();
        assert_eq!(rule.values(), (values(&parts, "code"), values(&parts, "found")), "{rule:?}");
        let failing = values(&parts, "status").contains("5..");
        assert_eq!(failing, rule.query.contains("iff(status >= 500, 100, 0)"), "{rule:?}");
        assert_eq!(rule.operator, Operator::GreaterThan, "{rule:?}");
        assert_eq!(
            ["", "page", "", "ticket"][usize::from(rule.severity)],
            alert.labels["severity"],
            "{rule:?}"
        );
        // Which of them are alerts for each code.
        assert_eq!(rule.by, if parts.kept.contains("code") { "code" } else { "" }, "{rule:?}");

        let window = rule.seconds();
        let range = parts.ranges[0];
        // The rate of calls is judged by the minute there.
        assert!(window == range || (window, range) == (300, 60), "{rule:?}");
        // What is true of a range for so long was true in each of so many windows, and one more.
        assert_eq!(rule.periods, seconds(&alert.lasts) / window + 1, "{rule:?}");
        let factor = match rule.aggregation {
            // In a hundred.
            Aggregation::Average => 100,
            Aggregation::Count => 1,
            // In a second.
            Aggregation::Total => window,
        };
        let counts = parts.functions.contains("increase") || parts.thresholds == [0.0];
        assert_eq!(counts, rule.aggregation == Aggregation::Count, "{rule:?}");
        for threshold in &parts.thresholds {
            assert_eq!(rule.threshold as f64, threshold * factor as f64, "{rule:?}");
        }
        compared += 1;
    }
    assert!(compared > 7);
}

#[test]
fn alerts_that_the_log_cannot_tell_are_named() {
    let page = page();
    let section = section(&page, "### For Azure Monitor");
    let there: BTreeSet<_> = log_alerts().into_iter().map(|it| it.name).collect();
    for Alert { alert, .. } in alerts().iter().filter(|it| !there.contains(&it.alert)) {
        assert!(section.contains(&format!("`{alert}`")), "{alert}");
    }
}

#[test]
fn rules_for_loki_are_those_for_prometheus() {
    let loki = loki();
    let names: Vec<_> = loki.iter().map(|it| it.alert.clone()).collect();
    assert_eq!(names, log_alerts().into_iter().map(|it| it.name).collect::<Vec<_>>());
    let prometheus: BTreeMap<_, _> = alerts().into_iter().map(|it| (it.alert.clone(), it)).collect();
    for Alert { alert, expr, lasts, labels } in loki.iter().filter(|it| it.alert != SILENT) {
        let same = &prometheus[alert];
        assert_eq!((lasts, labels), (&same.lasts, &same.labels), "{alert}");
        let parts = parts(&same.expr).unwrap();
        let selected = |label: &str| -> BTreeSet<String> {
            let values = [format!("| {label}=\""), format!("| {label}=~\"")];
            let values = values.iter().flat_map(|it| expr.split(it).skip(1));
            values.flat_map(|it| it.split('"').next().unwrap().split('|')).map(str::to_owned).collect()
        };
        for label in ["code", "found"] {
            assert_eq!(selected(label), values(&parts, label), "{alert}");
        }
        assert_eq!(expr.contains("status>=500"), values(&parts, "status").contains("5.."), "{alert}");
        assert_eq!(expr.contains("by (code)"), parts.kept.contains("code"), "{alert}");
        let ranges = expr.split('[').skip(1).map(|it| seconds(it.split(']').next().unwrap()));
        assert!(ranges.eq(parts.ranges[..expr.matches('[').count()].iter().copied()), "{alert}");
        let threshold: f64 = expr.rsplit_once("> ").unwrap().1.trim().parse().unwrap();
        assert!(parts.thresholds.iter().all(|it| *it == threshold), "{alert}");
    }
    let silent = loki.iter().find(|it| it.alert == SILENT).unwrap();
    assert_eq!(silent.expr, "absent_over_time({job=\"keyvault-gateway\"} [15m])");
}

#[test]
fn jq_tells_what_is_just_bad_enough() {
    for rule in log_alerts().iter().filter(|it| it.name != SILENT) {
        for code in rule.codes() {
            let severity = if rule.severity == 1 { "page" } else { "ticket" };
            let of_a_code = if rule.by.is_empty() { String::new() } else { format!("\t{code}") };
            let alert = format!("{}\t{severity}{of_a_code}\n", rule.name);
            for (measured, windows, expected) in [
                (rule.threshold + 1, rule.periods, alert.as_str()),
                (rule.threshold, rule.periods, ""),
                (rule.threshold + 1, rule.periods - 1, ""),
            ] {
                let said = run_jq(&rule.log(&code, measured, windows));
                assert_eq!(said, expected, "{measured} in {windows} windows: {rule:?}");
            }
        }
    }
    // A host's lines, and no line at all.
    assert_eq!(run_jq("Serving HTTP on http://127.0.0.1:8080/\n{\"level\":\"info\"}\n{\n"), "");
    assert_eq!(run_jq(""), "");
}

#[test]
fn the_page_shows_what_jq_prints() {
    let page = page();
    let section = section(&page, "### For journald");
    let (_, shown) = section.split_once("/alerts.jq\n").unwrap();
    let shown = shown.split_once("```").unwrap().0;
    let rules = log_alerts();
    let rule = rules.iter().find(|it| shown.starts_with(&it.name)).unwrap();
    let code = shown.trim().rsplit('\t').next().unwrap();
    assert_eq!(run_jq(&rule.log(code, 1, rule.periods)), shown);
    // Both commands look back as far as the longest rule does.
    let longest = rules.iter().map(|it| it.seconds() * it.periods).max();
    let since: BTreeSet<_> =
        section.split("--since -").skip(1).map(|it| it.split("min").next().unwrap()).collect();
    assert_eq!((longest, since), (Some(20 * 60), BTreeSet::from(["20"])));
}

impl LogAlert {
    /// The rule in words, and its query.
    fn on_the_page(&self) -> String {
        let Self { name, query, by, column, threshold, periods, severity, .. } = self;
        let measure = match self.aggregation {
            Aggregation::Average => format!("the average of {column}"),
            Aggregation::Count => "rows".to_owned(),
            Aggregation::Total => format!("the sum of {column}"),
        };
        let operator = match self.operator {
            Operator::GreaterThan => '>',
            Operator::LessThan => '<',
        };
        let by = if by.is_empty() { String::new() } else { format!(" for one {by}") };
        let minutes = self.seconds() / 60;
        let when = match periods {
            1 => format!("in {minutes} minutes"),
            _ => format!("in each of {periods} windows of {minutes} minutes"),
        };
        format!("// {name}, severity {severity}: {measure} {operator} {threshold}{by}, {when}\n{query}\n")
    }

    /// The codes, and what was found, that the query selects.
    fn values(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let values: BTreeSet<_> = literals(&self.query).into_iter().collect();
        if self.query.contains("where code ") { (values, BTreeSet::new()) } else { (BTreeSet::new(), values) }
    }

    /// The codes that fire it, each by itself.
    fn codes(&self) -> Vec<String> {
        let codes: Vec<_> = self.values().0.into_iter().collect();
        if codes.is_empty() { vec!["OK".to_owned()] } else { codes }
    }

    fn seconds(&self) -> u64 {
        seconds(&self.window.strip_prefix("PT").unwrap().to_lowercase())
    }

    /// A log in which what the rule measures is `measured` in each of the last `windows`, and nothing else is wrong.
    fn log(&self, code: &str, measured: u64, windows: u64) -> String {
        let mut log = String::new();
        for window in 0..windows {
            let time = i64::try_from(NOW - window * self.seconds() - 1).unwrap();
            let time = OffsetDateTime::from_unix_timestamp(time).unwrap().format(&Rfc3339).unwrap();
            let mut line =
                json!({"time": time, "level": "info", "status": 200, "code": code, "upstream": 0, "ms": 1.0});
            if !self.values().1.is_empty() {
                line["cache"] = json!("stale");
            }
            let lines = match self.aggregation {
                Aggregation::Average => 100,
                Aggregation::Count => measured,
                Aggregation::Total => {
                    line["upstream"] = json!(measured);
                    1
                }
            };
            for at in 0..lines {
                if self.aggregation == Aggregation::Average {
                    line["status"] = json!(if at < measured { 503 } else { 200 });
                }
                log += &format!("stderr [0] :: {line}\n");
            }
        }
        log
    }
}

fn run_jq(log: &str) -> String {
    jq::run(&read(JQ), NOW, log)
}

/// The rules of the template.
pub(crate) fn log_alerts() -> Vec<LogAlert> {
    let template = template();
    let mut rules = Vec::new();
    let mut rule = Map::new();
    for line in variable(&template, "rules", "[\n", "\n]").lines().map(str::trim) {
        match line {
            "{" => rule.clear(),
            "}" => rules.push(serde_json::from_value(Value::Object(rule.clone())).unwrap()),
            _ => {
                let (name, value) = line.split_once(": ").unwrap();
                let value =
                    value.parse::<u64>().map_or_else(|_| json!(text_of(value)), |number| json!(number));
                assert!(rule.insert(name.to_owned(), value).is_none(), "{line}");
            }
        }
    }
    rules
}

/// What finds the lines in each table, by its name, for the name that the template has by default.
pub(crate) fn sources() -> Vec<(String, String)> {
    let template = template();
    let name = template.lines().find_map(|it| it.strip_prefix("param name string = ")).unwrap();
    let sources = variable(&template, "sources", "{\n", "\n}").lines().map(|line| {
        let (table, query) = line.trim().split_once(": ").unwrap();
        (table.to_owned(), text_of(query).replace("${name}", text_of(name)))
    });
    sources.collect()
}

/// What reads the lines.
pub(crate) fn reading() -> String {
    variable(&template(), "read", "'''\n", "'''").to_owned()
}

fn variable<'a>(template: &'a str, name: &str, start: &str, end: &str) -> &'a str {
    template.split_once(&format!("var {name} = {start}")).unwrap().1.split_once(end).unwrap().0
}

/// What stands between two single quotes. There is nothing to unescape.
fn text_of(literal: &str) -> &str {
    let text = literal.strip_prefix('\'').and_then(|it| it.strip_suffix('\'')).expect(literal);
    assert!(!text.contains(['\'', '\\']), "{literal}");
    text
}

fn loki() -> Vec<Alert> {
    rules(&read("deploy/alerts/loki.yaml"))
}

/// The values that an expression selects of a label.
fn values(parts: &Parts, label: &str) -> BTreeSet<String> {
    parts.selected.iter().filter(|it| it.0 == label).flat_map(|it| it.1.iter().cloned()).collect()
}

/// The texts between double quotes.
fn literals(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A time such as `10m`; none is no time.
fn seconds(time: &str) -> u64 {
    if time.is_empty() {
        return 0;
    }
    let minutes: u64 = time.strip_suffix('m').expect(time).parse().unwrap();
    minutes * 60
}

fn template() -> String {
    read("deploy/alerts/alerts.bicep")
}

const JQ: &str = "deploy/alerts/alerts.jq";

/// The rule that no other place has.
const SILENT: &str = "KeyVaultGatewaySilent";

/// The time at which jq judges, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
