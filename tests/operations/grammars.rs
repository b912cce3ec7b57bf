//! The languages of the alerts, read by the grammars of those who made them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use packages::{NodePackages, output_within};
use serde_json::{Value, json};

use crate::alerts::{alerts, rules};
use crate::log_alerts::{log_alerts, reading, sources};
use crate::page::{blocks, folder, page, read, section};

#[test]
fn the_authors_of_the_languages_read_the_rules() {
    let Some(folder) = packages() else { return };
    let expressions = |rules: Vec<crate::alerts::Alert>| -> BTreeMap<String, String> {
        rules.into_iter().map(|it| (it.alert, it.expr)).collect()
    };
    let promql = expressions(alerts());
    let logql = expressions(rules(&read("deploy/alerts/loki.yaml")));
    let mut queries = BTreeMap::new();
    for (table, source) in sources() {
        for rule in log_alerts() {
            let query = format!("let lines = {source}\n{}{}", reading(), rule.query);
            queries.insert(format!("{} on {table}", rule.name), query);
        }
    }
    // The second of these takes the place of what comes after `ms` in the first.
    let page = page();
    let counts = blocks(section(&page, "### The same from the log"), "kusto");
    let [requests, calls] = counts[..] else { panic!("{counts:?}") };
    let (common, _) = requests.split_once("| where isnotempty(code)").unwrap();
    queries.insert("requests".to_owned(), requests.to_owned());
    queries.insert("calls".to_owned(), format!("{common}{calls}"));

    let none = |names: &BTreeMap<String, String>| -> Value {
        names.keys().map(|it| (it.clone(), json!([]))).collect()
    };
    let expected = json!({"kusto": none(&queries), "promql": none(&promql), "logql": none(&logql)});
    let found = check(
        &folder,
        &json!({"kusto": {"tables": tables(), "queries": queries}, "promql": promql, "logql": logql}),
    );
    assert_eq!(found, expected);
}

#[test]
fn the_grammars_see_what_is_wrong() {
    let Some(folder) = packages() else { return };
    let found = check(
        &folder,
        &json!({
            "kusto": {"tables": tables(), "queries": {
                "syntax": "AppTraces | wher Message == ''",
                "column": "AppTraces | where Log_s == ''",
                "function": "AppTraces | extend code = tostr(Message)",
                "type": "AppTraces | where Message > 3",
            }},
            "promql": {"syntax": "sum(up", "function": "rat(up[5m])"},
            "logql": {"syntax": "sum(rate({job=\"x\"} [5m])", "function": "rat({job=\"x\"} [5m])"},
        }),
    );
    for (language, texts) in found.as_object().unwrap() {
        for (name, faults) in texts.as_object().unwrap() {
            assert!(!faults.as_array().unwrap().is_empty(), "{language}: {name}");
        }
    }
}

/// The columns of the tables that have the log, as far as a query names them.
fn tables() -> Value {
    json!({
        "ContainerAppConsoleLogs_CL": "(TimeGenerated: datetime, ContainerAppName_s: string, Log_s: string)",
        "ContainerAppConsoleLogs": "(TimeGenerated: datetime, ContainerAppName: string, Log: string)",
        "ContainerLogV2": "(TimeGenerated: datetime, PodNamespace: string, LogMessage: dynamic)",
        "AppTraces": "(TimeGenerated: datetime, AppRoleName: string, Message: string)",
        "AppServiceConsoleLogs": "(TimeGenerated: datetime, _ResourceId: string, ResultDescription: string)",
    })
}

/// What the grammars have against the texts, by language and by name.
fn check(folder: &Path, texts: &Value) -> Value {
    let mut node = Command::new("node");
    let output =
        output_within(LIMIT, texts.to_string().as_bytes(), node.arg(folder.join("check.js"))).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with the grammars and with the program that asks them, if they can be had.
fn packages() -> Option<PathBuf> {
    let packages = NodePackages {
        name: "grammars",
        purpose: "the grammars of the alerts",
        list: &folder().join("tests/operations/grammars"),
        files: &["check.js"],
        target: &Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools"),
    };
    packages.install().unwrap()
}

/// Longer than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(300);
