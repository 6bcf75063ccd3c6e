"""Many clients ask a service at once: how fast is it, and does each request get its own answer?"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence

import httpx
import numpy as np


async def load_test(url: str, texts: Sequence, expected: Sequence[dict], requests=400, clients=8) -> dict:
    """Let `clients` ask at once for a text a request, each again when it has its answer; say what came back.

    Args:
        texts: asked for by turns. expected: what `utils.export.serve.answers_of` says of each.

    Returns:
        requests a second, p50 and p95 in ms; answered; wrong: answers that are not those of the text; and
        requests without an answer, by status code, or by httpx's word for a connection refused or broken.
    """
    turns, failures, seconds, wrong = iter(range(requests)), Counter(), [], 0

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal wrong
        for turn in turns:
            place, began = turn % len(texts), time.perf_counter()
            try:
                response = await http.post("/predict", json={"texts": [texts[place]]})
                response.raise_for_status()
            except httpx.HTTPStatusError as error:
                failures[str(error.response.status_code)] += 1
            except httpx.TransportError as error:
                failures[type(error).__name__] += 1
            else:
                seconds.append(time.perf_counter() - began)
                answers = response.json()["answers"]
                wrong += len(answers) != 1 or not same(answers[0], expected[place])

    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    speed = round(len(seconds) / (time.perf_counter() - began), 1)
    middle, high = (np.quantile(seconds or [math.nan], [0.5, 0.95]) * 1000).round(1).tolist()
    found = {"requests a second": speed, "p50 ms": middle, "p95 ms": high, "answered": len(seconds)}
    return found | {"wrong": wrong} | failures


def same(one, other) -> bool:
    """Compare answers, numbers to four digits: the texts beside it in a batch change a text's last ones."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return math.isclose(one, other, abs_tol=1e-4) if isinstance(one, float) else one == other
