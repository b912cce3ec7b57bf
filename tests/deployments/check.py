"""Holds the text on standard input against the schemas of Kubernetes, or against the grammar of Bicep.

    check.py kubernetes 1.30 1.37    a line for each version and object, which ends with what is wrong with the object
    check.py bicep                   a line if the grammar does not take the text
"""

import sys

import kubernetes_validate
import lark
import pycep
import yaml


def kubernetes(text, version):
    for thing in yaml.safe_load_all(text):
        # It has no schema of what others define.
        if thing["apiVersion"].startswith("core.spinkube.dev/"):
            continue
        try:
            # It takes the schemas of an older version for those of one that it does not have.
            taken = kubernetes_validate.validate(thing, version, strict=True)
            wrong = "" if taken == version else f" has no schemas but those of {taken}"
        except kubernetes_validate.ValidationError as problem:
            wrong = f" {'.'.join(map(str, problem.path))}: {problem.message}"
        except kubernetes_validate.SchemaNotFoundError:
            wrong = f" there is no such kind in {thing['apiVersion']}"
        print(f"{version} {thing['kind']}{wrong}")


def bicep(text):
    try:
        pycep.BicepParser().parse(text=text)
    except lark.exceptions.LarkError as problem:
        print(str(problem).splitlines()[0])


what, *versions = sys.argv[1:]
text = sys.stdin.read()
if what == "bicep":
    bicep(text)
else:
    for version in versions:
        kubernetes(text, version)
