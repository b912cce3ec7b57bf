//! What `deploy/` has to copy is right, as far as that can be seen without Azure and without a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

#[test]
fn the_functions_host_starts_the_handler_and_forwards_requests_as_they_are() {
    let host = json!({
        "version": "2.0",
        "customHandler": {
            "description": {"defaultExecutablePath": "/bin/sh", "arguments": ["start.sh"]},
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
fn the_custom_handler_listens_on_loopback_at_the_port_of_the_functions_host() {
    let place = Place::new("functions");
    let start = place.copy("deploy/functions/start.sh");
    place.program("wasmtime", "printf '%s\\n' \"$@\"");
    let environment = [("FUNCTIONS_CUSTOMHANDLER_PORT", "41000"), ("MSI_SECRET", "from the place")];
    let arguments = place.said_by(&start, &environment);
    assert_eq!(arguments, serve("127.0.0.1:41000", "service.wasm"));
}

#[test]
fn the_custom_handler_does_not_start_without_a_port() {
    let place = Place::new("functions-without-a-port");
    let start = place.copy("deploy/functions/start.sh");
    place.program("wasmtime", "echo started");
    let ran = place.run(&start, &[]);
    assert_eq!((ran.status.success(), text(&ran.stdout)), (false, ""));
}

#[test]
fn the_service_listens_on_loopback_and_names_no_value() {
    let place = Place::new("systemd");
    let start = place.copy("deploy/systemd/start.sh");
    place.program("wasmtime", "printf '%s\\n' \"$@\"");
    let arguments = place.said_by(&start, &[("GATEWAY_KEY", "from the place")]);
    assert_eq!(arguments, serve("127.0.0.1:8080", "/usr/local/lib/keyvault-gateway/service.wasm"));
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
        ("LoadCredential", "GATEWAY_KEY:keyvault-gateway.GATEWAY_KEY"),
        ("LoadCredential", "GATEWAY_CALLERS:keyvault-gateway.GATEWAY_CALLERS"),
        ("LoadCredential", "AZURE_CLIENT_SECRET:keyvault-gateway.AZURE_CLIENT_SECRET"),
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
fn the_shell_takes_every_script() {
    let scripts: Vec<_> = files("deploy").into_iter().filter(|it| it.ends_with(".sh")).collect();
    assert_eq!(scripts, ["deploy/functions/start.sh", "deploy/systemd/start.sh", "deploy/systemd/stop.sh"]);
    for script in scripts {
        let checked = Command::new("/bin/sh").arg("-n").arg(root().join(&script)).output().unwrap();
        assert_eq!((checked.status.success(), text(&checked.stderr)), (true, ""), "{script}");
    }
}

#[test]
fn the_image_runs_as_nobody_and_its_host_has_a_hash() {
    let containerfile = read("deploy/container/Containerfile").replace("\\\n", "");
    let instruction = |name: &str| -> Vec<String> {
        let lines = containerfile.lines().filter_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(instruction("USER"), ["65532:65532"]);
    assert_eq!(instruction("STOPSIGNAL"), ["SIGINT"]);
    assert_eq!(instruction("EXPOSE"), ["8080"]);
    // Without a default, nobody builds it with a hash that they have not looked up.
    assert_eq!(
        instruction("ARG"),
        [
            "BUILD_IMAGE=docker.io/library/rust:1.95.0-bookworm",
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot",
            "WASMTIME_VERSION=48.0.8",
            "TARGETARCH=amd64",
            "WASMTIME_SHA256",
        ]
    );
    assert_eq!(instruction("FROM").last().unwrap(), "${RUNTIME_IMAGE}");
    let [entrypoint] = instruction("ENTRYPOINT").try_into().unwrap();
    let words: Vec<String> = serde_json::from_str(&entrypoint).unwrap();
    let (program, arguments) = words.split_first().unwrap();
    assert_eq!(program, "/usr/local/bin/wasmtime");
    assert_eq!(arguments, serve("0.0.0.0:8080", "/service.wasm"));
}

#[test]
fn the_image_has_the_hosts_version_and_the_toolchain_of_the_tests() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let wasmtime = packages.iter().find(|it| it["name"].as_str() == Some("wasmtime-cli")).unwrap();
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let containerfile = read("deploy/container/Containerfile");
    for line in [
        format!("ARG WASMTIME_VERSION={}", wasmtime["version"].as_str().unwrap()),
        format!(
            "ARG BUILD_IMAGE=docker.io/library/rust:{}-bookworm",
            toolchain["toolchain"]["channel"].as_str().unwrap()
        ),
    ] {
        assert_eq!(containerfile.lines().filter(|it| *it == line).count(), 1, "{line}");
    }
}

#[test]
fn the_pods_are_shut_in_and_are_probed() {
    let objects = yaml_file("deploy/container/kubernetes.yaml");
    let account = object(&objects, "ServiceAccount");
    let deployment = object(&objects, "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let [container] = pod["containers"].as_array().unwrap().as_slice() else { panic!("one container") };
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"}
        })
    );
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}
        })
    );
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 8080}]));
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/healthz", "port": "http"}));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/readyz", "port": "http"}));
    assert_eq!(container["resources"]["limits"], json!({"memory": "256Mi"}));
}

#[test]
fn pods_reach_names_the_vault_and_the_metadata_service_only() {
    let dns = json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    });
    let vault = json!({
        "to": [{"ipBlock": {
            "cidr": "0.0.0.0/0",
            "except": ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
        }}],
        "ports": [{"protocol": "TCP", "port": 443}]
    });
    let tokens = json!({
        "to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}],
        "ports": [{"protocol": "TCP", "port": 80}]
    });
    for (file, label, port) in [
        ("deploy/container/kubernetes.yaml", "app.kubernetes.io/name", json!(8080)),
        ("deploy/spinkube/keyvault-gateway.yaml", "core.spinkube.dev/app-name", json!("http-app")),
    ] {
        let spec = json!({
            "podSelector": {"matchLabels": {label: "keyvault-gateway"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{
                "from": [{"namespaceSelector": {"matchLabels": {"keyvault-gateway/caller": "true"}}}],
                "ports": [{"protocol": "TCP", "port": port}]
            }],
            "egress": [dns, vault, tokens]
        });
        assert_eq!(object(&yaml_file(file), "NetworkPolicy")["spec"], spec, "{file}");
    }
}

#[test]
fn the_spin_app_has_several_replicas_and_probes_that_cost_no_token() {
    let objects = yaml_file("deploy/spinkube/keyvault-gateway.yaml");
    let app = object(&objects, "SpinApp");
    assert_eq!(app["apiVersion"], "core.spinkube.dev/v1alpha1");
    assert_eq!(app["spec"]["executor"], "containerd-shim-spin");
    // The operator takes a number of replicas for an autoscaler's that is not there.
    assert_eq!((&app["spec"]["enableAutoscaling"], app["spec"].get("replicas")), (&json!(true), None));
    let probe = json!({
        "httpGet": {"path": "/healthz"},
        "initialDelaySeconds": 2,
        "periodSeconds": 10,
        "timeoutSeconds": 2
    });
    assert_eq!(app["spec"]["checks"], json!({"liveness": probe, "readiness": probe}));
    let scaler = object(&objects, "HorizontalPodAutoscaler");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": app["metadata"]["name"]});
    assert_eq!(scaler["spec"]["scaleTargetRef"], target);
    assert_eq!((&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]), (&json!(3), &json!(10)));
}

#[test]
fn every_variable_of_a_deployment_is_a_setting() {
    let settings = documented_settings();
    let unit = unit("deploy/systemd/keyvault-gateway.service");
    let credentials = unit
        .iter()
        .filter(|it| it.1 == "LoadCredential")
        .map(|it| it.2.split_once(':').unwrap().0.to_owned());
    let example = read("deploy/systemd/settings.env");
    let example =
        example.lines().filter_map(|it| Some(it.trim_start_matches('#').split_once('=')?.0.to_owned()));
    let pods = yaml_file("deploy/container/kubernetes.yaml");
    let pods = object(&pods, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let bicep = read("deploy/container/container-app.bicep");
    for (place, names) in [
        ("credentials", credentials.collect()),
        ("settings.env", example.collect()),
        ("kubernetes.yaml", names(&pods)),
        ("container-app.bicep", bicep_environment(&bicep)),
    ] {
        let unknown: Vec<_> = names.iter().filter(|it| !settings.contains(*it)).collect();
        assert_eq!((names.is_empty(), unknown), (false, vec![]), "{place}");
    }
}

#[test]
fn every_variable_of_the_spin_app_is_one_of_the_manifest() {
    let app = object(&yaml_file("deploy/spinkube/keyvault-gateway.yaml"), "SpinApp");
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let declared = manifest["variables"].as_table().unwrap();
    let settings: BTreeSet<_> = documented_settings().iter().map(|it| lower_snake(it)).collect();
    let given = names(&app["spec"]["variables"]);
    assert_eq!(
        given,
        ["key_vault_uri", "identity_source", "azure_client_id", "gateway_key", "gateway_callers"]
    );
    let unknown: Vec<_> =
        given.iter().filter(|it| !(declared.contains_key(*it) && settings.contains(*it))).collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[test]
fn what_is_secret_comes_from_a_secret() {
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let variables = manifest["variables"].as_table().unwrap();
    let is_secret = |name: &str| variables[&lower_snake(name)].get("secret").is_some();
    let pods = yaml_file("deploy/container/kubernetes.yaml");
    let pods = object(&pods, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let spin =
        object(&yaml_file("deploy/spinkube/keyvault-gateway.yaml"), "SpinApp")["spec"]["variables"].clone();
    for variables in [pods, spin] {
        let secret =
            variables.as_array().unwrap().iter().filter(|it| is_secret(it["name"].as_str().unwrap()));
        let secret: Vec<_> = secret.map(|it| (&it["valueFrom"], it.get("value"))).collect();
        let key =
            json!({"secretKeyRef": {"name": "keyvault-gateway", "key": "GATEWAY_KEY", "optional": true}});
        assert_eq!(secret, [(&key, None)]);
    }
    let bicep = read("deploy/container/container-app.bicep");
    let key: Vec<_> =
        bicep.lines().skip_while(|it| it.trim() != "name: 'GATEWAY_KEY'").take(2).map(str::trim).collect();
    assert_eq!(key, ["name: 'GATEWAY_KEY'", "secretRef: 'gateway-key'"]);
}

#[test]
fn the_vault_is_read_with_one_role_and_keeps_what_is_deleted() {
    let bicep = read("deploy/azure/vault.bicep");
    for line in [
        "var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'",
        "enableRbacAuthorization: true",
        "enablePurgeProtection: true",
        "enableSoftDelete: true",
        "roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)",
        "category: 'AuditEvent'",
    ] {
        assert_eq!(bicep.lines().filter(|it| it.trim() == line).count(), 1, "{line}");
    }
    assert_eq!(bicep.matches("Microsoft.Authorization/roleAssignments@").count(), 1);
}

#[test]
fn every_parameter_and_output_of_a_template_is_described() {
    let templates: Vec<_> = files("deploy").into_iter().filter(|it| it.ends_with(".bicep")).collect();
    assert_eq!(templates, ["deploy/azure/vault.bicep", "deploy/container/container-app.bicep"]);
    for template in templates {
        let text = read(&template);
        // What belongs together stands together, with an empty line before and after it.
        let declared = text
            .split("\n\n")
            .filter(|it| it.lines().any(|it| it.starts_with("param ") || it.starts_with("output ")));
        let bare: Vec<_> = declared.filter(|it| !it.starts_with("@description('")).collect();
        assert_eq!(bare, Vec::<&str>::new(), "{template}");
    }
}

#[test]
fn the_app_of_container_apps_is_probed() {
    let bicep = read("deploy/container/container-app.bicep");
    let words: Vec<_> = bicep.split_whitespace().collect();
    let probes =
        words.windows(8).filter(|it| it[0] == "type:" && ["'Liveness'", "'Readiness'"].contains(&it[1]));
    let probes: Vec<_> = probes.map(|it| (it[1], it[5], it[7])).collect();
    assert_eq!(probes, [("'Liveness'", "'/healthz'", "8080"), ("'Readiness'", "'/readyz'", "8080")]);
}

#[test]
fn no_file_has_what_looks_like_a_secret() {
    let places = ["deploy", "docs/deploy"];
    let found: Vec<_> = places
        .iter()
        .flat_map(|it| files(it))
        .flat_map(|file| secrets(&read(&file)).into_iter().map(move |it| (file.clone(), it)))
        .collect();
    assert_eq!(found, []);
}

#[test]
fn what_looks_like_a_secret_is_seen() {
    // Made of pieces, so that scanners of secrets have nothing to find here.
    let token = format!("ey{}", "J0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9");
    let key = "q7Xv".repeat(10) + "Zt8Q==";
    let hexadecimal = "9f86d081".repeat(4);
    let private = format!("-----BEGIN {} KEY-----", "PRIVATE");
    for (text, expected) in [
        (token.as_str(), vec![token.clone()]),
        (&format!("GATEWAY_KEY={hexadecimal}"), vec![hexadecimal.clone()]),
        (&format!("key: \"{key}\""), vec![key.trim_end_matches('=').to_owned()]),
        (&private, vec![private.clone()]),
        (
            "IDENTITY_RESOURCE_ID, 4633458b-17de-408a-b874-0445c86b69e6, Microsoft.Authorization/roleDefinitions",
            vec![],
        ),
    ] {
        assert_eq!(secrets(text), expected, "{text}");
    }
}

/// What `wasmtime serve` is started with: each setting is named, and none has a value.
fn serve(address: &str, component: &str) -> Vec<String> {
    let options = format!(
        "serve --addr {address} --max-instance-reuse-count 1000000 --max-instance-concurrent-reuse-count 128 \
         --idle-instance-timeout 3600s --no-logging-prefix -S cli -W max-memory-size=67108864"
    );
    let mut words: Vec<_> = options.split_whitespace().map(str::to_owned).collect();
    words.extend(documented_settings().into_iter().flat_map(|it| ["--env".to_owned(), it]));
    words.push(component.to_owned());
    words
}

/// The settings of the first column of the tables, in the order of the document's first mention of each.
fn documented_settings() -> Vec<String> {
    let document = read("docs/settings.md");
    let mut settings = Vec::new();
    let rows = document.lines().filter_map(|it| it.strip_prefix("| ")?.split(" | ").next());
    for name in rows.flat_map(|it| it.split('`')).filter(|it| is_setting(it)) {
        if !settings.iter().any(|it| it == name) {
            settings.push(name.to_owned());
        }
    }
    settings
}

fn is_setting(text: &str) -> bool {
    text == "KeyVaultUri"
        || (text.contains('_') && text.bytes().all(|it| it.is_ascii_uppercase() || it == b'_'))
}

fn lower_snake(name: &str) -> String {
    if name == "KeyVaultUri" { "key_vault_uri".to_owned() } else { name.to_ascii_lowercase() }
}

fn names(variables: &Value) -> Vec<String> {
    variables.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// The names in the list `env` of a template: the lines between it and the probes.
fn bicep_environment(template: &str) -> Vec<String> {
    let (_, rest) = template.split_once(" env: ").unwrap();
    let (list, _) = rest.split_once(" probes: ").unwrap();
    list.lines()
        .filter_map(|it| Some(it.trim().strip_prefix("name: '")?.strip_suffix('\'')?.to_owned()))
        .collect()
}

/// The runs of characters that are too long and too varied for a word: 32 hexadecimal digits, or 40 characters of base64 with
/// digits, capitals and small letters; the start of a token of Entra ID; a private key.
fn secrets(text: &str) -> Vec<String> {
    let in_base64 = |it: char| it.is_ascii_alphanumeric() || "+/".contains(it);
    let runs = text.split(|it: char| !in_base64(it)).filter(|run| {
        let hexadecimal = run.len() >= 32 && run.bytes().all(|it| it.is_ascii_hexdigit());
        let has = |kind: fn(&u8) -> bool| run.bytes().any(|it| kind(&it));
        let varied = has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
        hexadecimal || (run.len() >= 40 && varied) || (run.len() >= 20 && run.starts_with("eyJ"))
    });
    let keys = text.lines().filter(|it| it.contains("-----BEGIN ") && it.contains("PRIVATE"));
    runs.chain(keys).map(str::to_owned).collect()
}

/// The lines of a unit: section, name and value.
fn unit(file: &str) -> Vec<(String, String, String)> {
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

/// The one object of this kind.
fn object(objects: &[Value], kind: &str) -> Value {
    let [object] = objects.iter().filter(|it| it["kind"] == kind).collect::<Vec<_>>().try_into().unwrap();
    Value::clone(object)
}

fn json_file(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

fn yaml_file(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(file)).unwrap()
}

/// Every file below a folder, in order.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found.iter().map(|it| it.to_str().unwrap().to_owned()).collect()
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
        let copy = self.0.join("start.sh");
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

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
