//! The composition, as a graph of instances.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

/// The bytes of a component that is `application` with what it imports from `components`.
pub(crate) fn compose(application: &Path, components: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut graph = CompositionGraph::new();
    let mut application = Part::read(&mut graph, 0, application)?;
    let components = (1..).zip(components).map(|(place, file)| Part::read(&mut graph, place, file));
    let mut components = components.collect::<Result<Vec<_>, _>>()?;

    let whole = application.instance(&mut graph, &mut components)?;
    if graph.get_instantiation_arguments(whole).next().is_none() {
        return Err(format!("{} imports nothing that the others export", application.file.display()));
    }
    let ways: Vec<_> = application.imports.iter().filter(|it| is_a_way_out(it)).map(String::as_str).collect();
    if !ways.is_empty() {
        eprintln!(
            "note: {} imports {}: a way out of its own, or what may be one, for what it reads and for what is in its environment",
            application.file.display(),
            ways.join(", ")
        );
    }
    for name in &application.exports {
        let export = graph.alias_instance_export(whole, name).map_err(|it| application.failed(&it))?;
        graph.export(export, name).map_err(|it| application.failed(&it))?;
    }
    graph.encode(EncodeOptions::default()).map_err(|it| chain(&it))
}

/// A component that may become part of the whole.
struct Part<'a> {
    file: &'a Path,
    package: PackageId,
    imports: Vec<String>,
    exports: Vec<String>,
    /// Once somebody imports from it.
    instance: Option<NodeId>,
}

impl<'a> Part<'a> {
    fn read(graph: &mut CompositionGraph, place: usize, file: &'a Path) -> Result<Self, String> {
        let failed = |problem: String| format!("{}: {problem}", file.display());
        let bytes = fs::read(file).map_err(|problem| failed(problem.to_string()))?;
        // The name is in the whole, for whoever looks into it. Each has one of its own.
        let mut name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if graph.get_package_by_name(&name, None).is_some() {
            name = format!("{name}-{place}");
        }
        let package = Package::from_bytes(&name, None, bytes, graph.types_mut());
        let package = package.map_err(|it| failed(format!("{it:#}")))?;
        let package = graph.register_package(package).map_err(|it| failed(chain(&it)))?;
        let world = &graph.types()[graph[package].ty()];
        let imports = world.imports.keys().cloned().collect();
        let exports = world.exports.keys().cloned().collect();
        Ok(Self { file, package, imports, exports, instance: None })
    }

    /// The one instance of this part, with all that it imports from `others`, which stand after it.
    fn instance(&mut self, graph: &mut CompositionGraph, others: &mut [Part<'_>]) -> Result<NodeId, String> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        // What only one of them exports decides where it can come from. What several export, as types are, then comes from the
        // same.
        let exporters = |import: &String| others.iter().filter(|it| it.exports.contains(import)).count();
        for import in self.imports.iter().filter(|it| is_given(it) && exporters(it) == 0) {
            let mut exports = others.iter().flat_map(|other| other.exports.iter().map(move |it| (other, it)));
            if let Some((other, export)) = exports.find(|it| interface(it.1) == interface(import)) {
                return Err(format!(
                    "{} imports {import}, and {} exports {export}: another version is another interface",
                    self.file.display(),
                    other.file.display()
                ));
            }
        }
        let missing = self.imports.iter().filter(|it| it.starts_with(GATEWAY) && exporters(it) == 0);
        let missing: Vec<_> = missing.map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(format!(
                "{} imports what no other exports: {}",
                self.file.display(),
                missing.join(", ")
            ));
        }
        let given = self.imports.iter().filter(|it| is_given(it));
        let mut imports: Vec<_> = given.map(|it| (exporters(it), it)).collect();
        imports.sort_by_key(|it| it.0);
        for (_, import) in imports {
            let mut places = (0..others.len()).filter(|it| others[*it].exports.contains(import));
            let place = places.clone().find(|it| others[*it].instance.is_some()).or_else(|| places.next());
            if let Some([exporter, after @ ..]) = place.and_then(|it| others.get_mut(it..)) {
                exporter.instance(graph, after)?;
            }
        }

        let instance = graph.instantiate(self.package);
        for import in self.imports.iter().filter(|it| is_given(it)) {
            let mut there = others.iter().filter_map(|it| Some((it, it.instance?)));
            let Some((exporter, from)) = there.find(|it| it.0.exports.contains(import)) else { continue };
            let export = graph.alias_instance_export(from, import).map_err(|it| exporter.failed(&it))?;
            graph.set_instantiation_argument(instance, import, export).map_err(|it| self.failed(&it))?;
        }
        self.instance = Some(instance);
        Ok(instance)
    }

    fn failed(&self, problem: &dyn Error) -> String {
        format!("{}: {}", self.file.display(), chain(problem))
    }
}

/// Whether this is something that parts give each other. Everything else is between each of them and the host.
fn is_given(import: &str) -> bool {
    import.starts_with(GATEWAY) || import.starts_with("wasi:config/")
}

/// The name of an interface without its version.
fn interface(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Whether who imports this may reach others: it is none of those that are known not to let them.
fn is_a_way_out(import: &str) -> bool {
    !is_given(import) && !HARMLESS.iter().any(|it| import.starts_with(it))
}

/// Clocks, random numbers, the environment, the standard streams and what they consist of; the log, which is the operator's; the
/// types of HTTP, which send nothing; and variables, which can only be read.
const HARMLESS: [&str; 8] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:http/types@",
    "wasi:io/",
    "wasi:logging/",
    "wasi:random/",
    "fermyon:spin/config@",
    "fermyon:spin/variables@",
];

/// What the gateway exports to other components. It is no interface of any host.
const GATEWAY: &str = "keyvault:gateway/";

/// An error, and what it comes from.
fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}
