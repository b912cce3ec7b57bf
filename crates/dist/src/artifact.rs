//! A component, or an interface in the form of one, and what it offers and wants.

use crate::layout::Labels;
use std::collections::BTreeSet;
use std::path::Path;
use wasmparser::{Parser, Payload};
use wit_parser::{Docs, Package, PackageId, Resolve};

/// What one place in a registry has.
#[derive(Debug)]
pub struct Artifact {
    /// The name by which `wkg` asks for it, without the version: `keyvault:gateway-proxy`.
    pub package: String,
    /// Its version, by which it is tagged.
    pub version: String,
    /// The interfaces it offers, in order.
    pub exports: Vec<String>,
    /// The interfaces it wants, in order.
    pub imports: Vec<String>,
    /// What else is said of it.
    pub labels: Labels,
    /// It.
    pub bytes: Vec<u8>,
}

impl Artifact {
    /// The component `name` of the gateway.
    pub fn component(name: &str, version: &str, bytes: Vec<u8>, labels: Labels) -> Result<Self, String> {
        let refused =
            |problem: &dyn std::fmt::Display| format!("the component {name} cannot be read: {problem}");
        let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.map_err(|problem| refused(&problem))? {
                Payload::Version { encoding, .. }
                    if depth == 0 && encoding != wasmparser::Encoding::Component =>
                {
                    return Err(refused(&"it is a module"));
                }
                // What stands inside is its own.
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    depth = depth.saturating_add(1);
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        imports.insert(import.map_err(|problem| refused(&problem))?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        exports.insert(export.map_err(|problem| refused(&problem))?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        let [imports, exports] = [imports, exports].map(|it| it.into_iter().collect());
        Ok(Self {
            package: format!("{PACKAGE}-{name}"),
            version: version.to_owned(),
            exports,
            imports,
            labels,
            bytes,
        })
    }

    /// The package of WIT in `folder`, in the binary form. Every interface and every world of it is an export.
    ///
    /// Nothing else goes into it. Every release of the gateway pushes it again to the tag of its own version, and that has
    /// one digest.
    pub fn interface(folder: &Path, licence: &str) -> Result<Self, String> {
        let refused =
            |problem: &dyn std::fmt::Display| format!("{} cannot be encoded: {problem}", folder.display());
        let mut resolve = Resolve::default();
        let (package, _) =
            resolve.push_dir(folder).map_err(|problem| refused(&format_args!("{problem:#}")))?;
        let bytes = wit_component::encode(&resolve, package)
            .map_err(|problem| refused(&format_args!("{problem:#}")))?;
        let bytes = without_producers(bytes).map_err(|problem| refused(&problem))?;
        let Package { name, docs, .. } = &resolve.packages[package];
        let version = name.version.as_ref().ok_or_else(|| refused(&"it has no version"))?.to_string();
        let package_name = format!("{}:{}", name.namespace, name.name);
        let labels = Labels {
            created: UNCHANGING.to_owned(),
            description: first_paragraph(docs).ok_or_else(|| refused(&"it does not say what it is"))?,
            licence: licence.to_owned(),
        };
        let exports = names_in(&resolve, package);
        Ok(Self { package: package_name, version, exports, imports: Vec::new(), labels, bytes })
    }

    /// The last part of its name, by which an OCI layout knows it.
    pub fn name(&self) -> &str {
        self.package.rsplit(':').next().unwrap_or(&self.package)
    }
}

/// `package` without its last section, which says by which version of which program it was encoded.
fn without_producers(mut package: Vec<u8>) -> wasmparser::Result<Vec<u8>> {
    let mut end = 0;
    for payload in Parser::new(0).parse_all(&package) {
        match payload? {
            Payload::CustomSection(section) if section.name() == "producers" => break,
            // What stands inside of a section ends before it does.
            payload => end = payload.as_section().map_or(end, |(_, it)| end.max(it.end)),
        }
    }
    package.truncate(end);
    Ok(package)
}

/// The first paragraph of what is said of something, as one line.
fn first_paragraph(docs: &Docs) -> Option<String> {
    let paragraph = docs.contents.as_deref()?.trim().split("\n\n").next()?;
    Some(paragraph.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|it| !it.is_empty())
}

/// The interfaces and worlds of `package`, and what its worlds export.
fn names_in(resolve: &Resolve, package: PackageId) -> Vec<String> {
    let package = &resolve.packages[package];
    let mut names: BTreeSet<String> =
        package.interfaces.values().filter_map(|it| resolve.id_of(*it)).collect();
    for (world, id) in &package.worlds {
        names.insert(package.name.interface_id(world));
        names.extend(resolve.worlds[*id].exports.keys().map(|it| resolve.name_world_key(it)));
    }
    names.into_iter().collect()
}

/// What the names of the components begin with.
const PACKAGE: &str = "keyvault:gateway";

/// When an interface was made, as far as its artifact tells. With the time of a commit, two releases of the gateway would have
/// two digests for one version of it.
const UNCHANGING: &str = "1970-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_all_that_the_text_has() {
        let interface = Artifact::interface(&interface(), "Apache-2.0").unwrap();
        assert_eq!((interface.package.as_str(), interface.version.as_str()), ("keyvault:gateway", "0.1.0"));
        assert_eq!(
            interface.exports,
            ["async-gateway", "async-secrets", "gateway", "secrets", "types"]
                .map(|it| format!("keyvault:gateway/{it}@0.1.0"))
        );
        assert_eq!(interface.imports, Vec::<String>::new());
        let wit_component::DecodedWasm::WitPackage(read, package) =
            wit_component::decode(&interface.bytes).unwrap()
        else {
            panic!("it is no package");
        };
        assert_eq!(names_in(&read, package), interface.exports);
        let Labels { created, description, licence } = interface.labels;
        assert_eq!(
            (created.as_str(), description.as_str(), licence.as_str()),
            ("1970-01-01T00:00:00Z", DESCRIPTION, "Apache-2.0")
        );
        // What is said of a function comes along, and who encoded it does not.
        let has = |text: &str| interface.bytes.windows(text.len()).any(|it| it == text.as_bytes());
        assert_eq!((has(DOCUMENTED), has("wit-component")), (true, false));
    }

    #[test]
    fn an_interface_is_the_same_each_time() {
        let [one, other] = [(); 2].map(|()| Artifact::interface(&interface(), "Apache-2.0").unwrap().bytes);
        assert!(one == other, "they differ");
    }

    #[test]
    fn what_is_no_component_is_refused() {
        let module = b"\0asm\x01\0\0\0";
        for (bytes, problem) in [
            (&module[..], "the component x cannot be read: it is a module"),
            (b"", "the component x cannot be read: unexpected end-of-file (at offset 0x0)"),
        ] {
            let [created, description, licence] = [(); 3].map(|()| String::new());
            let labels = Labels { created, description, licence };
            let refused = Artifact::component("x", "0.1.0", bytes.to_vec(), labels).err();
            assert_eq!(refused.as_deref(), Some(problem));
        }
    }

    fn interface() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/gateway")
    }

    const DESCRIPTION: &str = "Secrets of Azure Key Vault for components that are composed with the gateway: a function call, \
                               no request. What they get comes from the same memory, in the same instance, by the same \
                               rules as what the gateway answers over HTTP.";

    const DOCUMENTED: &str = "The value of the secret `name`";
}
