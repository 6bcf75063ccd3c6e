"""A model on the Hugging Face Hub: what would go up, what must not, and the push in one commit."""

from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from utils.answers.profile import FILE
from utils.models import ModelError, find_model

# Weights, config, tokenizer. Whatever else lies there may hold texts, or a program (a pickle), or is large.
GOES = ["config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*.json", "vocab.*"]
GOES += ["merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "chat_template.jinja"]


def publish(model: str | Path, repo_id: str, private: bool = True, dry_run: bool = True) -> dict[str, int]:
    """Return the bytes of each file that goes to the Hub: those of a model's folder, and its run's README.md.

    Without `dry_run` they are pushed, in one commit, by the account of `hf auth login`. profile.json stays at
    home: it holds no text, but tells which tokens and characters the training texts have.

    Raises:
        ModelError: the folder holds something else, or is no whole model, or has no card.
    """
    folder = Path(model).expanduser().absolute()
    files = {path.name: path for path in sorted(folder.glob("*")) if path.name != FILE}
    if other := [name for name in files if files[name].is_dir() or not any(fnmatch(name, g) for g in GOES)]:
        fault = f"{folder.name} holds {', '.join(other)}, which may be texts, a pickle or a checkpoint"
        raise ModelError(f"{fault}. Move away what is not the model.")
    find_model(str(folder))  # whole, with weights and tokenizer
    files["README.md"] = folder.parent / "README.md"
    if not files["README.md"].is_file():
        raise ModelError(f"There is no {folder.parent.name}/README.md, the card of a run. Write one.")
    if not dry_run:
        HfApi().create_repo(repo_id, private=private, exist_ok=True)
        added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        HfApi().create_commit(repo_id, added, commit_message="A model and its card")
    return {name: path.stat().st_size for name, path in files.items()}
