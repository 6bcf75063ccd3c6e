"""What leaves a run answers as `utils.predict` does, without torch; what loses too much does not leave."""

import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import texts_of
from scipy import special

from utils.export import answer, sizes
from utils.export.__main__ import export, main
from utils.inputs import texts_of as rows_as_texts
from utils.models import ModelError
from utils.predict import label_texts

ALONE = ("numpy", "numpy.libs", "onnxruntime", "tokenizers")


@pytest.fixture(scope="module")
def left(make_run):
    """Run and export folder of three runs that cut their texts in three ways."""
    made = {}
    for name, how in {
        "chunks": {"most": 90, "long_texts": "chunks"},
        "head_tail": {
            "task": "multi_label",
            "most": 60,
            "long_texts": "head_tail",
            "thresholds": [0.3, 0.62],
        },
        "pairs": {"pairs": True},
    }.items():
        trained, _ = make_run(**how)
        made[name] = trained, export(trained, ["onnx", "int8", "student"], max_loss=2.0)
    return made


def without_torch(folder, lines, tmp_path, packages=ALONE):
    """Run answer.py in a Python that finds nothing but its own library and the folders of these packages."""
    for name in packages:
        place = Path(find_spec("numpy").origin).parents[1] / name
        if place.exists():  # numpy.libs is on Linux and Windows only
            (tmp_path / name).symlink_to(place, target_is_directory=True)
    program = f"import runpy, sys; sys.path.append({str(tmp_path)!r}); sys.argv = sys.argv[1:]\n"
    program += (
        "try:\n    import torch\nexcept ImportError:\n    runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-S", "-c", program, str(folder.parent / "answer.py"), str(folder)]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(io.StringIO(done.stdout), dtype={"predicted": str}, keep_default_na=False)


@pytest.mark.parametrize("how", ["chunks", "head_tail", "pairs"])
def test_the_script_answers_as_predict_does(left, how, tmp_path):
    trained, folder = left[how]
    texts = [*texts_of(40, 9, 2, 80), "good", "[SEP] bad ünïcode 漢字 " * 9]
    texts = [*zip(texts, texts_of(42, 10), strict=True)] if how == "pairs" else texts
    expected = label_texts(trained.loaded, texts)
    lines = ["\t".join(text) for text in texts] if how == "pairs" else texts
    found = without_torch(folder / "onnx", lines, tmp_path)
    assert found["predicted"].tolist() == expected["predicted"].tolist()
    assert len(set(found["predicted"])) > 1
    shares = [name for name in expected if name.startswith("probability_")]
    assert found.columns.tolist() == ["predicted", *shares]
    assert found[shares].to_numpy() == pytest.approx(expected[shares].to_numpy(), abs=1e-5)


def test_the_script_refuses_tokenizers_that_lose_chunks(left, monkeypatch):
    monkeypatch.setattr("tokenizers.__version__", "0.23.2")
    with pytest.raises(ImportError, match="loses chunks: pip install 'tokenizers>=0.23.3'"):
        answer.load(left["chunks"][1] / "student")


def test_the_student_needs_no_onnxruntime_and_is_calibrated(left, tmp_path):
    trained, folder = left["chunks"]
    texts = rows_as_texts(trained.rows["validation"]).tolist()
    found = without_torch(folder / "student", texts, tmp_path, ["numpy", "numpy.libs", "tokenizers"])
    exported = answer.load(folder / "student")
    logits, true = answer.logits_of(exported, texts), trained.true["validation"]
    names, shares = answer.answers(exported[0], logits)
    assert found["predicted"].tolist() == list(names)
    losses = [
        -special.log_softmax(logits * by, axis=1)[np.arange(len(true)), true].mean() for by in (1, 0.9, 1.1)
    ]
    assert losses[0] == min(losses)


def test_a_size_that_loses_too_much_stays_and_the_readme_says_why(left, make_run, capsys):
    trained, folder = left["chunks"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "answer.py",
        "int8",
        "onnx",
        "student",
    ]
    main([str(trained.folder), "--int8", "--max-loss", "-1"])
    told = capsys.readouterr().out
    assert "int8 is refused: it may lose" in told and "--max-loss allows -1." in told
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "answer.py"]
    assert (folder / "README.md").read_text(encoding="utf-8") + "\n" == told
    assert "| int8 |" in told and "| onnx |" not in told
    with pytest.raises(SystemExit, match="is not the model of a finished run"):
        main([str(folder / "nowhere")])


def test_other_logits_are_refused(left):
    trained, folder = left["pairs"]
    texts = rows_as_texts(trained.rows["test"]).tolist()
    assert sizes.parity(trained.loaded, texts, folder / "onnx") < 1e-4
    with pytest.raises(ModelError, match="The logits of student are not PyTorch's: they differ by"):
        sizes.parity(trained.loaded, texts, folder / "student")


def test_a_student_learns_what_words_say(make_run, tmp_path):
    trained, _ = make_run("regression", rows=300, hidden_size=48)
    texts = {part: rows_as_texts(trained.rows[part]).tolist() for part in ("train", "test")}
    share = {
        part: np.array([text.split().count("good") / len(text.split()) for text in some])
        for part, some in texts.items()
    }
    sizes.write_student(trained.loaded, texts["train"], share["train"][:, None], tmp_path)
    found = answer.logits_of(answer.load(tmp_path), texts["test"])[:, 0]
    assert np.corrcoef(found, share["test"])[0, 1] > 0.8


def test_numbers_have_a_student_and_no_cascade(make_run):
    trained, _ = make_run("regression", rows=300)
    folder = export(trained, ["student"])
    told = (folder / "README.md").read_text(encoding="utf-8")
    assert "| student |" in told and "| pearson |" in told and "cascade" not in told
    exported = answer.load(folder / "student")
    assert answer.answers(*[exported[0], np.array([[1.25]])])[0] == ["1.25"]
    with pytest.raises(ModelError, match="A cascade needs classes"):
        sizes.cascade(None, None, trained)


def test_the_cascade_takes_the_cheapest_threshold_that_loses_little(make_run):
    trained, _ = make_run(rows=300)
    texts = {part: rows_as_texts(trained.rows[part]).tolist() for part in ("validation", "test")}
    true = {text: k for part in texts for text, k in zip(texts[part], trained.true[part], strict=True)}
    sure = dict(zip(true, np.random.default_rng(1).random(len(true)), strict=True))
    wrong = {text for text in true if sure[text] < 0.6 and len(text) % 2}
    asked = []

    def student(some):
        found = np.array([(true[text] + (text in wrong)) % 3 for text in some])
        return found, np.eye(3)[found], np.array([sure[text] for text in some])

    def full(some):
        asked.append(len(some))
        found = np.array([true[text] for text in some])
        return found, np.eye(3)[found], np.ones(len(some))

    line = {"MB": 1.5, "load s": 0.5}
    small, large = (SimpleNamespace(ask=ask, test=ask(texts["test"]), line=line) for ask in (student, full))
    surest_wrong = max(sure[text] for text in wrong.intersection(texts["validation"]))
    unsure = sum(sure[text] <= surest_wrong for text in texts["validation"])
    both, words = sizes.cascade(small, large, trained, lost=0)
    assert (both.ask(texts["validation"])[0] == trained.true["validation"]).all()
    assert asked[-1] == unsure > 0
    above = min(sure[text] for text in texts["validation"] if sure[text] > surest_wrong)
    assert f"at least {above:.3f} sure" in words
    assert both.line["MB"] == 3 and both.line["lost"] == 1 - both.line["accuracy"]
    asked.clear()
    assert sizes.cascade(small, large, trained, lost=1.0)[0].line["agreement"] < 1
    least = min(sure[text] for text in texts["validation"])
    first, below = (sum(sure[text] < least for text in texts["test"][:most]) for most in (sizes.BATCH, None))
    assert sum(asked[1:]) == first + 2 * below, "a batch to warm up, each alone, and all together"
