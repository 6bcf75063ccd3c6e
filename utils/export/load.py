"""Many clients ask a service at once: how fast does it answer, and does each get its own answer?"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import httpx
import numpy as np


class Load(NamedTuple):
    """What `load_test` saw. `failures` counts by status code, or by what httpx says of a broken connection;
    `wrong` are answers that are not those of the text asked for; times are in milliseconds.
    """

    requests: int
    answered: int
    wrong: int
    failures: dict[str, int]
    requests_per_second: float
    p50_ms: float
    p95_ms: float


async def load_test(url: str, texts: Sequence, expected: Sequence[dict], requests=400, clients=8) -> Load:
    """Let `clients` ask at once, each its next request when it has the answer to the last: a text a request.

    Args:
        texts: asked for by turns, different ones. expected: what `utils.export.serve.answers_of` says of each.
    """
    left, failures, seconds, wrong = iter(range(requests)), Counter(), [], 0

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal wrong
        for number in left:
            began, place = time.perf_counter(), number % len(texts)
            try:
                response = await http.post("/predict", json={"texts": [texts[place]]})
            except httpx.TransportError as error:
                failures[type(error).__name__] += 1
                continue
            if response.status_code != 200:
                failures[str(response.status_code)] += 1
                continue
            seconds.append(time.perf_counter() - began)
            wrong += not same(response.json()["answers"], expected[place : place + 1])

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as http:
        began = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        took = time.perf_counter() - began
    middle, high = np.quantile(seconds or [np.nan], [0.5, 0.95]) * 1000
    return Load(requests, len(seconds), wrong, dict(failures), len(seconds) / took, middle, high)


def same(answers: Sequence[dict], expected: Sequence[dict]) -> bool:
    """Say whether answers are equal, probabilities to four digits: texts beside a text change the fifth."""
    plain = [[{**answer, "probabilities": None} for answer in many] for many in (answers, expected)]
    shares = [[answer.get("probabilities", {}) for answer in many] for many in (answers, expected)]
    numbers = [[list(each.values()) for each in many] for many in shares]
    keys = [[list(each) for each in many] for many in shares]
    return plain[0] == plain[1] and keys[0] == keys[1] and np.allclose(*numbers, atol=1e-4)
