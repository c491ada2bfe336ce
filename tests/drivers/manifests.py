"""Whether Kubernetes would take these manifests: every field by the schemas of kubernetes-validate, which has them offline.

Prints one line for each object, and writes every file of every ConfigMap into the folder that is named first, as
`<manifest>/<name of the ConfigMap>/<file>`.
"""

import pathlib
import sys

import kubernetes_validate
import yaml

# The versions that are looked at: native sidecars are on without a gate from 1.29 on.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]

out = pathlib.Path(sys.argv[1])
for manifest in map(pathlib.Path, sys.argv[2:]):
    for document in yaml.safe_load_all(manifest.read_text()):
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
        name = document["metadata"]["name"]
        print(manifest.name, document["kind"], name)
        if document["kind"] == "ConfigMap":
            folder = out / manifest.name / name
            folder.mkdir(parents=True)
            for file, text in document["data"].items():
                (folder / file).write_text(text)
