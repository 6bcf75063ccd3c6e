"""Run the tests with other versions: `make test-matrix`, or `make test-matrix ENVS="colab newest"
TESTS=tests/reading`.

    colab    what a Colab runtime has (tests/tools/colab-versions.txt), without JupyterLab. First, with
             nothing else, all notebooks as Colab runs them
             (tests/tools/colab.py); then the tests. `make colab`, which is TESTS=none, stops before the tests
    lowest   the lowest versions that requirements.txt allows; PyTorch is that of constraints.txt
    pinned   constraints.txt
    newest   the newest of everything, upper bounds ignored: whether it fails is said at the end, and does not
             count

Each environment is made anew in runs/matrix/ (Colab's in a folder that goes away again), with what was said
in a log there. Whatever runs this runs the
tests. Standard library only.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "runs" / "matrix"
SHOWN = ("transformers", "datasets", "torch", "pandas", "ipywidgets")
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""
NOT_HERE = ["--ignore=tests/project/test_site.py"]  # the site has an environment of its own


def requirements(name: str) -> list[str]:
    """Return the requirements of an environment, as pip reads them."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.split("#")[0].strip() for line in lines if line[:1].isalnum()]
    if name == "newest":
        return [re.sub(r",?<[\w.]+", "", requirement) for requirement in wanted]
    if (
        name == "colab"
    ):  # Colab's versions may be below our bounds, which are those of a local JupyterLab; exact ones stay
        names = [
            requirement if "==" in requirement else re.split(r"[!<>=]", requirement)[0]
            for requirement in wanted
        ]
        return [requirement for requirement in names if requirement != "jupyterlab"]
    return wanted


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def colab_versions() -> dict[str, str]:
    """Return what a Colab runtime has: the version by the package's name."""
    lines = (ROOT / "tests" / "tools" / "colab-versions.txt").read_text(encoding="utf-8").splitlines()
    return {name_of(line): line.partition("==")[2] for line in lines if line and not line.startswith("#")}


def what_colab_has() -> list[str]:
    """Return what a notebook finds in Colab before its first cell: those of our requirements that a runtime
    has, and what requirements-colab.txt builds on.
    """
    names = [*requirements("colab"), "sentence-transformers", "SQLAlchemy", "Mako", "tenacity"]
    names += ["flatbuffers", "ml_dtypes"]  # what 07 installs builds on them
    return [requirement for requirement in names if name_of(requirement) in colab_versions()]


def constraints(name: str) -> list[str]:
    """Return the versions that pip has to keep to in an environment."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pytorch = [line for line in pinned if line.startswith("torch==")]
    if (
        name == "colab"
    ):  # PyPI has no PyTorch for Colab's CUDA: we take the one that we test, with what belongs to it
        colab = [f"{package}=={version}" for package, version in colab_versions().items()]
        others = r"nvidia-|cuda-|triton|setuptools|.*\+"
        return [line for line in colab if not re.match(others, line)] + pytorch
    if name == "lowest":
        return pytorch
    return pinned if name == "pinned" else []


ENVIRONMENTS = ("colab", "lowest", "pinned", "newest")
WITHOUT = {"colab": ["--ignore=tests/notebooks/test_browser.py"]}  # these tests drive JupyterLab


def run(command, log, **environment) -> None:
    """Run a command, its output going to the log.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    log.write(f"\n$ {' '.join(map(str, command))}\n")
    log.flush()
    subprocess.run(
        command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ | environment, check=True
    )


def try_out(name: str, tests: str) -> dict:
    """Make an environment and run the tests in it; return a row of the table."""
    began = time.monotonic()
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    (FOLDER / name).mkdir(parents=True)
    row = {"environment": name, "python": sys.version.split()[0], "result": "passed", "tests": ""}
    folder = FOLDER / name
    with (FOLDER / f"{name}.log").open("w", encoding="utf-8") as log:
        scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")

        def install(packages: list[str]) -> None:
            (wanted := FOLDER / name / "requirements.txt").write_text(
                "\n".join(packages) + "\n", encoding="utf-8"
            )
            (versions := FOLDER / name / "constraints.txt").write_text(
                "\n".join(constraints(name)) + "\n", encoding="utf-8"
            )
            if name == "lowest":  # uv resolves so, pip does not
                sys.path.insert(0, str(ROOT))  # here, for colab.py has to find no `utils`
                from utils.setup import environment

                how = ["--requirement", str(wanted), "--constraint", str(versions)]
                how += ["--resolution", "lowest-direct"]
                done = environment.install(scripts / "python", how, pinned=False)
                log.write(done.stderr)
                return done.check_returncode()
            command = [scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            return run([*command, "--requirement", wanted, "--constraint", versions], log)

        try:
            stage = "installing"
            run([sys.executable, "-m", "venv", folder / "venv"], log)
            if name == "colab" and tests in ("tests", "none"):
                install(what_colab_has())
                stage = "as Colab"
                subprocess.run(
                    [scripts / "python", "tests/tools/colab.py"], cwd=ROOT, check=True
                )  # says on the screen how it goes
                stage = "installing"
            install(requirements(name))
            run([scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--editable", ROOT], log)
            row |= json.loads(subprocess.check_output([scripts / "python", "-c", VERSIONS, *SHOWN]))
            if tests != "none":
                stage = "data"
                run([scripts / "python", "-m", "utils.reading.bundled"], log)
                stage = "tests"
                options = " ".join([*NOT_HERE, *WITHOUT.get(name, [])])
                where = scripts.relative_to(ROOT) if scripts.is_relative_to(ROOT) else scripts
                run(
                    ["make", "--no-print-directory", "suite", f"BIN={where.as_posix()}", f"TESTS={tests}"],
                    log,
                    PYTEST_ADDOPTS=options,
                )
        except subprocess.CalledProcessError:
            row["result"] = f"FAILED ({stage})"
    text = (FOLDER / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    row["tests"] = (
        "; ".join(
            re.findall(
                r"^=* *((?:\d+ (?:passed|failed|skipped|errors?|warnings?)(?:, )?)+) in ", text, flags=re.M
            )
        )
        or "none"
    )
    row["minutes"] = f"{(time.monotonic() - began) / 60:.1f}"
    if row["result"] != "passed":
        print(*text.splitlines()[-40:], sep="\n", flush=True)
    return row


def main(names: list[str], tests: str) -> int:
    """Try out the environments, print what came of it, and return 1 if one that counts failed."""
    unknown = set(names) - set(ENVIRONMENTS)
    if unknown:
        sys.exit(
            f"There is no environment {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}."
        )
    rows = []
    for name in names or ENVIRONMENTS:
        print(f"{name}: installing and testing; the log is runs/matrix/{name}.log", flush=True)
        rows.append(try_out(name, tests))
    columns = ["environment", "result", "tests", "minutes", "python", *SHOWN]
    widths = {column: max(len(column), *(len(row.get(column, "")) for row in rows)) for column in columns}
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        print("  ".join(row.get(column, "").ljust(widths[column]) for column in columns).rstrip())
    failed = [row["environment"] for row in rows if row["result"] != "passed"]
    if "newest" in failed:
        print(
            "With the newest versions it does NOT work. Nobody promised that;",
            "look into runs/matrix/newest.log before a reader does.",
        )
        if "GITHUB_ACTIONS" in os.environ:
            print("::warning title=newest versions::the tests fail with the newest versions of everything")
    return int(any(name != "newest" for name in failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ.get("TESTS") or "tests"))
