"""utils.export.cost: constants come back, a larger step is foretold, assumptions are told from counts."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from builders import bert
from peft import LoraConfig, get_peft_model

from utils.export import cost
from utils.findings import ModelError

POINTS = [(2, 5), (6, 11), (3, 29), (16, 23)]


def test_planted_constants_come_back():
    model, planted = bert(), np.array([3e-3, 2e-11, 71.0, 9.0])
    found = [(*point, *cost.predict(model, planted, *point)) for point in POINTS]
    measured = pd.DataFrame(found, columns=["rows", "length", "seconds", "kept"])
    assert cost.fit(model, measured) == pytest.approx(planted, rel=1e-6)


def test_a_step_of_four_times_the_size():
    """CPU seconds, the fastest of several. Growing not at all, or as the square, is out of the band."""
    torch.manual_seed(0)
    model = bert(hidden_size=128, intermediate_size=512, num_hidden_layers=2)
    before = [p.clone() for p in model.parameters()]
    points = [(4, 16), (8, 16), (8, 32), (8, 48), (16, 32)]
    constants = cost.fit(model, cost.measure(model, points, 5, time.process_time))
    (large,) = cost.measure(model, [(64, 32)], 5, time.process_time).itertuples(index=False)
    seconds, kept = cost.predict(model, constants, 64, 32)
    assert kept == pytest.approx(large.kept, rel=0.02)
    assert 0.55 < seconds / large.seconds < 1.8
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


def test_operations_as_counted_by_hand_with_an_adapter_and_without():
    model = bert(num_hidden_layers=3)  # 32 units: 4 layers of 32 x 32 and 2 of 32 x 32; pooler, head
    matrices = 3 * 6 * 32 * 32 + 32 * 32 + 2 * 32
    assert cost.count_weights(model)[2:] == (matrices, matrices)
    assert cost.step_flops(model, 5, 7) == 5 * 7 * (6 * matrices + 12 * 3 * 32 * 7)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))
    added = 3 * 2 * 2 * 32
    assert cost.count_weights(adapted)[1:] == (added, matrices + added, added)
    assert cost.step_flops(adapted, 1, 1) == 4 * (matrices + added) + 2 * added + 12 * 3 * 32


SCALE = {"rows": 1e7, "length": 25, "epochs": 2, "texts": 64, "devices": 4, "peak": 1e14, "share": 0.5}
SCALE |= {"scaling": 0.8, "price": 3.0}


def test_at_scale_says_what_is_assumed():
    with torch.device("meta"):
        model = bert()
    constants = np.array([1.0, 1.0, 50.0, 2.0])
    table = cost.at_scale(model, constants, **SCALE)
    work = 2 * cost.step_flops(model, 1e7, 25)
    assert table["value"]["hours"] == pytest.approx(work / (4 * 1e14 * 0.5 * 0.8) / 3600)
    assert table["value"]["cost"] == pytest.approx(table["value"]["hours"] * 4 * 3)
    assert table["value"]["steps"] == 2e7 / (64 * 4)
    weights = sum(p.numel() for p in model.parameters())
    kept = 64 * 25 * 1 * (50 * 32 + 2 * 25)
    assert table["value"]["GB on each device"] == pytest.approx((16 * weights + kept) / 1e9)
    assert list(table.index[table["source"] == "assumption"]) == list(SCALE)


@pytest.mark.parametrize(
    ("name", "value"), [("share", 1.2), ("scaling", 0), ("devices", -1), ("price", np.nan)]
)
def test_an_impossible_assumption_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} must be above 0"):
        cost.at_scale(bert(), np.ones(4), **SCALE | {name: value})


def test_too_long_a_text_and_too_few_points_are_refused():
    with pytest.raises(ModelError, match="length=65 is more than the 64 tokens"):
        cost.measure(bert(), [(1, 8), (1, 65)])
    measured = pd.DataFrame(
        [(1, 8, 1.0, 9), (2, 8, 1.5, 18), (3, 8, 2.0, 27)], columns=cost.measure(bert(), [(1, 4)]).columns
    )
    with pytest.raises(ValueError, match="two lengths"):
        cost.fit(bert(), measured)
