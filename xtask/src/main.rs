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
    let task = match parse(&arguments) {
        Ok(task) => task,
        Err(problem) => {
            eprint!("error: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
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
        Task::Mutate => {
            eprintln!("building the simulation in a copy of the repository, and running it as it is");
            mutate::everything().map(|()| ExitCode::SUCCESS)
        }
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

/// The task that the words after `cargo xtask` mean, or what is wrong with them.
fn parse(arguments: &[OsString]) -> Result<Task, String> {
    let Some((task, rest)) = arguments.split_first() else { return Err("a command is missing".to_owned()) };
    match (text(task)?, rest) {
        ("help" | "--help" | "-h", []) => Ok(Task::Help),
        ("build", names) => parse_components(names).map(Task::Build),
        ("demo", []) => Ok(Task::Demo),
        ("dev", options) => Ok(Task::Dev(options.to_vec())),
        ("serve", rest) => parse_serve(rest),
        ("attack", rest) => parse_attack(rest),
        ("compose", files) => Composed::parse(files).map(Task::Compose),
        ("bench", options) => Ok(Task::Bench(options.to_vec())),
        ("simulate", options) => Ok(Task::Simulate(options.to_vec())),
        ("mutate", []) => Ok(Task::Mutate),
        ("deny", []) => Ok(Task::Deny),
        ("sbom", names) => parse_components(names).map(Task::Sbom),
        ("dist", []) => Ok(Task::Dist { precompiled: false }),
        ("dist", [option]) if option == "--precompiled" => Ok(Task::Dist { precompiled: true }),
        ("notes", [tag]) => Ok(Task::Notes(text(tag)?.to_owned())),
        ("notes", []) => Err("notes takes a tag".to_owned()),
        ("reproduce", names) => parse_components(names).map(Task::Reproduce),
        ("fuzz", options) => Fuzz::parse(options).map(Task::Fuzz),
        ("test", []) => Ok(Task::Test),
        (
            task @ ("help" | "--help" | "-h" | "demo" | "mutate" | "deny" | "dist" | "notes" | "test"),
            [.., last],
        ) => Err(format!("{task} does not take {}", last.display())),
        (other, _) => Err(format!("there is no command {other}")),
    }
}

/// A word that has to be text.
fn text(word: &OsStr) -> Result<&str, String> {
    word.to_str().ok_or_else(|| format!("{} is not UTF-8", word.display()))
}

/// The components with these names, or all of them.
fn parse_components(names: &[OsString]) -> Result<Vec<Component>, String> {
    let named =
        |it: &OsString| Component::named(it).ok_or_else(|| format!("there is no component {}", it.display()));
    match names {
        [] => Ok(Component::ALL.to_vec()),
        names => names.iter().map(named).collect(),
    }
}

/// Compiles the simulation with optimisations and becomes it.
fn simulate(options: &[OsString]) -> Result<ExitCode, String> {
    eprintln!("building the simulation with optimisations (about a minute the first time)");
    let mut command = process::cargo(["run", "--quiet", "--profile", "simulation", "-p", "simulation", "--"]);
    process::become_process(command.args(options))
}

fn parse_serve(arguments: &[OsString]) -> Result<Task, String> {
    let mut release = false;
    let mut served = Served::Built(Component::Service);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match text(argument)? {
            "--release" => release = true,
            "--component" => served = parse_served(rest.next())?,
            "--" => return Ok(Task::Serve { release, served, options: rest.cloned().collect() }),
            other => return Err(format!("serve does not take {other}; options of Wasmtime stand behind --")),
        }
    }
    Ok(Task::Serve { release, served, options: Vec::new() })
}

/// What stands behind `--component`.
fn parse_served(word: Option<&OsString>) -> Result<Served, String> {
    let word = word.ok_or("--component takes a component")?;
    match Component::named(word) {
        Some(component @ (Component::Proxy | Component::Service)) => Ok(Served::Built(component)),
        Some(component @ (Component::ProxySpin | Component::ServiceSpin | Component::ConfigStore)) => {
            Err(format!("{} imports what Wasmtime does not have", component.name()))
        }
        None if text(word)?.ends_with(".wasm") => Ok(Served::File(word.clone())),
        None => Err(format!("there is no component {}, and it is no .wasm file", word.display())),
    }
}

/// What is not for us is for the host.
fn parse_attack(arguments: &[OsString]) -> Result<Task, String> {
    let (mut release, mut component, mut options) = (false, Component::Service, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("--release") => release = true,
            Some("--component") => match parse_served(rest.next())? {
                Served::Built(built) => component = built,
                Served::File(file) => {
                    return Err(format!("attack does not take a file such as {}", file.display()));
                }
            },
            _ => options.push(argument.clone()),
        }
    }
    Ok(Task::Attack { release, component, options })
}

const USAGE: &str = "\
usage: cargo xtask <command>

  demo                   build everything, read one secret from an emulated Key Vault, show how it went
  dev [--addr ADDR] [--secrets FILE]
                         the same, kept running until ctrl-c, on 127.0.0.1:8080 and with dev/secrets.json
  build [NAME …]         build the components (proxy, service, proxy-spin, service-spin, config-store; default: all)
                         into target/components/NAME.wasm
  serve [--component proxy|service|FILE.wasm] [--release] [-- OPTION …]
                         run a component under `wasmtime serve` with the settings that are in the environment and
                         any of its options, such as `--env NAME` for another variable; --release compiles the
                         host with optimisations first
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
            ("fuzz", Fuzz::parse(&[]).map(Task::Fuzz).ok()),
            ("fuzz settings --runs 7", Fuzz::parse(&words("--runs 7 settings")).map(Task::Fuzz).ok()),
            ("fuzz --runs", None),
            ("fuzz --runs 0", None),
            ("fuzz --release", None),
            ("test", Some(Task::Test)),
            ("tests", None),
        ];
        for (line, task) in table {
            assert_eq!(parse(&words(line)).ok(), task, "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said() {
        for (line, problem) in [
            ("", "a command is missing"),
            ("tests", "there is no command tests"),
            ("demo now", "demo does not take now"),
            ("dist proxy", "dist does not take proxy"),
            ("notes", "notes takes a tag"),
            ("notes v1 v2", "notes does not take v2"),
            ("build proxy everything", "there is no component everything"),
            ("serve --component", "--component takes a component"),
            ("serve --component spin", "there is no component spin, and it is no .wasm file"),
            ("serve --component proxy-spin", "proxy-spin imports what Wasmtime does not have"),
            ("serve --addr 127.0.0.1:1", "serve does not take --addr; options of Wasmtime stand behind --"),
            ("attack --component x.wasm", "attack does not take a file such as x.wasm"),
            ("compose app.wasm", "compose takes an application and an output, or neither"),
            ("compose app.wasm whole", "whole is no .wasm file"),
            ("fuzz --runs", "--runs takes a number above 0"),
            ("fuzz --runs 0", "--runs takes a number above 0"),
            ("fuzz --release", "fuzz does not take --release"),
        ] {
            assert_eq!(parse(&words(line)), Err(problem.to_owned()), "{line:?}");
        }
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }
}
