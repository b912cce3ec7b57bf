//! Composed applications: the examples, each with the components that it imports from.

use crate::components::{self, Component};
use crate::process::Done;
use std::fs;
use std::path::{Path, PathBuf};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

/// Builds each example by itself (`target/components/NAME-alone.wasm`) and composed (`NAME.wasm`). The parts are built.
pub(crate) fn examples() -> Done {
    EXAMPLES.iter().try_for_each(|(name, package, world, parts)| build(name, package, world, parts))
}

/// Builds an application and composes it with `parts`, of which each may import from those after it.
fn build(name: &str, package: &str, features: &str, parts: &[Component]) -> Done {
    let application = components::build_as(&format!("{name}-alone"), package, features)?;
    let files: Vec<_> = std::iter::once(application).chain(parts.iter().map(|it| it.path())).collect();
    let whole = components::path(name);
    compose(&files, &whole).map_err(|problem| format!("cannot compose {}: {problem}", whole.display()).into())
}

/// Checks the examples for their target.
pub(crate) fn lint() -> Done {
    EXAMPLES.iter().try_for_each(|(_, package, features, _)| components::lint(package, features))
}

/// Writes the first of `files` with each import satisfied by the nearest file after it that exports it. All other imports stay
/// imports of the whole, which exports what the first file exports.
fn compose(files: &[PathBuf], whole: &Path) -> Done {
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
        // Middleware of the host stays the host's: parts give each other secrets and a configuration only.
        for import in imports.iter().filter(|it| GIVEN.iter().any(|given| it.starts_with(given))) {
            let exporter = parts.iter().rev().find(|(_, exports)| exports.contains(import));
            if let Some((exporter, _)) = exporter {
                let export = graph.alias_instance_export(*exporter, import)?;
                graph.set_instantiation_argument(instance, import, export)?;
            } else if !import.starts_with("wasi:config/") {
                // The host has a configuration, and no secrets.
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

/// The packages of the interfaces that parts give each other.
const GIVEN: [&str; 2] = ["keyvault:gateway/", "wasi:config/"];

/// The composed examples: name, package, features, and the parts below the application.
const EXAMPLES: [(&str, &str, &str, &[Component]); 3] = [
    ("configured-proxy", "configured", "proxy", &[Component::ConfigStore, Component::Proxy]),
    ("configured-service", "configured", "service", &[Component::ConfigStore, Component::Proxy]),
    ("awaiting", "awaiting", "", &[Component::Service]),
];
