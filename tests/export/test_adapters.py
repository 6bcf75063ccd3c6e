"""An adapter of PEFT, loaded by others: what comes along with it, and what does not."""

import builders
import pytest
import transformers
from adapters import with_adapter
from packaging import version
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from utils.models import ModelError, find_model


@pytest.mark.parametrize("labels", [["bad", "good"], ["bad", "fair", "good"]])
def test_the_way_from_an_adapter_to_a_model_can_be_pasted(tmp_path, monkeypatch, labels):
    builders.bert(2).bert.save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", **builders.named(labels))
    adapted = with_adapter(base, "classifier", init_lora_weights=False).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    builders.tokenizer_of(model_max_length=6).save_pretrained(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="holds an adapter only") as caught:
        find_model("adapter")
    names = {"AutoModelForSequenceClassification": AutoModelForSequenceClassification, "labels": labels}
    exec(str(caught.value).partition("give its folder: ")[2][:-1], names | {"AutoTokenizer": AutoTokenizer})

    (text,) = builders.texts_of(1)
    batch = builders.TOKENIZER(text, return_tensors="pt", truncation=True, max_length=6)
    expected = adapted(**batch).logits[0].softmax(0).tolist()

    def ask(folder):  # unless told, pipeline takes the tokenizer of an adapter's base
        asked = pipeline("text-classification", model=folder, tokenizer=folder)
        return asked(text, top_k=None, truncation=True)

    assert {answer["label"]: answer["score"] for answer in ask("merged")} == pytest.approx(
        dict(zip(labels, expected, strict=True)), abs=1e-5
    )
    if len(labels) == 2:  # the adapter itself loads as well, without the names, and before 5.18 the head
        unnamed = {answer["label"]: answer["score"] for answer in ask("adapter")}
        right = unnamed == pytest.approx({"LABEL_0": expected[0], "LABEL_1": expected[1]}, abs=1e-5)
        assert right == (version.parse(transformers.__version__) >= version.parse("5.18"))
