//! The bill of one component: cut to what is linked, and checked.

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A name and a version.
pub type Crate = (String, String);

/// Reads lines such as `http v1.5.0 (*)`.
pub fn crates_in(tree: &str) -> BTreeSet<Crate> {
    let crate_in = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.to_owned()))
    };
    tree.lines().filter_map(crate_in).collect()
}

/// `bill`, cut to the crates that are `linked`, about the file `component` with this SHA-256.
pub fn finished(
    mut bill: Value,
    linked: &BTreeSet<Crate>,
    component: &str,
    hash: &str,
) -> Result<Value, String> {
    let about = &mut bill["metadata"]["component"];
    let ours = (text(&about["name"])?, text(&about["version"])?);
    let reference = text(&about["bom-ref"])?;
    about["type"] = json!("application");
    about["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
    about["properties"] = json!([{ "name": "keyvault-gateway:file", "value": component }]);
    if let Some(fields) = about.as_object_mut() {
        // They are the crate's libraries as Cargo counts them, and the file is one of them.
        fields.remove("components");
    }

    let mut kept = BTreeSet::from([reference.clone()]);
    let mut missing = linked.clone();
    missing.remove(&ours);
    let mut problem = None;
    list(&mut bill["components"])?.retain(|it| match (text(&it["name"]), text(&it["version"])) {
        (Ok(name), Ok(version)) => {
            let found = missing.remove(&(name, version));
            if found {
                kept.extend(it["bom-ref"].as_str().map(str::to_owned));
            }
            found
        }
        (Err(error), _) | (_, Err(error)) => {
            problem = Some(error);
            false
        }
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    if !missing.is_empty() {
        return Err(format!("the bill lacks {missing:?}"));
    }

    let is_kept = |it: &Value| it.as_str().is_some_and(|it| kept.contains(it));
    let dependencies = list(&mut bill["dependencies"])?;
    dependencies.retain(|it| is_kept(&it["ref"]));
    for dependency in dependencies {
        if let Some(names) = dependency.get_mut("dependsOn").and_then(Value::as_array_mut) {
            names.retain(is_kept);
        }
    }
    // Both have a folder of this machine, or would name one.
    let url = format!("pkg:cargo/{}@{}", ours.0, ours.1);
    bill["metadata"]["component"]["purl"] = json!(url);
    rename(&mut bill, &reference, &format!("{}@{}", ours.0, ours.1));
    Ok(bill)
}

/// Whether `bill` is CycloneDX, says of the component and of each crate what a reader looks for, and names no file of the
/// machine.
pub fn check(bill: &Value) -> Result<(), String> {
    for (name, expected) in [("bomFormat", "CycloneDX"), ("specVersion", "1.5")] {
        if bill[name] != expected {
            return Err(format!("the bill has {} as its {name}", bill[name]));
        }
    }
    let crates = bill["components"].as_array().filter(|it| !it.is_empty()).ok_or("the bill has no crates")?;
    let mut references = BTreeSet::new();
    for part in std::iter::once(&bill["metadata"]["component"]).chain(crates) {
        let has = |field: &str| part.pointer(field).and_then(Value::as_str).is_some_and(|it| !it.is_empty());
        for (what, fields) in WANTED {
            if !fields.iter().copied().any(has) {
                return Err(format!("the bill has no {what} of {}", part["name"]));
            }
        }
        if !references.insert(text(&part["bom-ref"])?) {
            return Err(format!("the bill has {} twice", part["bom-ref"]));
        }
    }
    let dependencies = bill["dependencies"].as_array().ok_or("the bill does not say who depends on whom")?;
    for dependency in dependencies {
        let others = dependency["dependsOn"].as_array().into_iter().flatten();
        for it in others.chain([&dependency["ref"]]) {
            if !references.contains(&text(it)?) {
                return Err(format!("the bill has {it} among the dependencies only"));
            }
        }
    }
    match a_file_in(bill) {
        Some(text) => Err(format!("the bill names a file of this machine: {text}")),
        None => Ok(()),
    }
}

/// What is said of each crate, and where that may stand.
const WANTED: [(&str, &[&str]); 7] = [
    ("type", &["/type"]),
    ("reference", &["/bom-ref"]),
    ("name", &["/name"]),
    ("version", &["/version"]),
    ("licence", &["/licenses/0/expression", "/licenses/0/license/id", "/licenses/0/license/name"]),
    ("package URL", &["/purl"]),
    ("hash", &["/hashes/0/content"]),
];

/// A text with the address of a file, anywhere in `value`.
fn a_file_in(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.contains("file://").then_some(text),
        Value::Array(values) => values.iter().find_map(a_file_in),
        Value::Object(fields) => fields.values().find_map(a_file_in),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("the bill has {value} where text was expected"))
}

fn list(value: &mut Value) -> Result<&mut Vec<Value>, String> {
    value.as_array_mut().ok_or_else(|| "the bill lacks a list".to_owned())
}

/// Puts `new` wherever `old` stands as a whole.
fn rename(value: &mut Value, old: &str, new: &str) {
    match value {
        Value::String(text) if text == old => new.clone_into(text),
        Value::Array(values) => values.iter_mut().for_each(|it| rename(it, old, new)),
        Value::Object(fields) => fields.values_mut().for_each(|it| rename(it, old, new)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_linked_and_says_which_file_it_is_about() {
        let linked =
            crates_in("gateway v0.1.0 (/home/me/gateway)\nhttp v1.5.0\nitoa v1.0.19\nhttp v1.5.0 (*)\n");
        let bill = finished(example(), &linked, "proxy.wasm", "c0ffee");
        let expected = json!({
            "bomFormat": "CycloneDX",
            "metadata": {
                "component": {
                    "bom-ref": "gateway@0.1.0",
                    "name": "gateway",
                    "version": "0.1.0",
                    "purl": "pkg:cargo/gateway@0.1.0",
                    "type": "application",
                    "hashes": [{ "alg": "SHA-256", "content": "c0ffee" }],
                    "properties": [{ "name": "keyvault-gateway:file", "value": "proxy.wasm" }],
                },
            },
            "components": [
                { "bom-ref": "registry#http@1.5.0", "name": "http", "version": "1.5.0" },
                { "bom-ref": "registry#itoa@1.0.19", "name": "itoa", "version": "1.0.19" },
            ],
            "dependencies": [
                { "ref": "gateway@0.1.0", "dependsOn": ["registry#http@1.5.0"] },
                { "ref": "registry#http@1.5.0", "dependsOn": ["registry#itoa@1.0.19"] },
                { "ref": "registry#itoa@1.0.19" },
            ],
        });
        assert_eq!(bill, Ok(expected));
    }

    #[test]
    fn passes_a_bill_that_says_what_a_reader_looks_for() {
        assert_eq!(check(&whole()), Ok(()));
    }

    #[test]
    fn refuses_a_bill_that_lacks_something() {
        let http = "/components/0";
        let table = [
            ("/bomFormat", json!("SPDX"), r#"the bill has "SPDX" as its bomFormat"#),
            ("/specVersion", json!("1.4"), r#"the bill has "1.4" as its specVersion"#),
            ("/components", json!([]), "the bill has no crates"),
            ("/metadata/component/hashes", json!([]), r#"the bill has no hash of "gateway""#),
            (&format!("{http}/type"), Value::Null, r#"the bill has no type of "http""#),
            (&format!("{http}/name"), json!(""), r#"the bill has no name of """#),
            (&format!("{http}/version"), Value::Null, r#"the bill has no version of "http""#),
            (&format!("{http}/licenses"), json!([]), r#"the bill has no licence of "http""#),
            (&format!("{http}/purl"), Value::Null, r#"the bill has no package URL of "http""#),
            (&format!("{http}/hashes"), Value::Null, r#"the bill has no hash of "http""#),
            (&format!("{http}/bom-ref"), json!("gateway@0.1.0"), r#"the bill has "gateway@0.1.0" twice"#),
            ("/dependencies/0/ref", json!("itoa"), r#"the bill has "itoa" among the dependencies only"#),
            (
                "/dependencies/0/dependsOn/0",
                json!("syn"),
                r#"the bill has "syn" among the dependencies only"#,
            ),
            ("/dependencies", Value::Null, "the bill does not say who depends on whom"),
            (
                &format!("{http}/description"),
                json!("from file:///home/me"),
                "the bill names a file of this machine: from file:///home/me",
            ),
        ];
        for (field, value, problem) in table {
            let mut bill = whole();
            *bill.pointer_mut(field).unwrap() = value;
            assert_eq!(check(&bill), Err(problem.to_owned()), "{field}");
        }
    }

    #[test]
    fn refuses_a_bill_that_lacks_a_crate() {
        let linked = crates_in("gateway v0.1.0\nhttp v1.5.0\nhttp v2.0.0\n");
        let refused = finished(example(), &linked, "proxy.wasm", "c0ffee");
        assert_eq!(refused, Err(r#"the bill lacks {("http", "2.0.0")}"#.to_owned()));
    }

    fn example() -> Value {
        json!({
            "bomFormat": "CycloneDX",
            "metadata": {
                "component": {
                    "bom-ref": "path+file:///home/me/gateway#0.1.0",
                    "name": "gateway",
                    "version": "0.1.0",
                    "purl": "pkg:cargo/gateway@0.1.0?download_url=file://.",
                    "type": "library",
                    "components": [{ "bom-ref": "path+file:///home/me/gateway#0.1.0 bin-target-0" }],
                },
            },
            "components": [
                { "bom-ref": "registry#http@1.5.0", "name": "http", "version": "1.5.0" },
                { "bom-ref": "registry#itoa@1.0.19", "name": "itoa", "version": "1.0.19" },
                { "bom-ref": "registry#syn@3.0.10", "name": "syn", "version": "3.0.10" },
            ],
            "dependencies": [
                {
                    "ref": "path+file:///home/me/gateway#0.1.0",
                    "dependsOn": ["registry#http@1.5.0", "registry#syn@3.0.10"],
                },
                { "ref": "registry#http@1.5.0", "dependsOn": ["registry#itoa@1.0.19"] },
                { "ref": "registry#itoa@1.0.19" },
                { "ref": "registry#syn@3.0.10" },
            ],
        })
    }

    fn whole() -> Value {
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "metadata": {
                "component": {
                    "type": "application",
                    "bom-ref": "gateway@0.1.0",
                    "name": "gateway",
                    "version": "0.1.0",
                    "licenses": [{ "expression": "MIT" }],
                    "purl": "pkg:cargo/gateway@0.1.0",
                    "hashes": [{ "alg": "SHA-256", "content": "c0ffee" }],
                },
            },
            "components": [{
                "type": "library",
                "bom-ref": "registry#http@1.5.0",
                "name": "http",
                "version": "1.5.0",
                "description": "Requests",
                "licenses": [{ "license": { "name": "MIT/Apache-2.0" } }],
                "purl": "pkg:cargo/http@1.5.0",
                "hashes": [{ "alg": "SHA-256", "content": "decaf" }],
            }],
            "dependencies": [
                { "ref": "gateway@0.1.0", "dependsOn": ["registry#http@1.5.0"] },
                { "ref": "registry#http@1.5.0" },
            ],
        })
    }
}
