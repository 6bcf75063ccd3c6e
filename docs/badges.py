"""Write the repository's address where it is needed: `make badges REPO=owner/name [TAG=v1.0]`.

The address lives in pyproject.toml, under [tool.badges]. From there it comes into README and the
notebooks' titles, as "Open in Colab" badges, and into the bootstrap cells, with which pip completes a
notebook that is alone in Colab. While there is no address, there is no badge. `REPO=` (nothing) takes
them away again; without REPO, notebooks that came later are brought into step. Standard library only.
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLAB = "https://colab.research.google.com"
BADGE = (
    f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
    f"({COLAB}/github/{{repository}}/blob/{{tag}}/notebooks/{{name}})"
)
BADGE_LINE = re.compile(r"^\[!\[Open in Colab\].*\n\n?", flags=re.M)
README_BLOCK = re.compile(r"(?<=<!-- badges -->\n).*?(?=<!-- end of badges -->)", flags=re.S)
UNKNOWN = "OWNER/REPOSITORY@main"  # what the first cells name until somebody has published this
ADDRESS = re.compile(r"(?<=git\+https://github\.com/)\S+(?=#egg=)")


def address(root: Path = ROOT) -> tuple[str, str]:
    """Return the repository as owner/name, empty while unknown, and the tag or branch that Colab takes."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["badges"]
    return settings["repository"], settings["tag"]


def replace_once(pattern: re.Pattern, new: str, text: str, where: str) -> str:
    """Replace the one match of a pattern.

    Raises:
        ValueError: there is none, or there are several; says where.
    """
    text, found = pattern.subn(lambda match: new, text)
    if found != 1:
        raise ValueError(
            f"{where} has {found} places that look like {pattern.pattern!r}; "
            "it needs one for the repository's address."
        )
    return text


def with_badge(notebook: dict, name: str, repository: str, tag: str) -> dict:
    """Put the badge below the title and the address into the bootstrap cell; return the same notebook."""
    title = notebook["cells"][0]
    heading, _, rest = "".join(title["source"]).partition("\n\n")
    rest = BADGE_LINE.sub("", rest)
    badge = [BADGE.format(repository=repository, tag=tag, name=name)] if repository else []
    title["source"] = "\n\n".join([heading, *badge, rest]).splitlines(keepends=True)
    (bootstrap,) = [cell for cell in notebook["cells"] if cell["id"] == "bootstrap"]
    where = f"The bootstrap cell of {name}"
    bootstrap["source"] = replace_once(
        ADDRESS, f"{repository}@{tag}" if repository else UNKNOWN, "".join(bootstrap["source"]), where
    ).splitlines(keepends=True)
    return notebook


def in_step(root: Path = ROOT) -> dict[Path, str]:
    """Return README and notebooks, by path, with the text that they should have."""
    repository, tag = address(root)
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    badges = [
        f"- {path.stem.replace('_', ' ')}: {BADGE.format(repository=repository, tag=tag, name=path.name)}\n"
        for path in notebooks
    ]
    readme = root / "README.md"
    texts = {
        readme: replace_once(
            README_BLOCK,
            "\n" + "".join(badges) + "\n" if repository else "",
            readme.read_text(encoding="utf-8"),
            "README.md",
        )
    }
    for path in notebooks:
        text = path.read_text(encoding="utf-8")
        notebook = with_badge(json.loads(text), path.name, repository, tag)
        changed = notebook != json.loads(text)  # other programs write the same numbers in another way
        texts[path] = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n" if changed else text
    return texts


def main(arguments: list[str], root: Path = ROOT):
    """Store the address, if one was given, and write what is not in step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", help="owner/name on GitHub; empty: not known, no badges")
    parser.add_argument("--tag", help="the tag or branch that Colab takes; a tag stays as it is")
    given = parser.parse_args(arguments)
    if given.repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", given.repository):
        sys.exit(
            f"No badges were written: {given.repository!r} is no repository. "
            "Give its owner and name: make badges REPO=owner/name"
        )
    if given.tag is not None and not re.fullmatch(r"[\w./-]+", given.tag):
        sys.exit(
            f"No badges were written: {given.tag!r} is no tag or branch: make badges REPO=owner/name TAG=v1.0"
        )
    settings = root / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    for name, value in (("repository", given.repository), ("tag", given.tag)):
        if value is not None:
            pattern = re.compile(rf'^{name} = "[^"]*"', flags=re.M)
            text = replace_once(pattern, f'{name} = "{value}"', text, "pyproject.toml")
    settings.write_text(text, encoding="utf-8")
    for path, wanted in in_step(root).items():
        if path.read_text(encoding="utf-8") != wanted:
            path.write_text(wanted, encoding="utf-8")
            repository, _ = address(root)
            print(f"{path.relative_to(root)}:", f"badges of {repository}" if repository else "no badges")


if __name__ == "__main__":
    main(sys.argv[1:])
