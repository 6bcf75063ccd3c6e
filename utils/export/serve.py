"""A model answers over HTTP: `python -m utils.export.serve my_run/model --port 8000`."""

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from transformers.utils import logging

from utils.models import ModelError
from utils.predict import label_texts, length_limit, load_classifier

STOP = 60  # seconds that a stop waits at most for what was accepted


class Limits(NamedTuple):
    """What the service takes, and how much it computes at a time; each is an option of the command."""

    together: int = 64  # texts computed at a time; 1: each request alone
    wait_ms: float = 5.0  # how long the first text of a batch waits for others
    max_characters: int = 10_000  # of a text
    max_texts: int = 64  # of a request
    max_bytes: int = 1_000_000  # of a request's body
    max_waiting: int = 1_024  # texts accepted and not yet answered


def answers_of(loaded, texts: Sequence, max_length: int | None = None) -> list[dict]:
    """Return what the service says of each text, in order: `label`, `review` where the model has limits for
    it, `probabilities` by label where it has labels. They are those of `label_texts`, to six digits.
    """
    answers = []
    for row in label_texts(loaded, texts, max_length=max_length).to_dict("records"):
        shares = {name: round(row[key], 6) for name in loaded[3] if (key := f"probability_{name}") in row}
        answer = {"label": row["predicted"], "review": row.get("review"), "probabilities": shares or None}
        answers.append({name: value for name, value in answer.items() if value is not None})
    return answers


def service(loaded, name: str, limits: Limits = Limits()) -> FastAPI:
    """Return the app: POST /predict and GET /health. `loaded` is of `load_classifier`; it answers once first.

    Texts of requests that arrive within `wait_ms` are computed together, by one thread: PyTorch itself uses
    the cores. When the app ends, it says how many requests it had accepted and how many it answered.
    """
    pair, max_length = getattr(loaded[0].config, "text_pair_column", None), length_limit(loaded)
    example = [("a text", "its second"), ("another", "one more")] if pair else ["a text", "another"]
    answers_of(loaded, example, max_length)
    requests, now = asyncio.Queue(), {"waiting": 0, "accepted": 0, "answered": 0}

    async def work(thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await requests.get()]
            if now["waiting"] < limits.together:
                await asyncio.sleep(limits.wait_ms / 1000)
            while requests.qsize() and sum(len(texts) for texts, _ in batch) < limits.together:
                batch.append(requests.get_nowait())
            texts, failed = [text for texts, _ in batch for text in texts], None
            try:
                answers = iter(await loop.run_in_executor(thread, answers_of, loaded, texts, max_length))
            except Exception as error:  # the requests of this batch fail with it, and the next ones do not
                answers, failed = iter(()), error
            for texts, answer in batch:
                now["waiting"] -= len(texts)
                own = list(islice(answers, len(texts)))
                if not answer.done():  # done: the request was given up
                    answer.set_exception(failed) if failed else answer.set_result(own)

    @asynccontextmanager
    async def life(_):
        with ThreadPoolExecutor(1) as thread:
            worker = asyncio.create_task(work(thread))
            yield
            worker.cancel()
        print(f"Stopped: {now['accepted']:,} requests accepted, {now['answered']:,} answered.", flush=True)

    app = FastAPI(title=name, lifespan=life, docs_url=None, redoc_url=None)  # both load scripts from elsewhere
    Text = Annotated[str, Field(max_length=limits.max_characters)]
    Texts = list[tuple[Text, Text] if pair else Text]

    class Asked(BaseModel):
        model_config = ConfigDict(extra="forbid")
        texts: Annotated[Texts, Field(min_length=1, max_length=limits.max_texts, examples=[example])]

    @app.middleware("http")
    async def check_size(request: Request, call_next):
        size = request.headers.get("content-length")
        if request.method == "POST" and size is None:
            return JSONResponse({"detail": "Say how long the body is: send Content-Length."}, 411)
        if int(size or 0) > limits.max_bytes:  # before it is read
            fault = f"The body has {int(size):,} bytes; the limit is {limits.max_bytes:,} (--max-bytes)"
            return JSONResponse({"detail": f"{fault}. Send fewer texts a request."}, 413)
        return await call_next(request)

    @app.exception_handler(RequestValidationError)
    async def in_words(_, error: RequestValidationError):
        first = error.errors()[0]
        kind, most = first["type"], first.get("ctx", {}).get("max_length")
        where = ".".join(map(str, first["loc"][1:] if kind != "json_invalid" else ())) or "The body"
        if kind == "string_too_long":
            fault = f"{len(first['input']):,} characters; the limit is {most:,} (--max-characters). Shorten it"
        elif kind == "too_long" and where == "texts":
            fault = f"{len(first['input']):,} of them; the limit is {most:,} (--max-texts). Send several requests"
        else:
            kind = "pairs of texts" if pair else "single texts"
            fault = f"{first['msg']}. This model reads {kind}: send {json.dumps({'texts': example})}"
        return JSONResponse({"detail": f"{where}: {fault}."}, 422)

    @app.post("/predict")
    async def predict(asked: Asked) -> dict:
        if now["waiting"] and now["waiting"] + len(asked.texts) > limits.max_waiting:
            fault = f"{now['waiting']:,} texts are waiting; the limit is {limits.max_waiting:,} (--max-waiting)"
            raise HTTPException(503, f"{fault}. Ask again in a moment.", {"Retry-After": "1"})
        answer = asyncio.get_running_loop().create_future()
        requests.put_nowait((asked.texts, answer))
        now["waiting"] += len(asked.texts)
        now["accepted"] += 1
        answers = await answer
        now["answered"] += 1
        return {"answers": answers}

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ready", "model": name, "labels": loaded[3], "waiting": now["waiting"]}

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.export.serve", description="Serve a model.")
    parser.add_argument("model", type=Path, help="a folder that a run wrote, such as runs/training/model")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one (default: %(default)s)")
    for name, value in Limits()._asdict().items():
        how = {"type": type(value), "default": value, "help": "default: %(default)s"}
        parser.add_argument(f"--{name.replace('_', '-')}", **how)
    asked = parser.parse_args(arguments)
    limits = Limits(*(getattr(asked, name) for name in Limits._fields))
    if min(limits) < 1 and min(limits._replace(wait_ms=1)) < 1 or limits.wait_ms < 0:
        parser.error("a limit must be 1 or more, --wait-ms 0 or more")
    door = socket.socket()  # taken before the model is loaded; it opens when the model has answered once
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((asked.host, asked.port))
    except OSError as error:
        sys.exit(f"Port {asked.port} of {asked.host} cannot be used ({error.strerror}). Give another --port.")
    logging.disable_progress_bar()
    folder = asked.model.absolute()
    try:
        app = service(load_classifier(asked.model), folder.parent.name or folder.name, limits)
    except ModelError as error:
        sys.exit(str(error))
    door.listen(2048)
    address, reach = "http://{}:{}".format(*door.getsockname()), "nobody but this machine reaches it"
    reach = reach if asked.host in ("127.0.0.1", "localhost") else "there is no password: mind who reaches it"
    print(f"{app.title} answers on {address} ({reach}). Ctrl+C or SIGTERM stops it.", flush=True)
    how = {"log_level": "warning", "access_log": False, "timeout_keep_alive": 30}
    uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=STOP, **how)).run(sockets=[door])


if __name__ == "__main__":
    main()
