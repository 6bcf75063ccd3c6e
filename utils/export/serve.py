"""A model answers over HTTP: `python -m utils.export.serve my_run/model --port 8000`."""

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from transformers.utils import logging

from utils.models import ModelError
from utils.predict import label_texts, load_classifier

LIMITS = {  # option of the command: default, meaning
    "together": (64, "texts computed at a time; 1: each request alone"),
    "max-texts": (64, "texts of a request"),
    "max-characters": (10_000, "characters of a text"),
    "max-bytes": (1_000_000, "size of a request's body"),
    "max-waiting": (1_024, "texts accepted and not yet answered"),
}


def answers_of(loaded, texts: Sequence) -> list[dict]:
    """Return what the service says of each text, in order: `label` (or a number), `review` where the model
    has limits for it, `probabilities` by label where it has labels. As `label_texts` says, to six digits.
    """
    answers, number = [], loaded[2] == "regression"
    for row in label_texts(loaded, texts).to_dict("records"):
        answer = {"label": float(row["predicted"]) if number else row["predicted"]}
        answer |= {"review": row["review"]} if "review" in row else {}
        shares = {} if number else {name: round(row[f"probability_{name}"], 6) for name in loaded[3]}
        answers.append(answer | ({"probabilities": shares} if shares else {}))
    return answers


def service(loaded, name: str, limits: argparse.Namespace) -> FastAPI:
    """Return the app: POST /predict and GET /health. `loaded` is of `load_classifier`; it answers once first.

    `limits` has the options of LIMITS. While a batch is computed, the next takes in the texts of all further
    requests; nobody waits for company. One thread computes, for PyTorch itself uses the cores. When the app
    ends, it says how many requests it had accepted, and how many of these it answered.
    """
    pair = getattr(loaded[0].config, "text_pair_column", None)
    example = [("a text", "its second"), ("another", "one more")] if pair else ["a text", "another"]
    form = f"Send {json.dumps({'texts': example})}, at most {limits.max_texts} texts (--max-texts)"
    form += f" of {limits.max_characters} characters (--max-characters)."
    answers_of(loaded, example)
    thread, turn = ThreadPoolExecutor(1), asyncio.Lock()
    now = SimpleNamespace(waiting=0, accepted=0, answered=0, texts=None, answers=None)

    async def compute(texts: list) -> list[dict]:
        async with turn:
            now.texts = None if now.texts is texts else now.texts  # from here on nobody joins this batch
            run = asyncio.get_running_loop().run_in_executor
            return await run(thread, answers_of, loaded, texts)

    @asynccontextmanager
    async def life(_):
        yield
        print(f"Stopped: {now.accepted} requests accepted, {now.answered} answered.", flush=True)

    app = FastAPI(title=name, lifespan=life, docs_url=None, redoc_url=None)  # both load scripts from a CDN
    Text = Annotated[str, Field(max_length=limits.max_characters)]

    class Asked(BaseModel, extra="forbid"):
        texts: list[tuple[Text, Text] if pair else Text] = Field(min_length=1, max_length=limits.max_texts)

    @app.middleware("http")
    async def check_size(request: Request, call_next):  # before the body is read
        size = request.headers.get("content-length", "" if request.method == "POST" else "0")
        if size and int(size) <= limits.max_bytes:
            return await call_next(request)
        fault = f"The body has {size or 'an unknown number of'} bytes; the limit is {limits.max_bytes}"
        return JSONResponse({"detail": f"{fault} (--max-bytes). Send fewer texts, and Content-Length."}, 413)

    @app.exception_handler(RequestValidationError)
    async def in_words(_, error: RequestValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:] if first["type"] != "json_invalid" else ()))
        size = f", not {len(first['input'])}" if first["type"] == "string_too_long" else ""
        return JSONResponse({"detail": f"{where or 'The body'}: {first['msg']}{size}. {form}"}, 422)

    @app.post("/predict")
    async def predict(asked: Asked) -> dict:
        number = len(asked.texts)
        if now.waiting and now.waiting + number > limits.max_waiting:  # a lone request is always taken
            fault = f"{now.waiting} texts are waiting; the limit is {limits.max_waiting} (--max-waiting)"
            raise HTTPException(503, f"{fault}. Ask again in a moment.", {"Retry-After": "1"})
        if now.texts is None or len(now.texts) + number > limits.together:
            now.texts = []
            now.answers = asyncio.create_task(compute(now.texts))
        start, answers = len(now.texts), now.answers
        now.texts += asked.texts
        now.waiting, now.accepted = now.waiting + number, now.accepted + 1
        try:  # shielded: who gives up must not stop the batch
            own = (await asyncio.shield(answers))[start : start + number]
        finally:
            now.waiting -= number
        now.answered += 1
        return {"answers": own}

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ready", "model": name, "labels": loaded[3], "waiting": now.waiting}

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.export.serve", description="Serve a model.")
    add, default = parser.add_argument, "(default: %(default)s)"
    add("model", type=Path, help="a folder that a run wrote, such as runs/training/model")
    add("--host", default="127.0.0.1", help=f"who may ask: this machine alone {default}")
    add("--port", type=int, default=8000, help=f"0: any free one {default}")
    for name, (value, meaning) in LIMITS.items():
        add(f"--{name}", type=int, default=value, help=f"{meaning} {default}")
    asked = parser.parse_args(arguments)
    if wrong := [name for name in LIMITS if vars(asked)[name.replace("-", "_")] < 1]:
        parser.error(f"--{wrong[0]} must be 1 or more")
    logging.disable_progress_bar()
    with socket.socket() as door:  # taken before the model is loaded; open when it has answered once
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((asked.host, asked.port))
            app = service(load_classifier(asked.model), asked.model.absolute().parent.name, asked)
        except ModelError as error:
            sys.exit(str(error))
        except (OSError, OverflowError) as error:
            sys.exit(f"{asked.host}:{asked.port} cannot be used ({error}). Give another --port.")
        door.listen(2048)
        reach = "for this machine alone" if asked.host == "127.0.0.1" else "no password: mind who can ask"
        where = "http://{}:{}".format(*door.getsockname())
        print(f"{app.title} answers on {where} ({reach}). Ctrl+C or SIGTERM stops it.", flush=True)
        how = {"log_level": "warning", "access_log": False, "timeout_keep_alive": 30}  # seconds, as below
        how |= {"timeout_graceful_shutdown": 60}  # a stop waits so long for what was accepted
        uvicorn.Server(uvicorn.Config(app, **how)).run(sockets=[door])


if __name__ == "__main__":
    main()
