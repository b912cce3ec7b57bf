//! The folder of a release, from what was built.

use crate::artifact::Artifact;
use crate::files::{copy_folder, read, read_text, write as write_file};
use crate::layout::{self, Labels};
use crate::{spin, sums};
use serde_json::Value;
use std::fs;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Table;

/// Makes `TARGET/dist` from the components `names` in `target`, and from the repository that is the working directory.
/// Names that end in `.cwasm` are files, which go into it as they are.
pub fn write(target: &Path, seconds: &str, names: &[&str]) -> Result<(), String> {
    let (compiled, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|it| it.ends_with(".cwasm"));
    let package = Package::read(&read_text(Path::new("Cargo.toml"))?)?;
    let created = time(seconds)?;
    let folder = target.join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|problem| format!("cannot empty {}: {problem}", folder.display()))?;
    }

    let mut artifacts = Vec::new();
    for name in &names {
        let component = read(&target.join("components").join(name).with_extension("wasm"))?;
        let bill = read(&target.join("sbom").join(name).with_extension("cdx.json"))?;
        let file = package.file(name);
        write_file(&folder.join(format!("{file}.wasm")), &component)?;
        write_file(&folder.join(format!("{file}.cdx.json")), &bill)?;
        let description =
            described(&bill).ok_or_else(|| format!("the bill of {name} does not say what it is"))?;
        let labels = Labels { created: created.clone(), description, licence: package.licence.clone() };
        artifacts.push(Artifact::component(name, &package.version, component, labels)?);
    }
    for file in compiled.into_iter().map(Path::new) {
        let name = file.file_name().ok_or_else(|| format!("{} has no name", file.display()))?;
        write_file(&folder.join(name), &read(file)?)?;
    }

    let interface = Artifact::interface(Path::new(INTERFACE), &package.licence)?;
    write_file(&folder.join(format!("{}.wasm", package.file("wit"))), &interface.bytes)?;
    copy_folder(Path::new(INTERFACE), &folder.join("wit"))?;
    artifacts.push(interface);
    layout::write(&folder.join("oci"), &artifacts)?;

    if !names.contains(&SPIN) {
        return Err(format!("a release has the component {SPIN}, which its spin.toml runs"));
    }
    let source = format!("{}.wasm", package.file(SPIN));
    write_file(
        &folder.join("spin.toml"),
        spin::of_release(&read_text(Path::new("spin.toml"))?, &source)?.as_bytes(),
    )?;
    for name in ["LICENSE", "CHANGELOG.md"] {
        write_file(&folder.join(name), &read(Path::new(name))?)?;
    }
    copy_folder(Path::new("deploy"), &folder.join("deploy"))?;
    write_file(&folder.join(sums::FILE), sums::of(&folder)?.as_bytes())
}

/// `seconds` since 1970 as RFC 3339 has it.
fn time(seconds: &str) -> Result<String, String> {
    let time = seconds.parse().ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    let time = time.and_then(|it| it.format(&Rfc3339).ok());
    time.ok_or_else(|| format!("{seconds:?} is no time in seconds since 1970"))
}

/// What a component is, as its bill has it.
fn described(bill: &[u8]) -> Option<String> {
    let bill: Value = serde_json::from_slice(bill).ok()?;
    bill.pointer("/metadata/component/description")?.as_str().map(str::to_owned)
}

/// What the manifest of the gateway says of it.
struct Package {
    name: String,
    version: String,
    licence: String,
}

impl Package {
    fn read(manifest: &str) -> Result<Self, String> {
        let manifest: Table = toml::from_str(manifest).map_err(|problem| format!("Cargo.toml: {problem}"))?;
        let field = |name: &str| {
            let text = manifest.get("package").and_then(|it| it.get(name)?.as_str());
            text.map(str::to_owned).ok_or_else(|| format!("Cargo.toml has no {name} of the package"))
        };
        Ok(Self { name: field("name")?, version: field("version")?, licence: field("license")? })
    }

    /// What the file of a component, or of what belongs to it, is called, but for its ending.
    fn file(&self, name: &str) -> String {
        format!("{}-{}-{name}", self.name, self.version)
    }
}

/// Where the interface is that the gateway has for other components.
const INTERFACE: &str = "wit/gateway";

/// The component that spin.toml runs.
const SPIN: &str = "proxy-spin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_source() {
        assert_eq!(time("1700000000").as_deref(), Ok("2023-11-14T22:13:20Z"));
        for wrong in ["", "now", "1.5", "99999999999999999999"] {
            assert_eq!(time(wrong), Err(format!("{wrong:?} is no time in seconds since 1970")));
        }
    }

    #[test]
    fn a_component_is_what_its_bill_says() {
        let bill = br#"{ "metadata": { "component": { "name": "x", "description": "Reads secrets" } } }"#;
        assert_eq!(described(bill).as_deref(), Some("Reads secrets"));
        assert_eq!(described(b"{}"), None);
    }

    #[test]
    fn a_file_has_the_name_of_the_gateway_its_version_and_what_it_is() {
        assert_eq!(example().file("proxy"), "gateway-1.2.3-proxy");
    }

    #[test]
    fn refuses_a_manifest_that_does_not_say_who_it_is() {
        let lacks = Package::read("[package]\nname = \"gateway\"\nversion = \"1.2.3\"").err();
        assert_eq!(lacks.as_deref(), Some("Cargo.toml has no license of the package"));
    }

    fn example() -> Package {
        let manifest = "[package]\nname = \"gateway\"\nversion = \"1.2.3\"\n\
                        license = \"Apache-2.0\"\n";
        Package::read(manifest).unwrap()
    }
}
