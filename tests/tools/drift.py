"""Which arguments of the notebooks does an installed library lack? `python tests/tools/drift.py` lists all of
them; the tests allow none that is missing.

Nothing is run: calls are found in the cells and compared with the signatures of the installed versions. A
function that takes any keyword (from_pretrained, pipeline,
Dataset.map of some versions) can't be asked; it is listed as such, not as fine. Arguments that reach
TrainingArguments through a helper of the notebook,
`small_trainer(..., logging_steps=1)`, or a dict that is unpacked, `settings = {"logging_steps": 1}`, are
followed.
"""

import ast
import collections
import contextlib
import importlib.metadata
import inspect
import sys
from collections.abc import Iterator
from typing import NamedTuple

import datasets
import pandas as pd
import torch
import transformers

from notebooks import NOTEBOOKS, plain_python, read

# A method is known by its name alone: it is there if one of these has it with that argument.
CLASSES = (
    datasets.Dataset,
    datasets.DatasetDict,
    datasets.IterableDataset,
    transformers.Trainer,
    transformers.PreTrainedTokenizerBase,
    transformers.PreTrainedModel,
    pd.DataFrame,
    pd.Series,
    torch.Tensor,
)
CALLED = {
    "tokenizer": transformers.PreTrainedTokenizerBase.__call__
}  # variables of the notebooks that are called
UNDECLARED = {
    "norm_rel_ebd",
    "position_buckets",
    "share_att_key",
}  # DeBERTa's models read them with getattr; their config declares none of them
THERE, MISSING, ANY = "there", "MISSING", "takes any keyword or has no signature, so nobody can tell"


class Use(NamedTuple):
    """One keyword argument in a cell; `verdict` is one of THERE, MISSING and ANY."""

    cell: str
    line: int
    call: str
    argument: str
    verdict: str


def verdict(functions: list, name: str) -> str:
    """Say whether one of the functions takes an argument of that name, as far as their signatures tell."""
    answers = set()
    for function in functions:
        if inspect.isclass(function) and issubclass(function, transformers.PreTrainedConfig):
            # a config takes whatever it has, and anything else without a word
            answers.add(THERE if hasattr(function(), name) else ANY if name in UNDECLARED else MISSING)
            continue
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:  # written in C, without a signature
            answers.add(ANY)
            continue
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        answers.add(THERE if name in parameters else ANY if anything else MISSING)
    return next(answer for answer in (THERE, ANY, MISSING) if answer in answers)


def helpers(trees: list[ast.Module]) -> dict[str, set[str]]:
    """Return the notebook's own functions that pass what they don't know to TrainingArguments: name -> the
    arguments they do know.
    """
    found = {}
    for tree in trees:
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.FunctionDef)
                and node.args.kwarg
                and "TrainingArguments(**" in ast.unparse(node)
            ):
                found[node.name] = {
                    argument.arg
                    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                }
    return found


def unpacked(trees: list[ast.Module]) -> dict[str, list[ast.Constant]]:
    """Return the keys of the dicts that have names, `name = {"key": ...}`, as the nodes where they stand."""
    found = collections.defaultdict(list)
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Assign | ast.AugAssign) and isinstance(node.value, ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found[target.id] += [
                    key
                    for key in node.value.keys
                    if isinstance(key, ast.Constant) and isinstance(key.value, str)
                ]
    return found


def resolve(node: ast.expr, namespace: dict):
    """Return what an imported name, or a dotted one that begins with it, stands for; or None."""
    if isinstance(node, ast.Name):
        return namespace.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := resolve(node.value, namespace)) is not None:
        return getattr(owner, node.attr, None)
    return None


def uses(notebook) -> Iterator[Use]:
    """Yield every keyword argument in a notebook's calls of library functions, but not those of cells tagged
    `raises-on-purpose`.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.id != "bootstrap"]
    cells = {
        cell.id: ast.parse(plain_python(cell))
        for cell in cells
        if "raises-on-purpose" not in cell.metadata.get("tags", [])
    }
    trees, namespace = list(cells.values()), dict(CALLED)
    own, named = helpers(trees), unpacked(trees)
    for cell, tree in cells.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                with contextlib.suppress(ModuleNotFoundError):  # a package that is optional
                    exec(compile(ast.Module([node], []), cell, "exec"), namespace)
            if not isinstance(node, ast.Call):
                continue
            call, known, functions = ast.unparse(node.func), set(), []
            if call in own:
                functions, known = [transformers.TrainingArguments], own[call]
            elif function := resolve(node.func, namespace):
                functions = [function]
            elif isinstance(node.func, ast.Attribute):
                functions = [
                    getattr(owner, node.func.attr) for owner in CLASSES if hasattr(owner, node.func.attr)
                ]
            arguments = []
            for keyword in node.keywords:
                if keyword.arg:
                    arguments.append((keyword.arg, keyword.value.lineno))
                elif isinstance(keyword.value, ast.Name):  # f(**settings)
                    arguments += [(key.value, key.lineno) for key in named[keyword.value.id]]
            for name, line in arguments:
                if functions and name not in known:
                    yield Use(cell, line, call, name, verdict(functions, name))


def main() -> int:
    """Print every argument once, those that are missing last, and return 1 if there are any."""
    print(
        ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in ("transformers", "datasets", "pandas", "torch")
        )
    )
    found = collections.defaultdict(list)
    for path in NOTEBOOKS:
        for use in uses(read(path)):
            found[use.verdict, use.call, use.argument].append(f"{path.stem[:2]} {use.cell}")
    for kind in (THERE, ANY, MISSING):
        print(f"\n{kind}: {sum(answer == kind for answer, _, _ in found)}")
        for (answer, call, argument), cells in sorted(found.items()):
            if answer == kind:
                print(f"  {call}({argument}=)  {', '.join(dict.fromkeys(cells))}")
    return int(any(answer == MISSING for answer, _, _ in found))


if __name__ == "__main__":
    sys.exit(main())
