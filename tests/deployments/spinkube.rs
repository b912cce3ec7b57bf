//! The app of SpinKube: its objects against the fields that the operator knows, and what they decide.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::files::{object, read, yaml, yaml_file};

#[test]
fn the_operator_knows_every_field() {
    let text = read(FILE);
    assert_eq!(complaints(&text), Vec::<String>::new());
    // What stands there with a `#` is to be taken as it is, too.
    let whole = uncommented(&text);
    assert!(whole.contains("\n    - name: gateway_store_key\n") && whole.contains("\n        type: redis\n"));
    assert_eq!(complaints(&whole), Vec::<String>::new());
}

#[test]
fn what_the_operator_does_not_know_is_noticed() {
    let text = read(FILE);
    for (right, wrong, complaint) in [
        ("  executor: ", "  executer: ", "SpinApp.spec.executer: not a field"),
        ("  executor: ", "  executer: ", "SpinApp.spec.executor: missing"),
        (
            "enableAutoscaling: true",
            "enableAutoscaling: \"true\"",
            "SpinApp.spec.enableAutoscaling: not a flag",
        ),
        ("keyValueStores:", "keyValueStore:", "SpinApp.spec.runtimeConfig.keyValueStore: not a field"),
        ("        type: spin\n", "", "SpinApp.spec.runtimeConfig.keyValueStores[0].type: missing"),
        (
            "periodSeconds: 10",
            "periodSeconds: 10s",
            "SpinApp.spec.checks.liveness.periodSeconds: not a number",
        ),
        ("path: /healthz", "port: 80", "SpinApp.spec.checks.readiness.httpGet.port: not a field"),
        ("valueFrom:", "value:", "SpinApp.spec.variables[3].value: not a text"),
        (
            "optional: true",
            "optional: perhaps",
            "SpinApp.spec.variables[4].valueFrom.secretKeyRef.optional: not a flag",
        ),
        ("  podLabels:", "  podLabels: app\n  podAnnotations:", "SpinApp.spec.podLabels: not a set of texts"),
        ("cpu: 100m", "cpu: 100 m", "SpinApp.spec.resources.requests.cpu: not a quantity"),
        (
            "installDefaultCACerts",
            "installDefaultCaCerts",
            "SpinAppExecutor.spec.deploymentConfig.installDefaultCaCerts: not a field",
        ),
        ("  createDeployment: true\n", "", "SpinAppExecutor.spec.createDeployment: missing"),
        (
            "spinkube.dev/v1alpha1",
            "spinoperator.dev/v1alpha1",
            "SpinApp.apiVersion: not one of the operator's",
        ),
    ] {
        assert!(text.contains(right), "{right}");
        let found = complaints(&text.replace(right, wrong));
        assert!(found.iter().any(|it| it == complaint), "{complaint}: {found:?}");
    }
}

#[test]
fn the_executor_is_there_before_the_app() {
    let objects = yaml_file(FILE);
    let kinds: Vec<_> = objects.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    let executor = object(&objects, "SpinAppExecutor");
    let at = |kind: &str| kinds.iter().position(|it| *it == kind);
    assert!(at("SpinAppExecutor") < at("SpinApp"), "{kinds:?}");
    assert_eq!(object(&objects, "SpinApp")["spec"]["executor"], executor["metadata"]["name"]);
    // All of them are put into the namespace that the command names.
    assert!(objects.iter().all(|it| it["metadata"].get("namespace").is_none()));
    let deployment = json!({
        "createDeployment": true,
        "deploymentConfig": {"runtimeClassName": "wasmtime-spin-v2", "installDefaultCACerts": true}
    });
    assert_eq!(executor["spec"], deployment);
}

#[test]
fn a_store_is_in_memory_and_is_asked_for_with_its_key() {
    let text = read(FILE);
    let app = object(&yaml(&text), "SpinApp");
    assert_eq!(
        app["spec"]["runtimeConfig"],
        json!({"keyValueStores": [{"name": "default", "type": "spin"}]})
    );
    let app = object(&yaml(&uncommented(&text)), "SpinApp");
    let variables = app["spec"]["variables"].as_array().unwrap();
    let store: Vec<_> =
        variables.iter().filter(|it| it["name"].as_str().unwrap().starts_with("gateway_store")).collect();
    let key = json!({"secretKeyRef": {"name": "keyvault-gateway", "key": "GATEWAY_STORE_KEY"}});
    assert_eq!(
        store,
        [
            &json!({"name": "gateway_store", "value": "default"}),
            &json!({"name": "gateway_store_key", "valueFrom": key})
        ]
    );
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let declared = manifest["variables"].as_table().unwrap();
    assert!(store.iter().all(|it| declared.contains_key(it["name"].as_str().unwrap())));
}

#[test]
fn the_app_has_several_replicas_and_probes_that_cost_no_token() {
    let objects = yaml_file(FILE);
    let app = object(&objects, "SpinApp");
    // The operator takes a number of replicas for an autoscaler's that is not there.
    assert_eq!((&app["spec"]["enableAutoscaling"], app["spec"].get("replicas")), (&json!(true), None));
    let probe = json!({
        "httpGet": {"path": "/healthz"},
        "initialDelaySeconds": 2,
        "periodSeconds": 10,
        "timeoutSeconds": 2
    });
    assert_eq!(app["spec"]["checks"], json!({"liveness": probe, "readiness": probe}));
    let scaler = object(&objects, "HorizontalPodAutoscaler");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": app["metadata"]["name"]});
    assert_eq!(scaler["spec"]["scaleTargetRef"], target);
    assert_eq!((&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]), (&json!(3), &json!(10)));
}

/// What is wrong with the operator's objects of a file.
fn complaints(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, spec) in [("SpinApp", SPIN_APP), ("SpinAppExecutor", SPIN_APP_EXECUTOR)] {
        let thing = object(&yaml(text), kind);
        if thing["apiVersion"] != "core.spinkube.dev/v1alpha1" {
            found.push(format!("{kind}.apiVersion: not one of the operator's"));
        }
        let fields = [
            ("apiVersion!", Text),
            ("kind!", Text),
            ("metadata!", Object(METADATA)),
            ("spec!", Object(spec)),
        ];
        look(&thing, &fields, kind, &mut found);
    }
    found
}

fn look(thing: &Value, fields: &[(&str, Is)], path: &str, found: &mut Vec<String>) {
    let Some(thing) = thing.as_object() else {
        found.push(format!("{path}: not an object"));
        return;
    };
    let known: BTreeSet<_> = fields.iter().map(|(name, _)| name.trim_end_matches('!')).collect();
    let unknown = thing.keys().filter(|it| !known.contains(it.as_str()));
    found.extend(unknown.map(|it| format!("{path}.{it}: not a field")));
    for (name, is) in fields {
        let path = format!("{path}.{}", name.trim_end_matches('!'));
        match thing.get(name.trim_end_matches('!')) {
            Some(value) => is.look(value, &path, found),
            None if name.ends_with('!') => found.push(format!("{path}: missing")),
            None => {}
        }
    }
}

/// What a field takes.
enum Is {
    Text,
    Number,
    Flag,
    Texts,
    Quantities,
    Object(&'static [(&'static str, Is)]),
    List(&'static Is),
    /// Kubernetes' own, which no file of ours has.
    Absent,
}

use Is::{Absent, Flag, List, Number, Object, Quantities, Text, Texts};

impl Is {
    fn look(&self, value: &Value, path: &str, found: &mut Vec<String>) {
        let mut expect = |right: bool, what: &str| {
            if !right {
                found.push(format!("{path}: not {what}"));
            }
        };
        match self {
            Text => expect(value.is_string(), "a text"),
            Number => expect(value.is_i64(), "a number"),
            Flag => expect(value.is_boolean(), "a flag"),
            Absent => expect(false, "a field that is known here"),
            Texts => {
                let texts = value.as_object().is_some_and(|it| it.values().all(Value::is_string));
                expect(texts, "a set of texts");
            }
            Quantities => match value.as_object() {
                Some(quantities) => {
                    let wrong = quantities.iter().filter(|(_, it)| !is_quantity(it));
                    found.extend(wrong.map(|(name, _)| format!("{path}.{name}: not a quantity")));
                }
                None => expect(false, "a set of quantities"),
            },
            Object(fields) => look(value, fields, path, found),
            List(of) => match value.as_array() {
                Some(list) => {
                    list.iter().enumerate().for_each(|(at, it)| of.look(it, &format!("{path}[{at}]"), found));
                }
                None => expect(false, "a list"),
            },
        }
    }
}

/// A number with one of the suffixes that Kubernetes has, without its exponents.
fn is_quantity(value: &Value) -> bool {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let number = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let suffixes = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    number.parse::<f64>().is_ok() && suffixes.contains(&&text[number.len()..])
}

/// The text with the objects that stand behind a `#`.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("# ") {
        Some((indent, rest))
            if indent.trim().is_empty() && (rest.starts_with("- ") || rest.starts_with("  ")) =>
        {
            format!("{indent}{rest}\n")
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

const FILE: &str = "deploy/spinkube/keyvault-gateway.yaml";

// The fields of v1alpha1, with a `!` where one is required: spinframework/spin-operator, api/v1alpha1/spinapp_types.go at
// 00ab008f09 and config/crd/bases/core.spinkube.dev_spinapps.yaml at 1e0366d4fe; spinkube/spin-operator, by which name it went
// before, config/crd/bases/core.spinkube.dev_spinappexecutors.yaml at c958d08c9f.

const SPIN_APP: &[(&str, Is)] = &[
    ("executor!", Text),
    ("image!", Text),
    ("imagePullSecrets", List(&Object(&[("name", Text)]))),
    ("checks", Object(&[("readiness", PROBE), ("liveness", PROBE)])),
    ("replicas", Number),
    ("enableAutoscaling", Flag),
    ("runtimeConfig", Object(RUNTIME_CONFIG)),
    ("volumes", Absent),
    ("volumeMounts", Absent),
    ("variables", List(&Object(&[("name!", Text), ("value", Text), ("valueFrom", Object(VARIABLE_FROM))]))),
    ("serviceAnnotations", Texts),
    ("deploymentAnnotations", Texts),
    ("podAnnotations", Texts),
    ("podLabels", Texts),
    ("resources", Object(&[("limits", Quantities), ("requests", Quantities)])),
    ("components", List(&Text)),
    ("serviceAccountName", Text),
    ("invocationLimits", Texts),
];

const PROBE: Is = Object(&[
    (
        "httpGet",
        Object(&[("path!", Text), ("httpHeaders", List(&Object(&[("name!", Text), ("value!", Text)])))]),
    ),
    ("initialDelaySeconds", Number),
    ("timeoutSeconds", Number),
    ("periodSeconds", Number),
    ("successThreshold", Number),
    ("failureThreshold", Number),
]);

const RUNTIME_CONFIG: &[(&str, Is)] = &[
    ("loadFromSecret", Text),
    ("sqliteDatabases", STORES),
    ("keyValueStores", STORES),
    ("llmCompute", Object(&[("type!", Text), ("options", OPTIONS)])),
];

const STORES: Is = List(&Object(&[("name!", Text), ("type!", Text), ("options", OPTIONS)]));

const OPTIONS: Is = List(&Object(&[
    ("name!", Text),
    ("value", Text),
    ("valueFrom", Object(&[("configMapKeyRef", KEY), ("secretKeyRef", KEY)])),
]));

const VARIABLE_FROM: &[(&str, Is)] = &[
    ("configMapKeyRef", KEY),
    ("secretKeyRef", KEY),
    ("fieldRef", Absent),
    ("fileKeyRef", Absent),
    ("resourceFieldRef", Absent),
];

const KEY: Is = Object(&[("key!", Text), ("name", Text), ("optional", Flag)]);

const SPIN_APP_EXECUTOR: &[(&str, Is)] =
    &[("createDeployment!", Flag), ("deploymentConfig", Object(DEPLOYMENT))];

const DEPLOYMENT: &[(&str, Is)] = &[
    ("runtimeClassName", Text),
    ("spinImage", Text),
    ("caCertSecret", Text),
    ("installDefaultCACerts", Flag),
    ("otel", Texts),
];

const METADATA: &[(&str, Is)] =
    &[("name!", Text), ("namespace", Text), ("labels", Texts), ("annotations", Texts)];
