//! What runs in containers: the image, the pods, what pods reach, and the app of Container Apps.

use serde_json::json;

use crate::files::{object, read, yaml_file};
use crate::scripts::serve;

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
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot",
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
    // The deployment safeguards of AKS raise requests below 100m and 100Mi.
    let resources = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}});
    assert_eq!(container["resources"], resources);
}

#[test]
fn pods_reach_names_the_vault_and_the_metadata_service_only() {
    let dns = json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}
        }, {"ipBlock": {"cidr": "169.254.10.10/31"}}],
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
fn the_app_of_container_apps_is_probed() {
    let bicep = read("deploy/container/container-app.bicep");
    let words: Vec<_> = bicep.split_whitespace().collect();
    let probes =
        words.windows(8).filter(|it| it[0] == "type:" && ["'Liveness'", "'Readiness'"].contains(&it[1]));
    let probes: Vec<_> = probes.map(|it| (it[1], it[5], it[7])).collect();
    assert_eq!(probes, [("'Liveness'", "'/healthz'", "8080"), ("'Readiness'", "'/readyz'", "8080")]);
}
