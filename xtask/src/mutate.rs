//! `cargo xtask mutate`: breaks one policy of the core at a time, in a copy of the repository, and expects the simulation to
//! notice. It is the test of that test.

use crate::process::{cargo_in, root, run, target};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// One policy, broken.
struct Mutation {
    /// What the core does then.
    name: &'static str,
    file: &'static str,
    /// Stands in the file once.
    from: &'static str,
    to: &'static str,
}

/// Breaks each policy in turn. Fails if one was broken without notice, or could not be.
pub(crate) fn everything() -> Result<(), String> {
    let copy = target().join("mutants").join("tree");
    copy_tree(root(), &copy, target()).map_err(|problem| format!("cannot copy the repository: {problem}"))?;
    // The copy as it is has to pass, or nothing that follows means anything.
    build(&copy)?;
    match simulate(&copy)? {
        Outcome::Passes => {}
        Outcome::Fails => return Err("the simulation fails without a mutation".to_owned()),
        Outcome::DoesNotEnd => return Err(format!("the simulation takes longer than {LONGEST_RUN:?}")),
    }
    let mut wrong = Vec::new();
    for (index, mutation) in MUTATIONS.iter().enumerate() {
        let start = Instant::now();
        let file = copy.join(mutation.file);
        let original =
            fs::read_to_string(&file).map_err(|problem| format!("{}: {problem}", mutation.file))?;
        if original.matches(mutation.from).count() != 1 {
            return Err(format!("{}: `{}` does not stand there once", mutation.file, mutation.from));
        }
        let write = |text: &str| fs::write(&file, text).map_err(|problem| problem.to_string());
        write(&original.replace(mutation.from, mutation.to))?;
        let outcome = build(&copy).and_then(|()| simulate(&copy));
        write(&original)?;
        let outcome = outcome.map_err(|problem| format!("{}: {problem}", mutation.name))?;
        let (noticed, shown) = match outcome {
            Outcome::Fails => (true, "noticed"),
            Outcome::Passes => (false, "NOT NOTICED"),
            Outcome::DoesNotEnd => (false, "DID NOT END"),
        };
        println!(
            "{:>2} of {}: {}: {shown} ({:.0} s)",
            index + 1,
            MUTATIONS.len(),
            mutation.name,
            start.elapsed().as_secs_f64()
        );
        if !noticed {
            wrong.push(format!("{}: {shown}", mutation.name));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn build(copy: &Path) -> Result<(), String> {
    run(cargo_in(copy, ["build", "--quiet", "--profile", "simulation", "-p", "simulation"])
        .env("CARGO_TARGET_DIR", target().join("mutants"))
        // A mutation may leave something unused.
        .env("RUSTFLAGS", "-A warnings"))
}

/// How a run of the simulation went.
enum Outcome {
    /// It found nothing.
    Passes,
    /// It found something, or panicked, which is a find, too.
    Fails,
    /// Its time was over. So it may have run on forever, or only slowly.
    DoesNotEnd,
}

fn simulate(copy: &Path) -> Result<Outcome, String> {
    let cannot = |problem: std::io::Error| format!("cannot run the simulation: {problem}");
    let program = target().join("mutants").join("simulation").join("simulate");
    let mut simulation = Command::new(program)
        .args(["--seeds", SEEDS])
        .current_dir(copy)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let start = Instant::now();
    while start.elapsed() < LONGEST_RUN {
        if let Some(status) = simulation.try_wait().map_err(cannot)? {
            return Ok(if status.success() { Outcome::Passes } else { Outcome::Fails });
        }
        thread::sleep(Duration::from_millis(20));
    }
    simulation.kill().map_err(cannot)?;
    simulation.wait().map_err(cannot)?;
    Ok(Outcome::DoesNotEnd)
}

/// Brings `to` to the state of `from`, but for the folder `target`, which has `to` in it. What is the same keeps its time, so
/// that Cargo does not compile it again.
fn copy_tree(from: &Path, to: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    // By its real name: the user may have named it by another.
    let target = &target.canonicalize()?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copied) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name();
        if name == "target" || name.to_string_lossy().starts_with(".git") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            if source.canonicalize()? != *target {
                copy_tree(&source, &copied, target)?;
            }
        } else {
            let content = fs::read(&source)?;
            if fs::read(&copied).ok().as_ref() != Some(&content) {
                fs::write(&copied, content)?;
            }
        }
    }
    // What is gone there is gone here, but for what a build has left.
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_name() == "target" || from.join(entry.file_name()).exists() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Many times what the seeds take, even where ten other programs want the same processor. What runs in a circle is noticed by
/// the simulation itself.
const LONGEST_RUN: Duration = Duration::from_secs(600);

/// Enough for each of the mutations, which most of the first hundred seeds notice.
const SEEDS: &str = "3000";

const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "a 403 does not evict",
        file: "src/secrets.rs",
        from: "            | Error::VaultDenied(..)\n            | Error::SecretDisabled\n",
        to: "",
    },
    Mutation {
        name: "a 404 does not evict",
        file: "src/secrets.rs",
        from: "            | Error::SecretNotFound(..)\n",
        to: "",
    },
    Mutation {
        name: "a 401 that may pass evicts",
        file: "src/secrets.rs",
        from: "        Error::TokenRefused(..)\n",
        to: "        Error::TokenRefused(..)\n            | Error::TokenNotAccepted { .. }\n",
    },
    Mutation {
        name: "there is no single flight for secrets",
        file: "src/secrets.rs",
        from: "let board = || self.reads.board(",
        to: "let alone = &*Box::leak(Box::new(Flights::new()));\n            let board = || alone.board(",
    },
    Mutation {
        name: "there is no single flight for tokens",
        file: "src/upstream.rs",
        from: "let board = || self.upstreams.requests.board(",
        to: "let alone = &*Box::leak(Box::new(Flights::new()));\n            let board = || alone.board(",
    },
    Mutation {
        name: "a leader that vanishes wakes nobody",
        file: "src/flight.rs",
        from: "            drop(signal);\n        } else {",
        to: "            std::mem::forget(signal);\n        } else {",
    },
    Mutation {
        name: "a leader that lands wakes nobody",
        file: "src/flight.rs",
        from: "            drop(flight.waiting.take());",
        to: "            std::mem::forget(flight.waiting.take());",
    },
    Mutation {
        name: "a flight whose leader vanished stays",
        file: "src/flight.rs",
        from: "            self.flights.under_way.borrow_mut().remove(&self.key);",
        to: "            if flight.outcome.borrow().is_some() { self.flights.under_way.borrow_mut().remove(&self.key); }",
    },
    Mutation {
        name: "a leader's deadline is everybody's",
        file: "src/secrets.rs",
        from: "failed.cut_short &= !at_hand || failed.error == Error::DeadlineExceeded;",
        to: "failed.cut_short = false;",
    },
    Mutation {
        name: "a pause goes past the deadline",
        file: "src/upstream.rs",
        from: "        if !effort.retries || wait.saturating_add(LEAST_TIME) >= left {",
        to: "        if !effort.retries || left.is_zero() {",
    },
    Mutation {
        name: "a call may take as long as it likes",
        file: "src/upstream.rs",
        from: "            Upstream::Identity => left,",
        to: "            Upstream::Identity => left.saturating_mul(2),",
    },
    Mutation {
        name: "a vault that hangs has all the time",
        file: "src/upstream.rs",
        from: "Upstream::Vault | Upstream::Directory => {\n                left.min(",
        to: "Upstream::Vault | Upstream::Directory => {\n                left.max(",
    },
    Mutation {
        name: "Retry-After is not heeded",
        file: "src/resilience.rs",
        from: "let until = now.plus(asked.map_or(own, |it| it.max(own)));",
        to: "let until = now.plus(own);",
    },
    Mutation {
        name: "only the request that saw a 429 slows down",
        file: "src/resilience.rs",
        from: "            Trouble::Throttled => Gate::Slow { until, trouble },",
        to: "            Trouble::Throttled => Gate::Closed,",
    },
    Mutation {
        name: "a circuit that opened stays open",
        file: "src/resilience.rs",
        from: "Gate::Open { trouble, .. } => self.gate.set(Gate::Probing { trouble }),",
        to: "Gate::Open { trouble, .. } => return Way::Closed(trouble.error(self.upstream, PROBE_PAUSE)),",
    },
    Mutation {
        name: "a probe that vanishes keeps its place",
        file: "src/resilience.rs",
        from: "if let (true, Gate::Probing { trouble }) = (self.probe, self.circuit.gate.get())",
        to: "if let (false, Gate::Probing { trouble }) = (self.probe, self.circuit.gate.get())",
    },
    Mutation {
        name: "a value is served past its bound",
        file: "src/cache.rs",
        from: "            stale_until: fresh_until.plus(settings.stale),",
        to: "            stale_until: fresh_until.plus(settings.stale).plus(settings.stale),",
    },
    Mutation {
        name: "a value is fresh for twice its time",
        file: "src/cache.rs",
        from: "        let fresh_until = asked.plus(ttl);",
        to: "        let fresh_until = asked.plus(ttl).plus(ttl);",
    },
    Mutation {
        name: "a call is begun however little time is left",
        file: "src/upstream.rs",
        from: "            if left < LEAST_TIME {",
        to: "            if left.is_zero() {",
    },
    Mutation {
        name: "an age starts when the answer comes",
        file: "src/upstream.rs",
        from: "                Ok(read) => return Ok((read, start)),",
        to: "                Ok(read) => return Ok((read, now)),",
    },
    Mutation {
        name: "a value past its time is not marked",
        file: "src/secrets.rs",
        from: "failed: true, ..status };",
        to: "failed: false, ..status };",
    },
    Mutation {
        name: "no-cache gets what is in memory",
        file: "src/cache.rs",
        from: "            Self::Since(moment) => asked >= moment,",
        to: "            Self::Since(_) => true,",
    },
    Mutation {
        name: "errors are not remembered",
        file: "src/secrets.rs",
        from: "                if !failed.cut_short {",
        to: "                if !failed.cut_short && matches!(failed.error, Error::SecretNotFound(..)) {",
    },
    Mutation {
        name: "versions are taken for the latest",
        file: "src/cache.rs",
        from: "version: asked.version.clone() }",
        to: "version: None }",
    },
    Mutation {
        name: "scopes are not checked",
        file: "src/gateway.rs",
        from: "        visit.caller = Some(admitted.may_read(&asked.name)?);\n",
        to: "",
    },
    Mutation {
        name: "a scope is checked only when Azure is asked",
        file: "src/gateway.rs",
        from: "        visit.caller = Some(admitted.may_read(&asked.name)?);\n",
        to: "        if self.secrets.size().0 == 0 { admitted.may_read(&asked.name)?; }\n",
    },
    Mutation {
        name: "a token is used past its end",
        file: "src/azure/identity/token.rs",
        from: "        now < self.fresh_until",
        to: "        now < self.valid_until.plus(Duration::from_secs(86_400))",
    },
    Mutation {
        name: "a token that is refused is kept",
        file: "src/upstream.rs",
        from: "            *kept = None;",
        to: "",
    },
    Mutation {
        name: "a header has the value",
        file: "src/reply.rs",
        from: "secret.version.as_str()",
        to: "&*secret.value.expose().escape_default().to_string()",
    },
    Mutation {
        name: "a 503 does not say when to come back",
        file: "src/reply.rs",
        from: "        self.fields.add(\"retry-after\", pause_seconds(pause).to_string());",
        to: "        let _ = pause;",
    },
    Mutation {
        name: "keys of callers' tokens are asked for as often as somebody makes up a name",
        file: "src/bearers.rs",
        from: "None if now < self.ask_from.get() => return Ok(None),",
        to: "None if false => return Ok(None),",
    },
    Mutation {
        name: "a directory that fails is taken for a no",
        file: "src/bearers.rs",
        from: "return Err(error);",
        to: "return Ok(None);",
    },
    Mutation {
        name: "a token is believed whoever has signed it",
        file: "src/azure/directory.rs",
        from: "(signed, signature).is_ok())",
        to: "(signed, signature).is_ok() || true)",
    },
];

/// A minute of compiling is saved where one has moved.
#[test]
fn what_is_broken_stands_there_once() {
    for Mutation { name, file, from, .. } in MUTATIONS {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{name}: {file} has `{from}` more or less often than once");
    }
}

/// A target folder of any name in the repository would be copied into itself without end.
#[test]
fn a_copy_has_what_the_repository_has_but_for_the_target() -> std::io::Result<()> {
    let from = target().join("tests").join("copy");
    drop(fs::remove_dir_all(&from));
    let built = from.join("build");
    let copy = built.join("mutants").join("tree");
    fs::create_dir_all(from.join("src"))?;
    fs::create_dir_all(&copy)?;
    for file in ["src/lib.rs", "Cargo.toml", "build/built", "build/mutants/tree/gone"] {
        fs::write(from.join(file), file)?;
    }
    let found = |folder: &Path| {
        let names = fs::read_dir(folder)?.map(|it| Ok(it?.file_name().into_string().unwrap_or_default()));
        names.collect::<std::io::Result<std::collections::BTreeSet<_>>>()
    };
    let changed = || copy.join("src/lib.rs").metadata()?.modified();
    copy_tree(&from, &copy, &from.join("src/../build"))?;
    let first = changed()?;
    copy_tree(&from, &copy, &built)?;
    assert_eq!(found(&copy)?, ["Cargo.toml", "src"].map(str::to_owned).into());
    assert_eq!((found(&copy.join("src"))?, changed()?), (["lib.rs".to_owned()].into(), first));
    Ok(())
}
