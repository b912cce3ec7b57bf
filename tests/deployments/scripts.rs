//! What Wasmtime is started with: as the custom handler of Azure Functions, and as a service of systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::documented_settings;
use crate::files::{files, json_file, read, root, text};

#[test]
fn the_functions_host_starts_the_handler_and_forwards_requests_as_they_are() {
    // The port is the host's to put in.
    let arguments = serve("127.0.0.1:%FUNCTIONS_CUSTOMHANDLER_PORT%", "service.wasm");
    let host = json!({
        "version": "2.0",
        "customHandler": {
            "description": {"defaultExecutablePath": "wasmtime", "arguments": arguments},
            "enableForwardingHttpRequest": true
        },
        "extensions": {"http": {"routePrefix": "api"}}
    });
    assert_eq!(json_file("deploy/functions/host.json"), host);
    let function = json!({
        "bindings": [
            {
                "type": "httpTrigger",
                "direction": "in",
                "name": "req",
                "authLevel": "function",
                "methods": ["post"],
                "route": "GetKeyVaultSecret"
            },
            {"type": "http", "direction": "out", "name": "res"}
        ]
    });
    assert_eq!(json_file("deploy/functions/GetKeyVaultSecret/function.json"), function);
}

#[test]
fn the_service_listens_on_loopback_and_names_no_value() {
    let place = Place::new("systemd");
    let start = place.copy("deploy/systemd/start.sh");
    place.program("wasmtime", "printf '%s\\n' \"$@\"");
    let arguments = place.said_by(&start, &[("GATEWAY_KEY", "from the place")]);
    assert_eq!(arguments, serve("127.0.0.1:8080", "service.wasm"));
}

#[test]
fn the_credentials_of_the_service_become_settings() {
    let place = Place::new("systemd-credentials");
    let start = place.copy("deploy/systemd/start.sh");
    place.program("wasmtime", "printf '%s\\n' \"$GATEWAY_KEY\" \"$GATEWAY_CALLERS\" \"$GATEWAY_LOG\"");
    let credentials = place.folder("credentials");
    // A last line end is an editor's, and no part of what it stands behind.
    fs::write(credentials.join("GATEWAY_KEY"), "a $key 'with' \"signs\"\n").unwrap();
    fs::write(credentials.join("GATEWAY_CALLERS"), "[{\"name\": \"billing\"}]").unwrap();
    // Nobody has provided this one.
    fs::write(credentials.join("GATEWAY_LOG"), "\n").unwrap();
    let credentials = credentials.to_str().unwrap();
    let environment = [("CREDENTIALS_DIRECTORY", credentials), ("GATEWAY_LOG", "of the environment")];
    let settings = place.said_by(&start, &environment);
    assert_eq!(settings, ["a $key 'with' \"signs\"", "[{\"name\": \"billing\"}]", "of the environment"]);
}

#[test]
fn the_unit_is_shut_in_and_stops_without_cutting_off_requests() {
    let unit = unit("deploy/systemd/keyvault-gateway.service");
    let service: Vec<_> = unit.iter().filter(|it| it.0 == "Service").map(|it| (&*it.1, &*it.2)).collect();
    let expected = [
        ("Type", "exec"),
        ("ExecStart", "/bin/sh /usr/local/lib/keyvault-gateway/start.sh"),
        ("ExecStop", "/bin/sh /usr/local/lib/keyvault-gateway/stop.sh $MAINPID"),
        ("KillSignal", "SIGINT"),
        ("TimeoutStartSec", "30"),
        ("TimeoutStopSec", "20"),
        ("Restart", "on-failure"),
        ("RestartSec", "2"),
        ("Environment", "PATH=/usr/local/bin:/usr/bin:/bin"),
        ("EnvironmentFile", "/etc/keyvault-gateway/settings.env"),
        ("LoadCredential", "GATEWAY_KEY:/etc/credstore/keyvault-gateway.GATEWAY_KEY"),
        ("LoadCredential", "GATEWAY_CALLERS:/etc/credstore/keyvault-gateway.GATEWAY_CALLERS"),
        ("LoadCredential", "AZURE_CLIENT_SECRET:/etc/credstore/keyvault-gateway.AZURE_CLIENT_SECRET"),
        ("SetCredential", "GATEWAY_KEY:\\n"),
        ("SetCredential", "GATEWAY_CALLERS:\\n"),
        ("SetCredential", "AZURE_CLIENT_SECRET:\\n"),
        ("LimitNOFILE", "4096"),
        ("LimitCORE", "0"),
        ("MemoryHigh", "192M"),
        ("MemoryMax", "256M"),
        ("MemorySwapMax", "0"),
        ("TasksMax", "64"),
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("ProtectProc", "invisible"),
        ("ProcSubset", "pid"),
        ("UMask", "0077"),
        ("RemoveIPC", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("PrivateUsers", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("RestrictRealtime", "yes"),
        ("LockPersonality", "yes"),
        ("KeyringMode", "private"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("SystemCallArchitectures", "native"),
        ("SystemCallFilter", "@system-service"),
        ("SystemCallFilter", "~@privileged @resources"),
        ("SystemCallErrorNumber", "EPERM"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SocketBindAllow", "ipv4:tcp:8080"),
        ("SocketBindDeny", "any"),
    ];
    assert_eq!(service, expected);
}

#[test]
fn the_stop_of_a_service_that_has_ended_is_no_failure() {
    let place = Place::new("systemd-stop");
    let stop = place.copy("deploy/systemd/stop.sh");
    // Linux numbers no process as high (proc(5), "pid_max").
    for process in [None, Some("4194305")] {
        let mut shell = Command::new("/bin/sh");
        let ran = shell.arg(&stop).args(process).output().unwrap();
        assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(0), ""), "{process:?}: {ran:?}");
    }
}

#[test]
fn the_shell_takes_every_script() {
    let scripts: Vec<_> = files("deploy").into_iter().filter(|it| it.ends_with(".sh")).collect();
    assert_eq!(scripts, ["deploy/systemd/start.sh", "deploy/systemd/stop.sh"]);
    for script in scripts {
        let checked = Command::new("/bin/sh").arg("-n").arg(root().join(&script)).output().unwrap();
        assert_eq!((checked.status.success(), text(&checked.stderr)), (true, ""), "{script}");
    }
}

/// What `wasmtime serve` is started with: each setting is named, and none has a value.
pub(crate) fn serve(address: &str, component: &str) -> Vec<String> {
    let options = format!(
        "serve --addr {address} --max-instance-reuse-count 1000000 --max-instance-concurrent-reuse-count 128 \
         --idle-instance-timeout 3600s --max-concurrent-requests 64 --no-logging-prefix -S cli -W max-memory-size=67108864 \
         -W timeout=30s"
    );
    let mut words: Vec<_> = options.split_whitespace().map(str::to_owned).collect();
    words.extend(documented_settings().into_iter().flat_map(|it| ["--env".to_owned(), it]));
    words.push(component.to_owned());
    words
}

/// The lines of a unit: section, name and value.
pub(crate) fn unit(file: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in read(file).lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else {
            let (name, value) = line.split_once('=').unwrap();
            lines.push((section.clone(), name.to_owned(), value.to_owned()));
        }
    }
    lines
}

/// A folder of a test's own, with programs that a script finds there.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deployments").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn copy(&self, script: &str) -> PathBuf {
        let copy = self.0.join(Path::new(script).file_name().unwrap());
        fs::copy(root().join(script), &copy).unwrap();
        copy
    }

    /// Another process writes it: a file that is open for writing anywhere cannot be run, and a process that another test
    /// starts in this moment would have it open.
    fn program(&self, name: &str, does: &str) {
        let script = format!("#!/bin/sh\n{does}\n");
        let write = "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"";
        let mut shell = Command::new("/bin/sh");
        let written = shell.args(["-c", write, "sh", &script]).arg(self.0.join(name)).status().unwrap();
        assert!(written.success());
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.0.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// Runs a script with these variables and no others, and with the programs of this place before all others.
    fn run(&self, script: &Path, environment: &[(&str, &str)]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.display());
        let mut shell = Command::new("/bin/sh");
        shell.arg(script).env_clear().env("PATH", path).envs(environment.iter().copied()).output().unwrap()
    }

    /// The lines that a script says.
    fn said_by(&self, script: &Path, environment: &[(&str, &str)]) -> Vec<String> {
        let ran = self.run(script, environment);
        assert_eq!((ran.status.success(), text(&ran.stderr)), (true, ""));
        text(&ran.stdout).lines().map(str::to_owned).collect()
    }
}
