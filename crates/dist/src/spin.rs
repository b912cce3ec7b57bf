//! `spin.toml` as a release has it: with the component beside it, and nothing to build.

use toml::{Table, Value};

/// `manifest` with `source` as the file of its component and without the command that builds it. All else is as it was,
/// comments too, and that is checked.
pub fn of_release(manifest: &str, source: &str) -> Result<String, String> {
    let (mut kept, mut in_build) = (String::new(), false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_build = line.trim_end().ends_with(".build]");
        }
        match line.starts_with("source = ") {
            _ if in_build => continue,
            true => kept += &format!("source = \"{source}\""),
            false => kept += line,
        }
        kept.push('\n');
    }
    let kept = format!("{}\n", kept.trim_end());
    if parse(&kept)? == changed(parse(manifest)?, source)? {
        Ok(kept)
    } else {
        Err("spin.toml is not laid out so that its source can be changed".to_owned())
    }
}

/// What the text should say.
fn changed(mut manifest: Table, source: &str) -> Result<Table, String> {
    let components = manifest.get_mut("component").and_then(Value::as_table_mut);
    let mut components: Vec<_> =
        components.into_iter().flatten().filter_map(|(_, it)| it.as_table_mut()).collect();
    let [component] = components.as_mut_slice() else {
        return Err(format!("spin.toml has {} components where one was expected", components.len()));
    };
    component.insert("source".to_owned(), source.into());
    component.remove("build");
    Ok(manifest)
}

fn parse(manifest: &str) -> Result<Table, String> {
    toml::from_str(manifest).map_err(|problem| format!("spin.toml: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_component_beside_it_and_builds_nothing() {
        let manifest = "\
[application]
name = \"gateway\" # ours

[component.gateway.build]
command = \"cargo build\"

[component.gateway]
source = \"target/gateway.wasm\"
# Nothing else.
allowed_outbound_hosts = []
";
        let expected = "\
[application]
name = \"gateway\" # ours

[component.gateway]
source = \"gateway-1.wasm\"
# Nothing else.
allowed_outbound_hosts = []
";
        assert_eq!(of_release(manifest, "gateway-1.wasm").as_deref(), Ok(expected));
    }

    #[test]
    fn that_of_this_repository_can_be_changed() {
        let manifest = include_str!("../../../spin.toml");
        let released = of_release(manifest, "x.wasm").unwrap();
        assert_eq!(released.lines().filter(|it| *it == "source = \"x.wasm\"").count(), 1);
        assert!(!released.contains("cargo build"), "{released}");
    }

    #[test]
    fn refuses_what_it_cannot_change() {
        let table = [
            ("[component", "spin.toml: TOML parse error"),
            ("[component.a]\nsource = \"a\"\n[component.b]\nsource = \"b\"", "spin.toml has 2 components"),
            ("[application]", "spin.toml has 0 components"),
            ("[component.a]\n source = \"a\"", "spin.toml is not laid out"),
            ("[component.a]\nsource = \"a\"\nbuild.command = \"b\"", "spin.toml is not laid out"),
        ];
        for (manifest, problem) in table {
            let refused = of_release(manifest, "x.wasm").unwrap_err();
            assert!(refused.starts_with(problem), "{manifest:?}: {refused}");
        }
    }
}
