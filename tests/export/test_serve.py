"""The service as a process on a free port: its answers, its limits, many clients, and how it stops."""

import asyncio
import re
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import contextmanager

import httpx
import pytest
from builders import TOKENIZER, texts_of, tiny

from utils.export import serve
from utils.export.load import load_test, same
from utils.export.serve import answers_of
from utils.predict import label_texts, load_classifier

LABELS = ["bad", "good", "<b>so-so</b>"]
LIMITS = {"max-characters": 300, "max-texts": 50, "max-bytes": 30_000}


@contextmanager
def serving(folder, **options):
    """Start the service; yield its process, and a client. What it said at its end is `process.said`."""
    command = [sys.executable, "-m", "utils.export.serve", folder, "--port", "0"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            yield process, client
    finally:
        process.terminate()
        process.said = process.communicate(timeout=60)[0]


def in_process(folder, **limits):
    """A client of the service in this process."""
    limits = {name.replace("-", "_"): value for name, (value, _) in serve.LIMITS.items()} | limits
    app = serve.service(load_classifier(folder), "shop", Namespace(**limits))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop")


def save(folder, labels=LABELS, **settings):
    """A classifier whose random weights are large enough that texts get different answers."""
    tiny(labels, initializer_range=0.5, **settings).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("shop") / "model", review_below=0.6, target_accuracy=0.9)


@pytest.fixture(scope="module")
def service(model):
    with serving(model, **LIMITS) as (_, client):
        yield client


def test_it_says_who_it_is_and_tells_no_path(service, model):
    answer = service.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready", "model": model.parent.name, "waiting": 0, "labels": LABELS,
    }  # fmt: skip
    assert str(model.parent.parent) not in answer.text + service.get("/openapi.json").text


def test_the_answers_are_those_of_label_texts(service, model):
    texts = texts_of(40, seed=3, length=1, most=20)
    told = service.post("/predict", json={"texts": texts}).json()["answers"]
    frame = label_texts(load_classifier(model), texts)
    assert [answer["label"] for answer in told] == frame["predicted"].tolist()
    assert [answer["review"] for answer in told] == frame["review"].tolist()
    for name in LABELS:
        shares = [answer["probabilities"][name] for answer in told]
        assert shares == pytest.approx(frame[f"probability_{name}"].tolist(), abs=1e-5)
    assert frame["predicted"].nunique() == 3
    assert frame["review"].nunique() == 2


def test_each_of_many_gets_its_own_answer(service, model):
    """Forty at once, again and again, each text another one; and the load test sees it where it is not so."""
    texts = texts_of(200, seed=5, length=1, most=20)
    expected = answers_of(load_classifier(model), texts)
    found = asyncio.run(load_test(str(service.base_url), texts, expected, requests=400, clients=40))
    assert (found["answered"], found["wrong"], len(found)) == (400, 0, 5)
    assert 0 < found["p50 ms"] <= found["p95 ms"]
    swapped = [expected[1], expected[0], *expected[2:]]
    assert not same(expected[0], expected[1])
    found = asyncio.run(load_test(str(service.base_url), texts, swapped, requests=100, clients=4))
    assert (found["answered"], found["wrong"]) == (100, 2)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"texts": ["w1", "w" * 301]}, 422, r"texts\.1: .* 300 characters, not 301\. .*--max-characters"),
        ({"texts": ["w1"] * 51}, 422, r"texts: .* at most 50 items .* 51\. .*--max-texts"),
        ({"texts": []}, 422, r'texts: .* at least 1 item.*Send {"texts": \["a text", "another"\]}'),
        ({"texts": ["w1", 2]}, 422, r"texts\.1: .* valid string"),
        ({"texts": [["w1", "w2"]]}, 422, r"texts\.0: .* valid string"),
        ({"texts": "w1"}, 422, r"texts: .* valid list"),
        ({"texts": ["w1"], "treshold": 1}, 422, r"treshold: Extra"),
        ({}, 422, r"texts: Field required"),
        (b'{"texts": ["\\ud800"]}', 422, r"texts\.0: .*unicode"),
        (b"{", 422, r"The body: JSON decode error"),
        (b'{"texts": ["' + b"w1 " * 10_000 + b'"]}', 413, r"30015 bytes; the limit is 30000 \(--max-bytes\)"),
        ((part for part in (b'{"texts"', b': ["w1"]}')), 413, "unknown number of bytes"),
    ],
)  # fmt: skip
def test_what_it_does_not_take_is_refused_in_a_sentence(service, body, status, says):
    how = {"json": body} if isinstance(body, dict) else {"content": body}
    answer = service.post("/predict", headers={"content-type": "application/json"}, **how)
    assert answer.status_code == status
    assert re.search(says, answer.json()["detail"]), answer.json()["detail"]
    assert service.post("/predict", json={"texts": ["w1"]}).status_code == 200  # it goes on


def test_sigterm_under_load_loses_nothing(model):
    texts = texts_of(50, seed=7, most=20)
    expected = answers_of(load_classifier(model), texts)

    async def stopped_in_the_middle(address, process):
        test = asyncio.create_task(load_test(address, texts, expected, requests=3_000, clients=16))
        await asyncio.sleep(1)
        process.terminate()
        return await test

    with serving(model) as (process, client):
        found = asyncio.run(stopped_in_the_middle(str(client.base_url), process))
        process.wait(60)
        with pytest.raises(httpx.ConnectError):
            client.get("/health")
    assert 0 < found["answered"] < 3_000
    assert found["ConnectError"] > 0
    assert found["wrong"] == 0
    assert process.said == f"Stopped: {found['answered']} requests accepted, {found['answered']} answered.\n"


def test_pairs_numbers_and_several_labels(tmp_path):
    pairs = [["w1 w2", "w3"], ["w4", "w5 w6"]]
    folder = save(tmp_path / "m", text_pair_column="answer")

    async def ask(*many):
        async with in_process(folder) as client:
            return [await client.post("/predict", json={"texts": texts}) for texts in many]

    told, refused = asyncio.run(ask(pairs, ["w1"]))
    assert all(map(same, told.json()["answers"], answers_of(load_classifier(folder), [*map(tuple, pairs)])))
    assert refused.status_code == 422
    assert 'Send {"texts": [["a text", "its second"]' in refused.json()["detail"]

    number = answers_of(load_classifier(save(tmp_path / "n", ["score"], problem_type="regression")), ["w1"])
    assert list(number[0]) == ["label"]
    assert isinstance(number[0]["label"], float)
    several = save(
        tmp_path / "s", ["a", "b"], problem_type="multi_label_classification", thresholds=[0.0, 0.0]
    )
    assert answers_of(load_classifier(several), ["w1"])[0]["label"] == "a|b"


def test_a_full_queue_and_a_batch_that_fails_and_a_client_that_gives_up(model, monkeypatch):
    """Each is told to those whom it concerns, and the others get their answers."""

    def slow(loaded, texts, **how):
        time.sleep(0.2)
        if "boom" in texts:
            raise RuntimeError("out of memory")
        return label_texts(loaded, texts, **how)

    monkeypatch.setattr(serve, "label_texts", slow)

    async def ask():
        async with in_process(model, max_waiting=3) as client, asyncio.timeout(60):

            def post(*texts):
                return asyncio.create_task(client.post("/predict", json={"texts": texts}))

            async def waiting(number):
                while (await client.get("/health")).json()["waiting"] != number:
                    await asyncio.sleep(0.01)

            first = post("boom")
            await waiting(1)
            gone, stays = post("w2"), post("w3")  # the next batch
            await waiting(3)
            full = await post("w4")
            gone.cancel()
            answers = [await first, full, await stays]
            await waiting(0)
            return [*answers, await post("w1", "w2", "w3", "w4")]  # alone, even more than may wait is taken

    failed, full, stays, alone = asyncio.run(ask())
    assert failed.status_code == 500
    assert full.status_code == 503
    assert full.headers["retry-after"] == "1"
    assert "3 texts are waiting; the limit is 3 (--max-waiting)" in full.json()["detail"]
    expected = answers_of(load_classifier(model), ["w1", "w2", "w3", "w4"])
    assert same(stays.json()["answers"][0], expected[2])
    assert all(map(same, alone.json()["answers"], expected))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({}, "There is no model folder"),
        ({"--port": "taken"}, "Give another --port"),
        ({"--port": "70000"}, "Give another --port"),
        ({"--together": "0"}, "--together must be 1 or more"),
    ],
)
def test_what_cannot_be_served_ends_with_a_sentence(service, model, tmp_path, capsys, option, says):
    folder = str(model if option else tmp_path / "none" / "model")
    options = [part for pair in ({"--port": "0"} | option).items() for part in pair]
    options = [str(service.base_url.port) if part == "taken" else part for part in options]
    with pytest.raises(SystemExit) as ended:
        serve.main([folder, *options])
    assert says in f"{ended.value} {capsys.readouterr().err}"
