//! Finishes the bill of materials of one component: `sbom BILL LINKED COMPONENT`, all of them files.
//!
//! cargo-cyclonedx describes what Cargo resolves: procedural macros and what they are made of, too, which run in the
//! compiler. `LINKED` has what `cargo tree` says is linked, a line for each crate, and the bill is cut to that. The result
//! goes to the standard output.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let files: Vec<String> = env::args().skip(1).collect();
    let [bill, linked, component] = files.as_slice() else {
        eprintln!("usage: sbom BILL LINKED COMPONENT");
        return ExitCode::from(2);
    };
    match finished_from(bill, linked, component) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn finished_from(bill: &str, linked: &str, component: &str) -> Result<String, String> {
    let read = |file: &str| fs::read(file).map_err(|problem| format!("cannot read {file}: {problem}"));
    let bill = serde_json::from_slice(&read(bill)?).map_err(|problem| format!("{bill}: {problem}"))?;
    let linked = crates_in(&String::from_utf8_lossy(&read(linked)?));
    let hash: String = Sha256::digest(read(component)?).iter().map(|it| format!("{it:02x}")).collect();
    let name = component.rsplit(['/', '\\']).next().unwrap_or(component);
    let bill = finished(bill, &linked, name, &hash)?;
    serde_json::to_string_pretty(&bill).map_err(|problem| problem.to_string())
}

/// A name and a version.
type Crate = (String, String);

/// Reads lines such as `http v1.5.0 (*)`.
fn crates_in(tree: &str) -> BTreeSet<Crate> {
    let crate_in = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.to_owned()))
    };
    tree.lines().filter_map(crate_in).collect()
}

/// `bill`, cut to the crates that are `linked`, about the file `component` with this SHA-256.
fn finished(mut bill: Value, linked: &BTreeSet<Crate>, component: &str, hash: &str) -> Result<Value, String> {
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
    // It has the folder of this machine.
    rename(&mut bill, &reference, &format!("{}@{}", ours.0, ours.1));
    Ok(bill)
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

#[test]
fn keeps_what_is_linked_and_says_which_file_it_is_about() {
    let linked = crates_in("gateway v0.1.0 (/home/me/gateway)\nhttp v1.5.0\nitoa v1.0.19\nhttp v1.5.0 (*)\n");
    let bill = finished(example(), &linked, "proxy.wasm", "c0ffee");
    let expected = json!({
        "bomFormat": "CycloneDX",
        "metadata": {
            "component": {
                "bom-ref": "gateway@0.1.0",
                "name": "gateway",
                "version": "0.1.0",
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
fn refuses_a_bill_that_lacks_a_crate() {
    let linked = crates_in("gateway v0.1.0\nhttp v1.5.0\nhttp v2.0.0\n");
    let refused = finished(example(), &linked, "proxy.wasm", "c0ffee");
    assert_eq!(refused, Err(r#"the bill lacks {("http", "2.0.0")}"#.to_owned()));
}

#[cfg(test)]
fn example() -> Value {
    json!({
        "bomFormat": "CycloneDX",
        "metadata": {
            "component": {
                "bom-ref": "path+file:///home/me/gateway#0.1.0",
                "name": "gateway",
                "version": "0.1.0",
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
