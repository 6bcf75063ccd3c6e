"""What would go to the Hub, what must not, and that a dry run sends nothing."""

from unittest.mock import patch

import pytest
from builders import TOKENIZER, tiny
from huggingface_hub import HfApi

from utils.export.hub import publish
from utils.models import ModelError


@pytest.fixture
def model(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "profile.json").write_text('{"characters": "abc"}')
    (tmp_path / "README.md").write_text("# A model")
    (tmp_path / "predictions.csv").write_text("text\nsecret\n")
    return tmp_path / "model"


@pytest.fixture
def hub():
    """The two calls that would reach the Hub, with their signatures."""
    with (
        patch.object(HfApi, "create_repo", autospec=True) as repo,
        patch.object(HfApi, "create_commit", autospec=True) as commit,
    ):
        yield repo, commit


WANTED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}


def test_a_dry_run_lists_and_sends_nothing(model, hub):
    files = publish(model, "somebody/tweets")
    assert set(files) == WANTED
    assert files["README.md"] == len("# A model")
    assert [call.call_count for call in hub] == [0, 0]


def test_a_push_is_one_commit_of_these_files_into_a_private_repository(model, hub):
    files = publish(model, "somebody/tweets", dry_run=False)
    repo, commit = hub
    assert repo.call_args.args[1:] == ("somebody/tweets",)
    assert repo.call_args.kwargs["private"] is True
    assert commit.call_args.args[1] == "somebody/tweets"
    sent = {operation.path_in_repo: operation.path_or_fileobj for operation in commit.call_args.args[2]}
    assert set(sent) == set(files) == WANTED
    assert sent["README.md"] == str(model.parent / "README.md")


@pytest.mark.parametrize(
    "name",
    ["predictions.csv", "training_args.bin", "pytorch_model.bin", "optimizer.pt", "checkpoint-8/config.json",
     "texts.json", ".env", "events.out.tfevents.1"],
)  # fmt: skip
def test_what_is_no_model_is_refused_by_name(model, hub, name):
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("secret")
    with pytest.raises(ModelError, match=name.partition("/")[0].replace(".", r"\.")):
        publish(model, "somebody/tweets", dry_run=False)
    assert [call.call_count for call in hub] == [0, 0]


@pytest.mark.parametrize(
    ("lost", "says"),
    [("../README.md", "no .*/README.md"), ("tokenizer.json", "no tokenizer"), (".", "no model folder")],
)
def test_what_is_not_whole_is_refused(model, hub, lost, says):
    (model / lost).rename(model.parent / "elsewhere")
    with pytest.raises(ModelError, match=says):
        publish(model, "somebody/tweets", dry_run=False)
    assert [call.call_count for call in hub] == [0, 0]
