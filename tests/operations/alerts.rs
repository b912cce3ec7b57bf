//! The alerts for Prometheus: parsed, and about what exists.

use std::collections::{BTreeMap, BTreeSet};

use promql::{LabelMatch, LabelMatchOp, Node, Op, OpMod, ParserOptions, Vector};
use serde::Deserialize;

use crate::all_metrics;
use crate::page::{blocks, page, rows, runbooks, section};

/// A rule as Prometheus reads it, and Loki too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alert {
    pub(crate) alert: String,
    pub(crate) expr: String,
    /// How long it has to be true.
    #[serde(rename = "for", default)]
    pub(crate) lasts: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What an expression is about.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) functions: BTreeSet<String>,
    pub(crate) metrics: BTreeSet<String>,
    /// Each label that is selected, with the values that it may have.
    pub(crate) selected: Vec<(String, Vec<String>)>,
    /// The labels that are kept, or that series are matched by.
    pub(crate) kept: BTreeSet<String>,
    /// What values are compared with.
    pub(crate) thresholds: Vec<f64>,
    /// The ranges of vectors, in seconds.
    pub(crate) ranges: Vec<u64>,
}

#[test]
fn alerts_are_about_metrics_codes_and_labels_that_exist() {
    let alerts = alerts();
    assert!(alerts.len() > 10);
    for Alert { alert, expr, lasts, labels } in &alerts {
        assert_eq!(faults(expr), Vec::<String>::new(), "{alert}");
        assert!(lasts.is_empty() || lasts.ends_with('m'), "{alert}");
        assert!(alert.starts_with("KeyVaultGateway"), "{alert}");
        let severity = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let severity: Vec<_> = severity.collect();
        assert!(matches!(severity[..], [("severity", "page" | "ticket")]), "{alert}: {severity:?}");
    }
}

#[test]
fn what_is_wrong_in_an_expression_is_seen() {
    for (expr, expected) in [
        ("sum(rate(keyvault_gateway_requests_total[5m]) > 0", "it is no PromQL"),
        ("sum(rate(keyvault_gateway_requests_total[5q])) > 0", "it is no PromQL"),
        ("sum(keyvault_gateway_requests_total)) > 0", "it is no PromQL"),
        ("sum(rat(keyvault_gateway_requests_total[5m])) > 0", "no function rat"),
        ("sum(rate(keyvault_gateway_requests_totals[5m])) > 0", "no metric keyvault_gateway_requests_totals"),
        (
            "rate(keyvault_gateway_requests_total{cod=\"OK\"}[5m]) > 0",
            "no label cod of keyvault_gateway_requests_total",
        ),
        ("rate(keyvault_gateway_requests_total{code=~\"Timeout|Late\"}[5m]) > 0", "no code Late"),
        ("rate(keyvault_gateway_requests_total{status=~\"6..\"}[5m]) > 0", "no status 6.."),
        ("rate(keyvault_gateway_cache_lookups_total{found=\"hot\"}[5m]) > 0", "no found hot"),
        ("sum by (cause) (rate(keyvault_gateway_requests_total[5m])) > 0", "no label cause to keep"),
        ("sum(rate(keyvault_gateway_requests_total[5m]))", "it is compared with nothing"),
    ] {
        assert_eq!(faults(expr), [expected], "{expr}");
    }
}

#[test]
fn every_alert_has_a_reason() {
    let page = page();
    let reasons = rows(section(&page, "### Why these thresholds"));
    let names: Vec<_> = alerts().into_iter().map(|it| it.alert).collect();
    // The last one is of the log alone.
    let explained: Vec<_> = reasons.iter().map(|it| it[0].as_str()).collect();
    assert_eq!(
        explained.split_last(),
        Some((&"KeyVaultGatewaySilent", &names.iter().map(String::as_str).collect::<Vec<_>>()[..]))
    );
    assert!(reasons.iter().all(|it| it.len() == 2 && it[1].ends_with('.')));
}

/// The alerts of the page.
pub(crate) fn alerts() -> Vec<Alert> {
    let page = page();
    let blocks = blocks(section(&page, "### For Prometheus"), "yaml");
    let [block] = blocks[..] else { panic!("{blocks:?}") };
    rules(block)
}

/// The rules of the one group that `text` has.
pub(crate) fn rules(text: &str) -> Vec<Alert> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        groups: [Group; 1],
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Group {
        name: String,
        rules: Vec<Alert>,
    }

    let File { groups: [Group { name, rules }] } = serde_saphyr::from_str(text).unwrap();
    assert_eq!(name, "keyvault-gateway");
    rules
}

/// What is in `expr`, if it is PromQL.
pub(crate) fn parts(expr: &str) -> Option<Parts> {
    let node = promql::parse(expr.trim().as_bytes(), &ParserOptions::new().build()).ok()?;
    let mut parts = Parts::default();
    parts.add(&node);
    Some(parts)
}

impl Parts {
    fn add(&mut self, node: &Node) {
        match node {
            Node::Operator { op, args } => {
                let (matching, compares) = operator(op);
                self.kept.extend(matching.iter().flat_map(|it| it.labels.iter().cloned()));
                if compares {
                    self.thresholds.extend(args.iter().filter_map(number));
                }
                args.iter().for_each(|it| self.add(it));
            }
            Node::Vector(Vector { labels, range, .. }) => {
                self.ranges.extend(range.map(|it| it as u64));
                for label in labels {
                    let values = values(label);
                    if label.name == "__name__" {
                        self.metrics.extend(values);
                    } else {
                        self.selected.push((label.name.clone(), values));
                    }
                }
            }
            Node::Function { name, args, aggregation } => {
                self.functions.insert(name.clone());
                self.kept.extend(aggregation.iter().flat_map(|it| it.labels.iter().cloned()));
                args.iter().for_each(|it| self.add(it));
            }
            Node::Negation(node) => self.add(node),
            Node::Scalar(_) | Node::String(_) => {}
        }
    }
}

/// What is wrong with an expression: it is no PromQL, or it is about something that does not exist.
fn faults(expr: &str) -> Vec<String> {
    let Some(parts) = parts(expr) else { return vec!["it is no PromQL".to_owned()] };
    let mut faults = Vec::new();
    let series = series();
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    faults.extend(
        parts
            .functions
            .iter()
            .filter(|it| !FUNCTIONS.contains(&it.as_str()))
            .map(|it| format!("no function {it}")),
    );
    for metric in &parts.metrics {
        match series.get(metric.as_str()) {
            Some(its) => labels.extend(its.keys().map(String::as_str)),
            None => faults.push(format!("no metric {metric}")),
        }
    }
    if !faults.is_empty() {
        return faults;
    }
    let metrics = parts.metrics.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let codes: BTreeMap<_, _> = runbooks().into_iter().map(|(code, status, _)| (code, status)).collect();
    for (label, values) in &parts.selected {
        if !labels.contains(label.as_str()) && label != "job" {
            faults.push(format!("no label {label} of {metrics}"));
            continue;
        }
        let exists = |value: &str| match label.as_str() {
            "job" => value == "keyvault-gateway",
            "code" => codes.contains_key(value),
            "status" => codes.values().any(|it| is_like(&it.to_string(), value)),
            _ => parts
                .metrics
                .iter()
                .any(|it| series[it.as_str()].get(label).is_some_and(|it| it.contains(value))),
        };
        faults.extend(values.iter().filter(|it| !exists(it)).map(|it| format!("no {label} {it}")));
    }
    // Prometheus itself adds these.
    labels.extend(["job", "instance", "le"]);
    let unknown = parts.kept.iter().filter(|it| !labels.contains(it.as_str()));
    faults.extend(unknown.map(|it| format!("no label {it} to keep")));
    if parts.thresholds.is_empty() {
        faults.push("it is compared with nothing".to_owned());
    }
    faults
}

/// The series of the gateway by their names, each with the values of its labels; and what Prometheus says of a target.
fn series() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut series: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for line in all_metrics().lines().filter(|it| !it.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let labels = series.entry(name.to_owned()).or_default();
        let given = rest.strip_prefix('{').map_or("", |it| it.split_once('}').unwrap().0);
        for (label, value) in given.split(',').filter_map(|it| it.split_once('=')) {
            labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    series.insert("up".to_owned(), BTreeMap::new());
    series
}

/// How an operator matches its two sides, and whether it compares them.
fn operator(op: &Op) -> (&Option<OpMod>, bool) {
    match op {
        Op::Eq(_, matching)
        | Op::Ne(_, matching)
        | Op::Lt(_, matching)
        | Op::Gt(_, matching)
        | Op::Le(_, matching)
        | Op::Ge(_, matching) => (matching, true),
        Op::Pow(matching)
        | Op::Mul(matching)
        | Op::Div(matching)
        | Op::Mod(matching)
        | Op::Plus(matching)
        | Op::Minus(matching)
        | Op::And(matching)
        | Op::Unless(matching)
        | Op::Or(matching) => (matching, false),
    }
}

fn number(node: &Node) -> Option<f64> {
    // By way of its text, or 0.01 would be 0.009999999776.
    let Node::Scalar(number) = node else { return None };
    number.to_string().parse().ok()
}

/// The values that a label may have.
fn values(label: &LabelMatch) -> Vec<String> {
    let text = String::from_utf8(label.value.clone()).unwrap();
    match label.op {
        LabelMatchOp::Eq | LabelMatchOp::Ne => vec![text],
        LabelMatchOp::REq | LabelMatchOp::RNe => text.split('|').map(str::to_owned).collect(),
    }
}

/// Whether `text` is what `pattern` says, where a dot stands for any one character.
fn is_like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.chars().zip(pattern.chars()).all(|(it, like)| like == '.' || it == like)
}

/// All that the rules need. `promql` takes any name for a function.
const FUNCTIONS: [&str; 4] = ["histogram_quantile", "increase", "rate", "sum"];
