//! The commands of this repository: `cargo xtask
//! build|demo|dev|serve|compose|attack|bench|simulate|mutate|fuzz|deny|sbom|dist|notes|reproduce|test`.
//!
//! It has no dependency, so that it is compiled in a second and can say what the long steps are doing.

mod bench;
mod components;
mod compose;
mod deny;
mod dist;
mod fuzz;
mod host;
mod mutate;
mod notes;
mod reproduce;
mod sbom;
mod test;

mod git;
mod process;
mod tools;

use components::Component;
use compose::Composed;
use fuzz::Fuzz;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some(task) = parse(&arguments) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = match task {
        Task::Help => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Task::Build(components) => components::build(&components).map(|()| ExitCode::SUCCESS),
        Task::Demo => host::demo(),
        Task::Dev(options) => host::dev(&options),
        Task::Serve { release, served, options } => host::serve(release, &served, &options),
        Task::Attack { release, component, options } => host::attack(release, component, &options),
        Task::Compose(composed) => composed.make().map(|()| ExitCode::SUCCESS),
        Task::Bench(options) => bench::bench(&options),
        Task::Simulate(options) => simulate(&options),
        Task::Mutate => mutate::everything().map(|()| ExitCode::SUCCESS),
        Task::Deny => deny::everything().map(|()| ExitCode::SUCCESS),
        Task::Sbom(components) => sbom::write(&components).map(|()| ExitCode::SUCCESS),
        Task::Dist { precompiled } => dist::write(precompiled).map(|()| ExitCode::SUCCESS),
        Task::Notes(tag) => notes::print(&tag).map(|()| ExitCode::SUCCESS),
        Task::Reproduce(components) => reproduce::twice(&components).map(|()| ExitCode::SUCCESS),
        Task::Fuzz(fuzz) => fuzz.run().map(|()| ExitCode::SUCCESS),
        Task::Test => Ok(test::everything()),
    };
    done.unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        ExitCode::FAILURE
    })
}

#[derive(Debug, PartialEq)]
enum Task {
    Help,
    Build(Vec<Component>),
    Demo,
    Dev(Vec<OsString>),
    Serve { release: bool, served: Served, options: Vec<OsString> },
    Attack { release: bool, component: Component, options: Vec<OsString> },
    Compose(Composed),
    Bench(Vec<OsString>),
    Simulate(Vec<OsString>),
    Mutate,
    Deny,
    Sbom(Vec<Component>),
    Dist { precompiled: bool },
    Notes(String),
    Reproduce(Vec<Component>),
    Fuzz(Fuzz),
    Test,
}

/// What `serve` runs: a component of this repository, or somebody's file.
#[derive(Debug, PartialEq)]
enum Served {
    Built(Component),
    File(OsString),
}

fn parse(arguments: &[OsString]) -> Option<Task> {
    let (task, rest) = arguments.split_first()?;
    match (task.to_str()?, rest) {
        ("help" | "--help" | "-h", []) => Some(Task::Help),
        ("build", names) => parse_components(names).map(Task::Build),
        ("demo", []) => Some(Task::Demo),
        ("dev", options) => Some(Task::Dev(options.to_vec())),
        ("serve", rest) => parse_serve(rest),
        ("attack", rest) => parse_attack(rest),
        ("compose", files) => Composed::parse(files).map(Task::Compose),
        ("bench", options) => Some(Task::Bench(options.to_vec())),
        ("simulate", options) => Some(Task::Simulate(options.to_vec())),
        ("mutate", []) => Some(Task::Mutate),
        ("deny", []) => Some(Task::Deny),
        ("sbom", names) => parse_components(names).map(Task::Sbom),
        ("dist", []) => Some(Task::Dist { precompiled: false }),
        ("dist", [option]) if option == "--precompiled" => Some(Task::Dist { precompiled: true }),
        ("notes", [tag]) => tag.to_str().map(|it| Task::Notes(it.to_owned())),
        ("reproduce", names) => parse_components(names).map(Task::Reproduce),
        ("fuzz", options) => Fuzz::parse(options).map(Task::Fuzz),
        ("test", []) => Some(Task::Test),
        _ => None,
    }
}

/// The components with these names, or all of them.
fn parse_components(names: &[OsString]) -> Option<Vec<Component>> {
    match names {
        [] => Some(Component::ALL.to_vec()),
        names => names.iter().map(|it| Component::named(it)).collect(),
    }
}

/// Compiles the simulation with optimisations and becomes it.
fn simulate(options: &[OsString]) -> Result<ExitCode, String> {
    let mut command = process::cargo(["run", "--quiet", "--profile", "simulation", "-p", "simulation", "--"]);
    process::become_process(command.args(options))
}

fn parse_serve(arguments: &[OsString]) -> Option<Task> {
    let mut release = false;
    let mut served = Served::Built(Component::Service);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str()? {
            "--release" => release = true,
            "--component" => served = parse_served(rest.next()?)?,
            "--" => return Some(Task::Serve { release, served, options: rest.cloned().collect() }),
            _ => return None,
        }
    }
    Some(Task::Serve { release, served, options: Vec::new() })
}

fn parse_served(text: &OsStr) -> Option<Served> {
    match Component::named(text) {
        Some(component @ (Component::Proxy | Component::Service)) => Some(Served::Built(component)),
        // They import what Wasmtime does not have, Spin's variables or the gateway.
        Some(Component::ProxySpin | Component::ServiceSpin | Component::ConfigStore) => None,
        None => text.to_str()?.ends_with(".wasm").then(|| Served::File(text.to_owned())),
    }
}

/// What is not for us is for the host.
fn parse_attack(arguments: &[OsString]) -> Option<Task> {
    let (mut release, mut component, mut options) = (false, Component::Service, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("--release") => release = true,
            Some("--component") => match parse_served(rest.next()?)? {
                Served::Built(built) => component = built,
                Served::File(_) => return None,
            },
            _ => options.push(argument.clone()),
        }
    }
    Some(Task::Attack { release, component, options })
}

const USAGE: &str = "\
usage: cargo xtask <command>

  demo                   build everything, read one secret from an emulated Key Vault, show how it went
  dev [--addr ADDR] [--secrets FILE]
                         the same, kept running until ctrl-c, on 127.0.0.1:8080 and with dev/secrets.json
  build [NAME …]         build the components (proxy, service, proxy-spin, service-spin, config-store; default: all)
                         into target/components/NAME.wasm
  serve [--component proxy|service|FILE.wasm] [--release] [-- OPTION …]
                         run a component under `wasmtime serve` with the environment passed through and
                         any of its options; --release compiles the host with optimisations first
  compose [APPLICATION.wasm OUTPUT.wasm]
                         make one component of an application and of the gateway that it imports from; without files
                         those of examples/, into target/components
  attack [--component proxy|service] [--release] [--small] [--json FILE]
                         attack a component under `wasmtime serve` as hostile clients would, and measure how it
                         and others fare: some minutes, or one with --small
  bench [--rounds NUMBER] [--seconds NUMBER] [--report FOLDER]
                         measure the gateway beside what its host costs without it and beside native services, and
                         write the report to docs/performance: some 20 minutes, with wrk for the load
  simulate [--seeds NUMBER] [--from SEED] [--seed SEED]
                         run the core in virtual time against scripted faults: 10,000 seeds, more, or one again
  simulate fleet [--chart FILE]
                         count the calls of fleets of all sizes, print the table and draw it
  mutate                 break the core's policies one at a time and expect the simulation to notice each
  deny                   hold every dependency against deny.toml, and against the advisories that are known today
  sbom [NAME …]          write the crates that are linked into a component, as CycloneDX, to
                         target/sbom/NAME.cdx.json
  dist [--precompiled]   make a release in target/dist: the components with their bills, the interface, sums, and an
                         OCI layout for registries; --precompiled adds machine code for Wasmtime
  notes TAG              what CHANGELOG.md says of the version that a tag names, if it is this one
  reproduce [NAME …]     build HEAD in two clean clones and compare the bytes of the components
  fuzz [TARGET …] [--runs NUMBER]
                         hostile input for what the core reads: 20,000 runs of each target in fuzz/, or more
  test                   check and test everything
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let served = |component| Some(Task::Serve { release: false, served: component, options: vec![] });
        let table = [
            ("", None),
            ("demo", Some(Task::Demo)),
            ("demo now", None),
            ("build", Some(Task::Build(Component::ALL.to_vec()))),
            ("build proxy service-spin", Some(Task::Build(vec![Component::Proxy, Component::ServiceSpin]))),
            ("build everything", None),
            ("dev --addr 127.0.0.1:0", Some(Task::Dev(words("--addr 127.0.0.1:0")))),
            ("serve", served(Served::Built(Component::Service))),
            ("serve --component proxy", served(Served::Built(Component::Proxy))),
            ("serve --component ../other.wasm", served(Served::File("../other.wasm".into()))),
            ("serve --component proxy-spin", None),
            ("serve --component", None),
            ("serve --addr 127.0.0.1:1", None),
            (
                "serve --release -- --addr 127.0.0.1:1 --",
                Some(Task::Serve {
                    release: true,
                    served: Served::Built(Component::Service),
                    options: words("--addr 127.0.0.1:1 --"),
                }),
            ),
            (
                "attack --small --component proxy --release",
                Some(Task::Attack { release: true, component: Component::Proxy, options: words("--small") }),
            ),
            ("attack --component x.wasm", None),
            ("compose", Some(Task::Compose(Composed::Examples))),
            (
                "compose app.wasm ../whole.wasm",
                Some(Task::Compose(Composed::File {
                    application: "app.wasm".into(),
                    output: "../whole.wasm".into(),
                })),
            ),
            ("compose app.wasm", None),
            ("compose app.wasm whole", None),
            ("bench --rounds 3", Some(Task::Bench(words("--rounds 3")))),
            ("simulate --seed 7", Some(Task::Simulate(words("--seed 7")))),
            ("mutate", Some(Task::Mutate)),
            ("mutate me", None),
            ("deny", Some(Task::Deny)),
            ("deny rsa", None),
            ("sbom", Some(Task::Sbom(Component::ALL.to_vec()))),
            ("sbom proxy", Some(Task::Sbom(vec![Component::Proxy]))),
            ("sbom proxy.wasm", None),
            ("dist", Some(Task::Dist { precompiled: false })),
            ("dist --precompiled", Some(Task::Dist { precompiled: true })),
            ("dist proxy", None),
            ("notes v1.2.3", Some(Task::Notes("v1.2.3".to_owned()))),
            ("notes", None),
            ("reproduce", Some(Task::Reproduce(Component::ALL.to_vec()))),
            ("reproduce service", Some(Task::Reproduce(vec![Component::Service]))),
            ("reproduce twice", None),
            ("fuzz", Fuzz::parse(&[]).map(Task::Fuzz)),
            ("fuzz settings --runs 7", Fuzz::parse(&words("--runs 7 settings")).map(Task::Fuzz)),
            ("fuzz --runs", None),
            ("fuzz --runs 0", None),
            ("fuzz --release", None),
            ("test", Some(Task::Test)),
            ("tests", None),
        ];
        for (line, task) in table {
            assert_eq!(parse(&words(line)), task, "{line:?}");
        }
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }
}
