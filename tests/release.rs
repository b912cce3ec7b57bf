//! The workflow that makes a release: what it may do, and that it does what `docs/release.md` says, by commands that exist.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn only_a_tag_of_a_version_makes_a_release() {
    assert_eq!(workflow()["on"], json!({ "push": { "tags": ["v*"] } }));
}

#[test]
fn each_job_may_do_what_it_is_for_and_no_more() {
    let workflow = workflow();
    assert_eq!(workflow["permissions"], json!({}));
    let jobs = workflow["jobs"].as_object().unwrap();
    let permissions: Vec<_> = jobs.iter().map(|(name, job)| (name.as_str(), &job["permissions"])).collect();
    assert_eq!(
        permissions,
        [
            ("attest", &json!({ "attestations": "write", "id-token": "write" })),
            ("build", &json!({ "contents": "read" })),
            ("registry", &json!({ "packages": "write" })),
            ("release", &json!({ "contents": "write" })),
        ]
    );
    // Who may write has none of the repository's code.
    for (name, job) in jobs {
        let code = texts(job, "uses").any(|it| it.starts_with("actions/checkout@"));
        assert_eq!(code, name == "build", "{name}");
        assert!(job["timeout-minutes"].is_u64(), "{name}");
    }
}

#[test]
fn nothing_is_published_before_everything_has_passed() {
    let workflow = workflow();
    let needs: Vec<_> =
        ["attest", "registry", "release"].map(|it| workflow["jobs"][it]["needs"].clone()).into();
    assert_eq!(needs, [json!("build"), json!("attest"), json!(["attest", "registry"])]);
    let steps: Vec<_> = texts(&workflow["jobs"]["build"], "run").collect();
    let at = |command: &str| steps.iter().position(|it| it.contains(command)).unwrap();
    let order = ["cargo xtask notes", ".ci/run", "cargo xtask dist --precompiled", "tar "].map(at);
    assert!(order.is_sorted(), "{order:?}");
    for name in ["attest", "registry", "release"] {
        let job = &workflow["jobs"][name];
        assert!(texts(job, "run").any(|it| it.contains("sha256sum --check --strict")), "{name}");
    }
}

#[test]
fn what_is_attested_is_every_file_and_the_archive() {
    let workflow = workflow();
    let steps = workflow["jobs"]["attest"]["steps"].as_array().unwrap();
    let attests = |it: &&Value| it["uses"].as_str().is_some_and(|it| it.starts_with("actions/attest-"));
    let subjects: Vec<_> = steps.iter().filter(attests).map(|it| it["with"].clone()).collect();
    assert_eq!(
        subjects,
        [
            json!({ "subject-checksums": "SHA256SUMS" }),
            json!({ "subject-path": "keyvault-gateway-*.tar.gz\nSHA256SUMS\n" }),
        ]
    );
}

#[test]
fn what_is_there_is_seen_before_anything_is_pushed_and_what_was_pushed_is_read_after() {
    let workflow = workflow();
    let names: Vec<_> = texts(&workflow["jobs"]["registry"], "name").collect();
    assert_eq!(
        names,
        [
            "What goes where, and with which digest",
            "Log in",
            "No tag moves",
            "Push",
            "What was pushed comes back"
        ]
    );
}

#[test]
fn no_tag_moves() {
    let moved = format!(
        "::error::keyvault/x:1 is there and has another digest, {ABC} instead of {OTHER}: it needs a new version\n"
    );
    let table = [
        (ABC, "printf abc", (Some(0), "")),
        (OTHER, "printf abc", (Some(1), moved.as_str())),
        // It is not there yet, and on ghcr.io the package may not be either.
        (ABC, "echo 'manifest unknown: MANIFEST_UNKNOWN' >&2; return 1", (Some(0), "")),
        (ABC, "echo 'name unknown' >&2; return 1", (Some(0), "")),
        (ABC, "echo 'denied: denied' >&2; return 1", (Some(0), "")),
        (ABC, "echo 'requesting bearer token: 403 (Forbidden)' >&2; return 1", (Some(0), "")),
        // Nobody knows.
        (ABC, "echo 'connection refused' >&2; return 1", (Some(1), "connection refused\n")),
        (ABC, "printf abc; return 1", (Some(1), "")),
    ];
    for (digest, skopeo, (code, says)) in table {
        assert_eq!(ran("No tag moves", digest, skopeo), (code, says.to_owned()), "{digest} {skopeo}");
    }
}

#[test]
fn what_was_pushed_comes_back() {
    let name = "What was pushed comes back";
    let both = "if [[ $1 = inspect ]]; then printf abc; else mkdir -p oci/blobs back/blobs; fi";
    let other = format!("::error::keyvault/x:1 came back with another digest, {ABC} instead of {OTHER}\n");
    assert_eq!(ran(name, ABC, both), (Some(0), String::new()));
    assert_eq!(ran(name, OTHER, both), (Some(1), other));
    assert_eq!(ran(name, ABC, "return 1"), (Some(1), String::new()));
    let less = "if [[ $1 = inspect ]]; then printf abc; else mkdir -p oci/blobs/x back/blobs; fi";
    assert_eq!(ran(name, ABC, less), (Some(1), "Only in oci/blobs: x\n".to_owned()));
}

#[test]
fn actions_are_those_of_github_by_their_hash() {
    for job in workflow()["jobs"].as_object().unwrap().values() {
        for action in texts(job, "uses") {
            let hash =
                action.strip_prefix("actions/").and_then(|it| it.split_once('@')).map_or("", |it| it.1);
            let fits = hash.len() == 40 && hash.bytes().all(|it| it.is_ascii_hexdigit());
            assert!(fits, "{action}");
        }
    }
}

#[test]
fn no_text_from_outside_becomes_a_command() {
    for job in workflow()["jobs"].as_object().unwrap().values() {
        for script in texts(job, "run") {
            assert!(!script.contains("${{"), "{script}");
        }
    }
}

#[test]
fn the_gateway_and_its_tools_have_one_version() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let version = manifest["workspace"]["package"]["version"].as_str();
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_command_exists() {
    let usage = read("xtask/src/main.rs");
    let places = [".github/workflows/release.yml", ".github/workflows/test.yml", "docs/release.md"];
    let mut commands = 0;
    for place in places {
        for command in read(place).split("cargo xtask ").skip(1) {
            let name: String = command.chars().take_while(char::is_ascii_lowercase).collect();
            assert!(usage.contains(&format!("\n  {name} ")), "{place}: cargo xtask {name}");
            commands += 1;
        }
    }
    assert!(commands > 10, "{commands}");
    assert!(usage.contains("dist [--precompiled]"));
}

#[test]
fn the_page_has_the_commands_that_push() {
    let workflow = workflow();
    let push = texts(&workflow["jobs"]["registry"], "run").find(|it| it.contains("skopeo copy")).unwrap();
    let page = read("docs/release.md");
    let page: Vec<_> = page.lines().map(|it| it.trim().trim_start_matches("$ ")).collect();
    for line in push.lines().map(str::trim) {
        assert!(page.contains(&line), "{line}");
    }
}

/// How the step `name` of the job that pushes ends, and what it says, for the artifact `keyvault/x:1` with this digest and a
/// `skopeo` that does this.
fn ran(name: &str, digest: &str, skopeo: &str) -> (Option<i32>, String) {
    let workflow = workflow();
    assert_eq!(workflow["defaults"]["run"]["shell"], "bash");
    let steps = workflow["jobs"]["registry"]["steps"].as_array().unwrap();
    let script = steps.iter().find(|it| it["name"] == name).unwrap()["run"].as_str().unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace(' ', "-"));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("artifacts"), format!("{digest} keyvault/x:1\n")).unwrap();
    // As GitHub starts it.
    let mut shell = Command::new("bash");
    shell.args([
        "--noprofile",
        "--norc",
        "-eo",
        "pipefail",
        "-c",
        &format!("skopeo() {{ {skopeo}; }}\n{script}"),
    ]);
    let ran =
        shell.current_dir(folder).env("registry", "registry.invalid").env("LC_ALL", "C").output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stdout).unwrap())
}

/// The texts with this name in the steps of `job`.
fn texts<'a>(job: &'a Value, name: &'a str) -> impl Iterator<Item = &'a str> {
    job["steps"].as_array().into_iter().flatten().filter_map(move |it| it[name].as_str())
}

fn workflow() -> Value {
    serde_saphyr::from_str(&read(".github/workflows/release.yml")).unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The digest of `abc`, as FIPS 180-2 has it.
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

const OTHER: &str = "sha256:0123";
