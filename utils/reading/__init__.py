"""From the bytes of a file to rows.

`bundled` has the sets that come along, `encodings` knows characters, `files` formats, `swallowed` stray
quotes, `table` texts and labels; `same` says which texts are one, `dealing` deals rows to splits, `apart`
whole groups, times and folds; `hub` and `checkpoints` are about models.
"""

import os
from pathlib import Path

from utils import ROOT


def find_input(path: str | Path) -> Path:
    """Return the absolute path of a file or folder to read.

    A relative path is looked up from the working directory, then from the repository root: the same parameter
    works in JupyterLab (which starts in notebooks/), in papermill and in a batch.

    Raises:
        FileNotFoundError: it is in neither place; the message names both.
    """
    places = dict.fromkeys([Path.cwd(), ROOT])  # often the same
    for place in places:
        candidate = place / os.path.expanduser(path)
        if candidate.exists():
            return candidate.resolve()
    missing = f"There is no {str(path)!r} in {' nor in '.join(map(str, places))}."
    raise FileNotFoundError(f"{missing} Give the path from one of these folders, or an absolute path.")
