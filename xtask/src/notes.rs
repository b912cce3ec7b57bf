//! `cargo xtask notes`: what the changelog says of the version that a tag names.

use crate::dist::version_in;
use crate::process::{cargo, root, words_of};
use std::fs;

/// Prints it. A tag that is not that of this version is refused, and so is a version of which nothing is said.
pub(crate) fn print(tag: &str) -> Result<(), String> {
    let version = version_in(&words_of(&mut cargo(["pkgid", "keyvault-gateway"]))?)?;
    let changelog = fs::read_to_string(root().join("CHANGELOG.md"));
    let changelog = changelog.map_err(|problem| format!("cannot read CHANGELOG.md: {problem}"))?;
    println!("{}", notes(tag, &version, &changelog)?);
    Ok(())
}

fn notes<'a>(tag: &str, version: &str, changelog: &'a str) -> Result<&'a str, String> {
    if tag.strip_prefix('v') != Some(version) {
        return Err(format!("{tag} is not the tag of this version, which is v{version}"));
    }
    let missing = || format!("CHANGELOG.md has nothing under `## {version}`");
    let heading = |it: &&str| it.split_whitespace().next() == Some(version);
    let section = changelog.split("\n## ").skip(1).find(heading).ok_or_else(missing)?;
    let (_, notes) = section.split_once('\n').ok_or_else(missing)?;
    let notes = notes.trim();
    if notes.is_empty() { Err(missing()) } else { Ok(notes) }
}

#[test]
fn only_a_version_of_which_something_is_said_has_notes() {
    let changelog = "# Changelog\n\n## Unreleased\n\n## 1.1.0\n\n## 1.0.1 (2026-12-01)\n\nMore.\n\n* One.\n\n## 1.0.0\n\nFirst.\n";
    let table = [
        ("v1.0.1", "1.0.1", Ok("More.\n\n* One.")),
        ("v1.0.0", "1.0.0", Ok("First.")),
        ("1.0.0", "1.0.0", Err("1.0.0 is not the tag of this version, which is v1.0.0")),
        ("v1.0.1", "1.0.0", Err("v1.0.1 is not the tag of this version, which is v1.0.0")),
        ("v1.0", "1.0", Err("CHANGELOG.md has nothing under `## 1.0`")),
        ("v1.1.0", "1.1.0", Err("CHANGELOG.md has nothing under `## 1.1.0`")),
    ];
    for (tag, version, expected) in table {
        assert_eq!(notes(tag, version, changelog), expected.map_err(str::to_owned), "{tag} {version}");
    }
}
