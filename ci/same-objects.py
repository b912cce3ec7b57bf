#!/usr/bin/env python3
"""Compares the Kubernetes objects of two YAML files. What only Helm adds does not count. Needs PyYAML."""

import difflib
import json
import sys

import yaml

HELM_LABELS = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}
# The API server adds these to an object without them.
DEFAULTS = [("imagePullPolicy", "IfNotPresent"), ("type", "ClusterIP")]


def without_helm(value):
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if name not in HELM_LABELS}
        return {name: without_helm(inner) for name, inner in kept.items() if (name, inner) not in DEFAULTS}
    return [without_helm(inner) for inner in value] if isinstance(value, list) else value


def lines(file):
    with open(file, encoding="utf-8") as text:
        objects = [without_helm(each) for each in yaml.safe_load_all(text) if each]
    objects.sort(key=lambda each: (each["kind"], each["metadata"]["name"]))
    return json.dumps(objects, indent=1, sort_keys=True).splitlines()


first, second = sys.argv[1:]
before, after = lines(first), lines(second)
difference = list(difflib.unified_diff(before, after, first, second, lineterm="", n=8))
if difference or len(before) < 10:
    sys.exit("\n".join(["the objects differ", *difference]))
