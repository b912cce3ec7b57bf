#!/usr/bin/env bash
# Lints the Helm chart, validates the objects of the chart and of kustomize, and checks that both make the same ones. Needs helm,
# kubectl, kubeconform, and Python with PyYAML.
set -euo pipefail
cd "$(dirname "$0")/.."
chart=deploy/helm/keyvault-gateway
out="$(mktemp -d)"
trap 'rm -r "$out"' EXIT

for values in "$chart"/ci/*-values.yaml; do
  helm lint --strict "$chart" --values "$values"
  helm template keyvault-gateway "$chart" --namespace keyvault-gateway --kube-version 1.34.0 --values "$values" \
    > "$out/$(basename "$values")"
done
# Values that are misspelled, out of range, or set twice must be refused.
issuer='oidc[0].issuer=https://oidc.example,oidc[0].audience'
for wrong in settings.GATEWAY_CACHE_TTL=600 settings.GATEWAY_DEADLINE_SECONDS=0 replica=2 settings.IDENTITY_SOURCE=imds vaultUri= \
  "$issuer=https://kubernetes.default.svc" "$issuer=my-gateway,oidc[0].issuer=http://oidc.example" \
  'callers[0].name=app,callers[0].secrets={*},callers[0].iss=https://oidc.example'; do
  if helm template keyvault-gateway "$chart" --kube-version 1.34.0 --values "$chart/ci/default-values.yaml" --set "$wrong" \
    > /dev/null 2>&1; then
    echo "the chart accepts $wrong" >&2
    exit 1
  fi
done

for overlay in deploy/kustomize/base deploy/kustomize/example ci/kustomize; do
  kubectl kustomize "$overlay" > "$out/$(basename "$overlay").yaml"
done

for version in 1.30.0 1.34.0; do
  kubeconform -strict -summary -kubernetes-version "$version" -skip SpinApp,SpinAppExecutor,PodMonitor,PrometheusRule \
    "$out"/*.yaml deploy/container/kubernetes.yaml deploy/spinkube/keyvault-gateway.yaml
done

ci/same-objects.py "$out/default-values.yaml" "$out/base.yaml"
helm template keyvault-gateway "$chart" --namespace keyvault-gateway --kube-version 1.34.0 --values "$chart/ci/default-values.yaml" \
  --set autoscaling.enabled=true,podMonitor.enabled=true,prometheusRule.enabled=true > "$out/all.yaml"
ci/same-objects.py "$out/all.yaml" "$out/kustomize.yaml"
