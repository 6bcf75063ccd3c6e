"""What a folder with a model or a checkpoint holds, and what it lacks to be loaded or continued from."""

import itertools
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from utils import read_json

# What a checkpoint holds, by any name that Trainer, PEFT, FSDP and DeepSpeed give it.
WEIGHTS = ("model.safetensors*", "pytorch_model*", "adapter_model.*", "*/adapter_model.*", "global_step*")
STATES = {
    "optimizer": ("*optimizer*", "global_step*"),
    "learning rate schedule": ("scheduler.pt", "global_step*"),
    "random states": ("rng_state*.pth",),
}
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")  # one is enough for most tokenizers
OTHER_WEIGHTS = (".h5", ".keras", ".msgpack", ".onnx", ".gguf")  # of TensorFlow, JAX, ONNX, llama.cpp


def saved_checkpoints(folder: Path) -> list[Path]:
    """Return Trainer's checkpoints in a folder, the newest last: the folders called checkpoint-<step>."""
    places = [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()]
    return sorted(places, key=lambda path: int(path.name[11:]))


def unexpected_files(folder: Path, known: Iterable[str]) -> list[str]:
    """Return the names in a folder that match none of the patterns, in order; none if there is no folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in known)]


def free_path(path: Path) -> Path:
    """Return the path, with the first number behind it that makes it new if something is called so."""
    numbered = (path.with_name(f"{path.name}-{k}") for k in itertools.count(2))
    return next(other for other in itertools.chain([path], numbered) if not os.path.lexists(other))


def set_aside(checkpoints: Path) -> Iterator[tuple[str, str, Path]]:
    """Move away what Trainer would mistake for a checkpoint; yield name, reason and new place of each.

    Trainer continues from the newest folder called checkpoint-<step>, whole or not; its `save_total_limit`
    deletes old folders called checkpoint-<anything>.
    """
    ours = saved_checkpoints(checkpoints)
    for folder in sorted(path for path in checkpoints.glob("checkpoint-*") if path.is_dir()):
        missing = ", ".join(missing_parts(folder)) if folder in ours else ""
        if missing or folder not in ours:
            (checkpoints / "set_aside").mkdir(exist_ok=True)
            aside = folder.rename(free_path(checkpoints / "set_aside" / folder.name))
            foreign = "not Trainer's, which would delete it in time"
            yield folder.name, f"incomplete: no {missing}" if missing else foreign, aside


def missing_parts(checkpoint: Path) -> list[str]:
    """Return what a checkpoint lacks to be continued from; it may lack all states (`save_only_model`)."""
    if not read_json(checkpoint / "trainer_state.json"):  # Trainer writes it after all others
        return ["trainer_state.json"]
    missing = [] if _holds(checkpoint, WEIGHTS) else ["weights"]
    for index in checkpoint.glob("*.index.json"):
        shards = sorted(set(read_json(index).get("weight_map", {}).values()))
        missing += [name for name in shards if not _filled(checkpoint / name)] if shards else [index.name]
    states = missing_states(checkpoint)
    return missing + (states if len(states) < len(STATES) else [])


def missing_states(checkpoint: Path) -> list[str]:
    """Return which of `STATES` a checkpoint lacks."""
    return [name for name, patterns in STATES.items() if not _holds(checkpoint, patterns)]


def _holds(checkpoint: Path, patterns: Iterable[str]) -> bool:
    return any(_filled(path) for pattern in patterns for path in checkpoint.glob(pattern))


def _filled(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)  # a power cut can leave empty files


def model_fault(folder: Path) -> str | None:
    """Say why `from_pretrained` would fail in a folder, silently load wrong parts, or run a pickle's code."""
    has_config = (folder / "config.json").exists()
    has_weights = any(not path.name.startswith("adapter_") for path in folder.glob("*.safetensors"))
    if (folder / "adapter_config.json").exists() and not (has_config and has_weights):
        return f"{folder} holds an adapter only, {_way_from_adapter(folder)}"
    if not has_config:
        inside = _model_inside(folder)
        remedy = "Give a folder that save_model() or save_pretrained() wrote."
        remedy = f"There is one in {inside}: give that folder." if inside else remedy
        return f"there is no config.json in {folder}. {remedy}"
    if not has_weights:
        return f"no safetensors weights in {folder}{_way_to_safetensors(folder)}"
    return _tokenizer_fault(folder)


def _way_from_adapter(folder: Path) -> str:
    """Say to which model an adapter belongs, and how the two become one that loads without peft."""
    adapter = read_json(folder / "adapter_config.json")
    base = adapter.get("base_model_name_or_path") or "the model that it was trained on"
    if "num_virtual_tokens" in adapter:  # vectors before the text, weights as before
        kind = f"of a kind that cannot become part of its weights ({adapter.get('peft_type')})"
        return f"for {base!r}, {kind}. Give {base!r} and fine-tune it."
    words = folder.as_posix() if (folder / "tokenizer_config.json").exists() else base  # it knows the length
    return (
        f"for {base!r}. Make one model of the two (pip install peft; labels: yours, in training's order) "
        "and give its folder: from peft import PeftModel; model = AutoModelForSequenceClassification."
        f"from_pretrained({base!r}, id2label=dict(enumerate(labels))); "
        f"PeftModel.from_pretrained(model, {folder.as_posix()!r}).merge_and_unload()"
        ".save_pretrained('merged'); "
        f"AutoTokenizer.from_pretrained({words!r}).save_pretrained('merged')."
    )


def _way_to_safetensors(folder: Path) -> str:
    files = sorted(path.name for path in (*folder.iterdir(), *folder.glob("onnx/*")))
    others = [name for name in files if name.endswith(OTHER_WEIGHTS)]
    if others and not any(name.endswith(".bin") for name in files):
        return f", only {others[0]}. Give the folder that save_pretrained() wrote from PyTorch."
    way = "if you trust them: from_pretrained() and save_pretrained() into a new folder"
    return f". Pickled weights can run code and are not loaded; convert them first ({way})."


def _model_inside(folder: Path) -> Path | None:
    """Return a folder below that holds a model: `model` of a run, else the newest checkpoint, else any."""
    newest = [*saved_checkpoints(folder / "checkpoints"), *saved_checkpoints(folder)][::-1]
    others = [path for pattern in ("*", "checkpoints/*", "snapshots/*") for path in folder.glob(pattern)]
    for path in (folder / "model", *newest, *sorted(others)):
        if (path / "config.json").exists() or (path / "adapter_config.json").exists():
            return path
    return None


def _tokenizer_fault(folder: Path) -> str | None:
    """Say what a folder lacks for its tokenizer to load with its words; None if nothing.

    Without their files some tokenizers load with an empty vocabulary, and every word becomes [UNK]; others
    read characters or bytes and need no file. So where the files do not tell, the tokenizer is loaded.
    """
    pieces = [path for pattern in ("*.model", "*.spm") for path in sorted(folder.glob(pattern))]
    sufficient = TOKENIZER_FILES[:1] if pieces else TOKENIZER_FILES
    if any((folder / name).exists() for name in sufficient):
        return None
    try:
        if _knows_words(folder):
            return None
    except Exception:  # each class has its own for a missing file or package
        if pieces:
            return _missing_packages(pieces[0])
    return f"no tokenizer in {folder}. Save it there too: tokenizer.save_pretrained(...)."


def _knows_words(folder: Path) -> bool:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.vocab_files_names:  # CANINE, ByT5, Perceiver
        return True
    words = set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()) - set(tokenizer.all_special_tokens)
    return len(words) > 1  # T5 always knows the blank


def _missing_packages(pieces: Path) -> str | None:
    from transformers import utils as library

    with open(pieces, "rb") as file:  # SentencePiece writes protobuf, tiktoken lines of text
        names = ("sentencepiece", "protobuf") if file.read(1) == b"\n" else ("tiktoken",)
    missing = [name for name in names if not getattr(library, f"is_{name}_available")()]
    fault = f"its tokenizer, {pieces.name}, takes a package that is not installed:"
    return f"{fault} pip install {' '.join(missing)}" if missing else None
