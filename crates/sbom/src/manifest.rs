//! The manifest of the component, without what is there for others.

use toml::Table;

/// The manifest `package` as that of a workspace with one member, whose tests are not there: what they depend on lies in the
/// folders of the others. `workspace` is the manifest of the workspace that it is in, perhaps the same.
pub fn alone(workspace: &str, package: &str) -> Result<String, String> {
    let read = |text| toml::from_str::<Table>(text).map_err(|problem| problem.to_string());
    let (mut workspace, mut manifest) = (read(workspace)?, read(package)?);
    without_tests(&mut manifest);
    for target in tables_in(&mut manifest, "target")? {
        without_tests(target);
    }
    let workspace = table_in(&mut workspace, "workspace")?;
    workspace.insert("members".to_owned(), toml::Value::Array(Vec::new()));
    manifest.insert("workspace".to_owned(), workspace.clone().into());
    // They name crates of the other members.
    manifest.remove("profile");
    toml::to_string(&manifest).map_err(|problem| problem.to_string())
}

fn without_tests(section: &mut Table) {
    section.remove("dev-dependencies");
}

fn table_in<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Table, String> {
    table.get_mut(name).and_then(toml::Value::as_table_mut).ok_or_else(|| format!("there is no table {name}"))
}

/// The tables of the table `name`, if there is one.
fn tables_in<'a>(table: &'a mut Table, name: &str) -> Result<Vec<&'a mut Table>, String> {
    let Some(section) = table.get_mut(name) else { return Ok(Vec::new()) };
    let section = section.as_table_mut().ok_or_else(|| format!("{name} is no table"))?;
    Ok(section.iter_mut().filter_map(|(_, it)| it.as_table_mut()).collect())
}

#[test]
fn keeps_what_the_component_is_made_of() {
    let manifest = r#"
[package]
name = "gateway" # [dev-dependencies]
description = """
[dev-dependencies]
"""

[dependencies]
http = "1.5"

[target.'cfg(unix)'.dev-dependencies]
one = { path = "crates/one" }

[target.'cfg(unix)'.dependencies]
libc = "1"

[dev-dependencies.other]
path = "crates/other"

[workspace]
members = [
    "crates/*",
]
resolver = "3"

[profile.dev.package.other]
opt-level = 3
"#;
    let expected = r#"
[package]
name = "gateway"
description = "[dev-dependencies]\n"

[dependencies]
http = "1.5"

[target.'cfg(unix)'.dependencies]
libc = "1"

[workspace]
members = []
resolver = "3"
"#;
    let alone: Table = toml::from_str(&alone(manifest, manifest).unwrap()).unwrap();
    assert_eq!(alone, toml::from_str(expected).unwrap());
}

#[test]
fn refuses_what_is_not_a_workspace() {
    for manifest in ["[package]\nname = \"gateway\"\n", "[package", "workspace = 1"] {
        assert!(alone(manifest, "").is_err(), "{manifest:?}");
    }
}

#[test]
fn takes_from_the_workspace_what_a_package_has_from_there() {
    let workspace = "[package]\nname = \"gateway\"\n[workspace]\nmembers = [\"crates/*\"]\n[workspace.package]\nversion = \"1.0.0\"\n";
    let package = "[package]\nname = \"store\"\nversion.workspace = true\n";
    let expected = "[package]\nname = \"store\"\nversion.workspace = true\n[workspace]\nmembers = []\n[workspace.package]\nversion = \"1.0.0\"\n";
    let alone: Table = toml::from_str(&alone(workspace, package).unwrap()).unwrap();
    assert_eq!(alone, toml::from_str(expected).unwrap());
}
