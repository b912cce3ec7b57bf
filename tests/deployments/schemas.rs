//! The files against what others know of them: the schemas of Kubernetes, the grammar of Bicep, and systemd itself.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use packages::{PythonPackages, not_run, output_within};

use crate::files::{files, read, root, text, yaml};

#[test]
fn every_object_is_one_of_kubernetes() {
    let Some(packages) = packages() else { return };
    for file in ["deploy/container/kubernetes.yaml", "deploy/spinkube/keyvault-gateway.yaml"] {
        let text = read(file);
        let objects = yaml(&text);
        let kinds =
            objects.iter().map(|it| it["kind"].as_str().unwrap()).filter(|it| !it.starts_with("Spin"));
        let kinds: Vec<_> = kinds.collect();
        let expected: Vec<_> = VERSIONS
            .iter()
            .flat_map(|version| kinds.iter().map(move |it| format!("{version} {it}")))
            .collect();
        assert_eq!((kinds.len() >= 4, kubernetes(&packages, &text)), (true, expected), "{file}");
    }
}

#[test]
fn what_kubernetes_does_not_know_is_noticed() {
    let Some(packages) = packages() else { return };
    let file = read("deploy/container/kubernetes.yaml");
    for (right, wrong, complaint) in [
        (
            "readOnlyRootFilesystem",
            "readOnlyRootFileSystem",
            "Deployment spec.template.spec.containers.0.securityContext: ",
        ),
        (
            "periodSeconds: 10",
            "periodSeconds: ten",
            "Deployment spec.template.spec.containers.0.livenessProbe.periodSeconds: ",
        ),
        ("cidr: 169", "cdir: 169", "NetworkPolicy spec.egress.0.to.1.ipBlock: "),
        ("apiVersion: policy/v1", "apiVersion: policy/v1beta1", "PodDisruptionBudget there is no such kind"),
        ("maxUnavailable: 1\n  selector", "minAvailable: 2\n  selektor", "PodDisruptionBudget spec: "),
    ] {
        assert!(file.contains(right), "{right}");
        let said = kubernetes(&packages, &file.replace(right, wrong));
        for version in VERSIONS {
            let complaint = format!("{version} {complaint}");
            assert!(said.iter().any(|it| it.starts_with(&complaint)), "{complaint}: {said:?}");
        }
    }
}

#[test]
fn every_template_is_bicep() {
    let Some(packages) = packages() else { return };
    let templates: Vec<_> = files("deploy").into_iter().filter(|it| it.ends_with(".bicep")).collect();
    assert_eq!(templates.len(), 3);
    for template in templates {
        assert_eq!(said(&packages, &["bicep"], &read(&template)), Vec::<String>::new(), "{template}");
    }
}

#[test]
fn what_is_no_bicep_is_noticed() {
    let Some(packages) = packages() else { return };
    let template = read("deploy/azure/vault.bicep");
    for (right, wrong) in
        [("  properties: {", "  properties {"), ("}\n\nresource", "\n\nresource"), ("param ", "parameter ")]
    {
        assert!(template.contains(right), "{right}");
        let said = said(&packages, &["bicep"], &template.replacen(right, wrong, 1));
        assert!(matches!(said.as_slice(), [it] if it.starts_with("Unexpected ")), "{wrong:?}: {said:?}");
    }
}

#[test]
fn systemd_knows_every_line_of_the_unit() {
    assert_eq!(verify("right", &read(UNIT)).unwrap().unwrap_or_default(), Vec::<String>::new());
}

#[test]
fn what_systemd_does_not_know_is_noticed() {
    let unit = read(UNIT);
    for (right, wrong, complaint) in [
        ("ProtectClock=", "ProtectClocks=", "'ProtectClocks'"),
        ("MemoryMax=256M", "MemoryMax=lots", "'lots'"),
        ("=@system-service", "=@system-services", "@system-services"),
        ("SocketBindAllow=ipv4:tcp:8080", "SocketBindAllow=http", "SocketBindAllow="),
        ("LoadCredential=GATEWAY_KEY:/", "LoadCredential=GATEWAY/KEY:/", "GATEWAY/KEY"),
    ] {
        assert!(unit.contains(right), "{right}");
        let Some(said) = verify("wrong", &unit.replace(right, wrong)).unwrap() else { return };
        assert!(said.iter().any(|it| it.contains(complaint)), "{wrong}: {said:?}");
    }
}

fn kubernetes(packages: &Path, text: &str) -> Vec<String> {
    said(packages, &[&["kubernetes"], VERSIONS.as_slice()].concat(), text)
}

/// The lines that `check.py` prints about a text.
fn said(packages: &Path, arguments: &[&str], about: &str) -> Vec<String> {
    let mut python = Command::new("python3");
    python.arg(root().join("tests/deployments/check.py")).args(arguments);
    python.env_clear().envs(std::env::var_os("PATH").map(|it| ("PATH", it)));
    python.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    let output = output_within(LIMIT, about.as_bytes(), &mut python).unwrap();
    assert_eq!((output.status.success(), text(&output.stderr)), (true, ""));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The directory with what `check.py` needs, if it can be had.
fn packages() -> Option<PathBuf> {
    let packages = PythonPackages {
        name: "deployments",
        purpose: "the schemas of Kubernetes and the grammar of Bicep",
        requirements: &root().join("tests/deployments/requirements.txt"),
        target: Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap(),
    };
    packages.install().unwrap()
}

/// What systemd says of a unit, line by line; `None` where there is no systemd, which is said.
fn verify(name: &str, unit: &str) -> io::Result<Option<Vec<String>>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deployments-unit").join(name);
    fs::create_dir_all(&folder)?;
    let file = folder.join("keyvault-gateway.service");
    fs::write(&file, unit)?;
    let output = match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() {
        Ok(output) => output,
        Err(problem) if problem.kind() == ErrorKind::NotFound => {
            let reason = "systemd-analyze is not there; `apt-get install systemd` brings it";
            not_run("systemd's look at the unit", reason)?;
            return Ok(None);
        }
        Err(problem) => return Err(problem),
    };
    // It has something to say of the machine's own units, too.
    let about_this = text(&output.stderr).lines().filter(|it| it.contains("keyvault-gateway.service"));
    Ok(Some(about_this.map(str::to_owned).collect()))
}

/// Longer than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(300);

/// The oldest that has `sleep` in `preStop`, one between, and the newest that there is.
const VERSIONS: [&str; 3] = ["1.30", "1.34", "1.37"];

const UNIT: &str = "deploy/systemd/keyvault-gateway.service";
