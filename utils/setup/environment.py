"""Make an environment ready, once: `python3 utils/setup/environment.py [work|site|audit]`; work is .venv.

Standard library only, in a syntax that an old Python can read: it has to say in one sentence what is missing.
"""

import argparse
import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 13)
ENVIRONMENTS = {  # by name: the folder, its requirements, and the GB of disk that they need
    "work": (".venv", "requirements.txt", 4),
    "site": (".venv-site", "requirements-site.txt", 0.5),
    "audit": (".venv-audit", "requirements-audit.txt", 0.5),
}
UNREACHABLE = re.compile(  # what pip says where it reaches no package index
    "NewConnectionError|ConnectTimeout|Connection refused|Temporary failure in name resolution"
    r"|ProxyError|SSLError|\(from versions: none\)"
)
# uv reads none of pip's settings. These it knows by another name; HARMLESS ones change nothing installed.
FOR_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
HARMLESS = {"break-system-packages", "cache-dir", "disable-pip-version-check", "no-cache-dir", "no-color"}
HARMLESS |= {"no-input", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv", "retries"}
HARMLESS |= {"root-user-action", "verbose"}


def fail(message):
    """Stop with one sentence and no traceback."""
    sys.exit("Set-up stopped: " + message)


def check_python(version):
    """Stop where this Python is older or newer than what the requirements support."""
    if not OLDEST <= tuple(version) <= NEWEST:
        fault = "Python {}.{} runs this, but 3.11, 3.12 or 3.13 is needed".format(*version)
        fail(f"{fault}. Name one of them: make run PYTHON=python3.12")


def fingerprint(requirements):
    """Return two lines: this Python, and a digest of the requirements. A change of either installs anew."""
    digest = hashlib.sha256()
    for name in (requirements, "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return f"{sys.version.split()[0]}\n{digest.hexdigest()}\n"


def explain(errors):
    """Turn the installer's error output into one sentence that says what to do."""
    if "No space left on device" in errors:
        needed = "about 10 GB (with CUDA, PyTorch alone takes half of that)"
        return f"the disk is full. Free {needed} and run the same command again."
    lines = [line.strip() for line in errors.splitlines() if "ERROR" in line]
    lines = lines or errors.strip().splitlines() or ["pip said nothing"]
    if UNREACHABLE.search(errors):
        fault = f"the package index could not be reached ({lines[0]})"
        return f"{fault}. Check the network or pip's configuration and run the same command again."
    return f"pip failed ({lines[-1]}). Run the same command again; if it persists, run `make clean` first."


def make(folder):
    """Make an empty environment, in the place of whatever is there."""
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        remedy = "on Debian and Ubuntu, `apt-get install python3-venv` brings it"
        answer = (made.stdout.strip().splitlines() or ["nothing"])[-1]
        fail(f"python -m venv failed; {remedy}. It said: {answer}")


def uv_settings(listing):
    """Return what `pip config list` says as uv's environment variables, and the names that uv lacks."""
    found = {}
    for place in ("global", "install", ":env:"):  # a later one wins
        for name, value in re.findall("^" + place + r"\.(\S+?)=(.*)$", listing, flags=re.MULTILINE):
            found[name] = " ".join(ast.literal_eval(value).split())
    # pip takes the newest version of all indexes; uv by itself that of the first index which has any
    settings = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    settings.update({FOR_UV[name]: value for name, value in found.items() if name in FOR_UV})
    return settings, sorted(set(found) - set(FOR_UV) - HARMLESS)


def install(python, arguments, pinned=True):
    """Install with uv, in a fifth of pip's time; with pip where uv cannot be had, set up or used."""
    pip = [str(python), "-m", "pip"]
    listing = subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE, text=True).stdout
    settings, unknown = uv_settings(listing)
    pip += ["install", "--quiet", "--disable-pip-version-check", "--retries=3"]
    pins = ["--constraint", str(ROOT / "constraints.txt")] if pinned else []
    if unknown:
        reason = "it does not know pip's setting " + ", ".join(unknown)
    elif subprocess.run([*pip, "uv", *pins], stderr=subprocess.DEVNULL).returncode:
        reason = "pip cannot get it"
    else:
        command = [str(python), "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
        environment = {"UV_SYSTEM_CERTS": "1", **settings, **os.environ}  # what is set for uv itself wins
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):  # or every process would compile all that it imports
            command.append("--compile-bytecode")
        command += [*arguments, *pins]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment)
        if not result.returncode or "No space left on device" in result.stderr:
            return result
        reason = (result.stderr.strip().splitlines() or ["it says nothing"])[0]
    print(f"Without uv, because {reason}: pip installs instead, and takes longer ...", flush=True)
    return subprocess.run([*pip, *arguments, *pins], stderr=subprocess.PIPE, text=True)


def main(name="work"):
    """Create the environment and install into it, unless that was done for these requirements already."""
    check_python(sys.version_info[:2])
    folder_name, requirements, needed = ENVIRONMENTS[name]
    folder = ROOT / folder_name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "ready"
    now = fingerprint(requirements)
    before = stamp.read_text() if python.exists() and stamp.exists() else ""
    if before == now:
        return
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < needed:
        fail(f"the disk has {free:.1f} GB free and the packages need about {needed}. Free some space.")
    print(f"Installing the packages into {folder_name}; once, and it takes a few minutes ...", flush=True)
    if before.split("\n")[0] == now.split("\n")[0]:
        stamp.unlink()
    else:  # none yet, half made, or made by another Python
        make(folder)
    arguments = ["--requirement", str(ROOT / requirements)]
    if name == "work":
        arguments += ["--editable", str(ROOT)]  # so that `import utils` works in every folder
    installed = install(python, arguments)
    if installed.returncode:
        fail(explain(installed.stderr))
    stamp.write_text(now)  # last: an interrupted set-up is done again


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(ENVIRONMENTS)
    parser.add_argument("name", nargs="?", default="work", choices=names, help="default: %(default)s")
    main(parser.parse_args().name)
