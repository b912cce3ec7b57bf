//! Composed applications: the examples with the components that they import.

use crate::components::{self, Component};
use crate::process::Result;
use std::fs;
use std::path::{Path, PathBuf};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

/// Builds each example alone (`target/components/NAME-alone.wasm`) and composed (`NAME.wasm`), from built
/// parts.
pub(crate) fn examples() -> Result {
    EXAMPLES.iter().try_for_each(|(name, package, world, parts)| build(name, package, world, parts))
}

/// Builds an application and composes it with `parts`. Each part can import from the parts after it.
fn build(name: &str, package: &str, features: &str, parts: &[Component]) -> Result {
    let application = components::build_as(&format!("{name}-alone"), package, features)?;
    let files: Vec<_> = std::iter::once(application).chain(parts.iter().map(|part| part.path())).collect();
    let whole = components::path(name);
    compose(&files, &whole).map_err(|error| format!("cannot compose {}: {error}", whole.display()).into())
}

/// Lints the examples for their target.
pub(crate) fn lint() -> Result {
    EXAMPLES.iter().try_for_each(|(_, package, features, _)| components::lint(package, features))
}

/// Composes the first of `files` with the others: each import is satisfied by the next file that exports it.
/// Other imports remain imports of the composed component, which has the exports of the first file.
fn compose(files: &[PathBuf], whole: &Path) -> Result {
    let mut graph = CompositionGraph::new();
    let mut parts: Vec<(NodeId, Vec<String>)> = Vec::new();
    for file in files.iter().rev() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let package = Package::from_bytes(&name, None, fs::read(file)?, graph.types_mut())?;
        let package = graph.register_package(package)?;
        let world = &graph.types()[graph[package].ty()];
        let imports: Vec<_> = world.imports.keys().cloned().collect();
        let exports = world.exports.keys().cloned().collect();
        let instance = graph.instantiate(package);
        // Parts provide only secrets and a configuration to each other. The host provides all other
        // interfaces.
        for import in
            imports.iter().filter(|import| COMPOSED.iter().any(|package| import.starts_with(package)))
        {
            let exporter = parts.iter().rev().find(|(_, exports)| exports.contains(import));
            if let Some((exporter, _)) = exporter {
                let export = graph.alias_instance_export(*exporter, import)?;
                graph.set_instantiation_argument(instance, import, export)?;
            } else if !import.starts_with("wasi:config/") {
                // The host can provide a configuration, but no secrets.
                return Err(format!("no part after {} exports {import}", file.display()).into());
            }
        }
        parts.push((instance, exports));
    }
    let (application, exports) = parts.pop().ok_or("there is no application")?;
    for name in &exports {
        let export = graph.alias_instance_export(application, name)?;
        graph.export(export, name)?;
    }
    fs::write(whole, graph.encode(EncodeOptions::default())?)?;
    Ok(())
}

/// The packages of the interfaces that parts provide to each other.
const COMPOSED: [&str; 2] = ["keyvault:gateway/", "wasi:config/"];

/// Name, package, features and parts of each composed example.
const EXAMPLES: [(&str, &str, &str, &[Component]); 3] = [
    ("configured-proxy", "configured", "proxy", &[Component::ConfigStore, Component::Proxy]),
    ("configured-service", "configured", "service", &[Component::ConfigStore, Component::Proxy]),
    ("awaiting", "awaiting", "", &[Component::Service]),
];
