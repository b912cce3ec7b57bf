//! Compositions: the gateway with the reader of token files, and the examples with the components that they
//! import.

use crate::components::{self, Component};
use crate::process::Result;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, plug};

/// Builds each example, alone and composed, from built parts.
pub(crate) fn examples() -> Result {
    EXAMPLES.iter().try_for_each(|(name, package, world, parts)| build(name, package, world, parts))
}

/// Builds an application (`target/components/NAME-alone.wasm`) and composes it with `parts` (`NAME.wasm`), which
/// are built. Each part can import from the parts after it.
pub(crate) fn build(name: &str, package: &str, features: &str, parts: &[Component]) -> Result {
    let application = components::build_as(&format!("{name}-alone"), package, features)?;
    let files: Vec<_> = std::iter::once(application).chain(parts.iter().map(|part| part.path())).collect();
    let whole = components::path(name);
    compose(&files, &whole).map_err(|error| format!("cannot compose {}: {error}", whole.display()).into())
}

/// Lints the examples for their target.
pub(crate) fn lint() -> Result {
    EXAMPLES.iter().try_for_each(|(_, package, features, _)| components::lint(package, features))
}

/// Composes the first of `files` with the others, as `wac plug` does: each file gets the imports that it
/// shares with the exports of the composition after it. Other imports remain imports.
fn compose(files: &[PathBuf], whole: &Path) -> Result {
    let mut files = files.iter().rev().map(fs::read);
    let mut composed = files.next().ok_or("there is no part")??;
    for file in files {
        let mut graph = CompositionGraph::new();
        let [part, socket] = [("part", composed), ("socket", file?)].map(|(name, bytes)| {
            let package = Package::from_bytes(name, None, bytes, graph.types_mut())?;
            Ok::<_, Box<dyn Error>>(graph.register_package(package)?)
        });
        plug(&mut graph, vec![part?], socket?)?;
        composed = graph.encode(EncodeOptions::default())?;
    }
    fs::write(whole, composed)?;
    Ok(())
}

/// Name, package, features and parts of each composed example.
const EXAMPLES: [(&str, &str, &str, &[Component]); 3] = [
    ("configured-proxy", "configured", "proxy", &[Component::ConfigStore, Component::Proxy]),
    ("configured-service", "configured", "service", &[Component::ConfigStore, Component::Proxy]),
    ("awaiting", "awaiting", "", &[Component::Service]),
];
