#!/usr/bin/env python3
"""Writes the software bill of materials of a program to standard output: CycloneDX 1.5, JSON.

    packaging/sbom.py [--package tandem] [--target TRIPLE] [--features NAMES] [--offline] > tandem.cdx.json

The components are the crates that the program contains (normal dependencies) or that built it (build dependencies), for one
target. Crates that only tests use, or that only a feature adds which is off, are not listed: `cargo tree` says which crates the
program has. The data comes from `cargo metadata --locked`, the SHA-256 sums from Cargo.lock. The output is the same for the same
source: its time is SOURCE_DATE_EPOCH, or the time of the last commit.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def host():
    return next(line.split()[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host:"))


def checksums():
    """SHA-256 of each crate's archive, by name and version."""
    with open(ROOT / "Cargo.lock", "rb") as lock:
        return {(crate["name"], crate["version"]): crate["checksum"] for crate in tomllib.load(lock)["package"] if "checksum" in crate}


def used(program, options, edges):
    """Name and version of each crate of the program. `cargo metadata` alone would also list what other members of the workspace add."""
    lines = output("cargo", "tree", "--package", program, "--edges", edges, "--prefix", "none", "--format", "{p}", *options).splitlines()
    # Such as: serde v1.0.228 (proc-macro) (*)
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line.strip()}


def dependencies_of(node, packages, needed):
    """The normal and build dependencies of a crate that the program has."""
    for dependency in node["deps"]:
        wanted = {kind["kind"] for kind in dependency["dep_kinds"]} - {"dev"}
        if wanted and key(packages[dependency["pkg"]]) in needed:
            yield purl(packages[dependency["pkg"]])


def key(package):
    return package["name"], package["version"]


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def licences(package):
    text = package["license"]
    # Old crates separate alternatives with a slash, which is no SPDX expression.
    return [{"expression": text.replace("/", " OR ")}] if text else [{"license": {"name": f"see {package['license_file'] or 'the source'}"}}]


def component(package, sums, contained):
    entry = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if contained else "excluded",
        "licenses": licences(package),
        "purl": purl(package),
    }
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if checksum := sums.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["source"] not in (None, CRATES_IO):
        entry["properties"] = [{"name": "cargo:source", "value": package["source"]}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def moment():
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or output("git", "log", "-1", "--format=%ct").strip()
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="tandem", help="the package of the program (default: %(default)s)")
    parser.add_argument("--target", default=None, help="default: this machine's")
    parser.add_argument("--features", default="", help="Cargo features of the build, in addition to the default ones")
    parser.add_argument("--offline", action="store_true", help="use only crates that are on this machine")
    arguments = parser.parse_args()
    target = arguments.target or host()
    options = ["--locked"] + (["--features", arguments.features] if arguments.features else []) + (["--offline"] if arguments.offline else [])
    metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--filter-platform", target, *options))
    contained, needed = (used(arguments.package, ["--target", target, *options], edges) for edges in ("normal", "normal,build"))

    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    program = next(id for id in metadata["workspace_members"] if packages[id]["name"] == arguments.package)
    crates = sorted((id for id in nodes if id != program and key(packages[id]) in needed), key=lambda id: key(packages[id]))
    sums = checksums()
    components = [component(packages[id], sums, key(packages[id]) in contained) for id in crates]
    dependencies = [
        {"ref": purl(packages[id]), "dependsOn": sorted(set(dependencies_of(nodes[id], packages, needed)))} for id in [program, *crates]
    ]
    main_component = component(packages[program], sums, True) | {"type": "application"}
    # Not in the metadata of the main component: CycloneDX gives a scope only to components.
    del main_component["scope"]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": moment(),
            "tools": {"components": [{"type": "application", "name": "packaging/sbom.py", "version": packages[program]["version"]}]},
            "component": main_component,
        },
        "components": components,
        "dependencies": dependencies,
    }
    # The same content has the same serial number.
    bom = {"serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)).urn} | bom
    json.dump(bom, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


main()
