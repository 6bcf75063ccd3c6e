"""The notebooks in a real browser: JupyterLab serves a temporary copy, and a headless Chromium uses it.

`make browser` runs this file. `make test` leaves out what is marked `browser`, the chapters; it has `make
lab`, and small notebooks that are made here. Every test leaves screenshots in runs/screenshots/. Nothing here
waits a fixed time: each step waits for what it needs to see.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import markup
import nbformat
import psutil
import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

from notebooks import NOTEBOOKS, ROOT, WIDGET, read

SCREENSHOTS = ROOT / "runs" / "screenshots"
WINDOW = {"width": 1280, "height": 1100}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The name resolution rule keeps the browser on this machine, whatever a page asks for.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
# milliseconds that a step, all cells of a notebook, and the answer to a moved control may take on a busy
# machine; and between two looks at a cell
STEP, RUN, CHANGE, LOOK = 60_000, 600_000, 15_000, 250
LONG_RUN = 1_800_000  # 04 and 06 take five minutes on a machine that does nothing else

SETTINGS = {  # JupyterLab's settings, by the plugin that reads them
    "notebook-extension/tracker": {"windowingMode": "none"},  # otherwise cells out of sight are not drawn
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}
SLIDER = ".jp-OutputArea-output .widget-slider:not([disabled]) .noUi-handle"
TEXT = ".jp-OutputArea-output .jupyter-widgets :is(input[type=text], textarea):not([disabled])"
MARKUP = """<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1"> hello"""

# JupyterLab's own account of the kernel: the circle in the toolbar says "idle" before there is one, and cells
# run then are dropped.
IDLE = """() => {
    const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""

# How running all cells ended; false while it has not, or while widgets are still being drawn, so that the
# page is not as half a second ago.
# An error inside an Output widget is not in the notebook's model, only on the page.
OUTCOME = r"""() => {
    const dialog = document.querySelector(".jp-Dialog");
    if (dialog) return {end: "a dialog", text: dialog.innerText};
    if (!(IDLE)()) return false;
    const notebook = jupyterapp.shell.currentWidget.content;
    const outputs = [...notebook.node.querySelectorAll(".jp-OutputArea-output")];
    const now = outputs.map(output => output.innerHTML).join();
    const settled = now === window.lastLook && !now.includes("Loading widget...");
    window.lastLook = now;
    if (!settled) return false;
    const code = notebook.widgets.map(cell => cell.model).filter(model => model.type === "code");
    const made = code.flatMap(model => model.outputs.toJSON());
    const failed = made.filter(output => output.output_type === "error");
    const errors = failed.map(error => error.traceback.join("\n"));
    const inside = [...notebook.node.querySelectorAll(".jupyter-widgets")].map(widget => widget.innerText);
    errors.push(...inside.filter(text => /Traceback \(most recent|^Error displaying widget/.test(text)));
    if (errors.length) return {end: "an error", text: errors.join("\n").replace(/\x1b\[[\d;]*m/g, "")};
    const ran = model => model.executionCount !== null || !model.sharedModel.source.trim();
    return code.every(ran) && {end: "all done", text: ""};
}""".replace("IDLE", IDLE)

# What a cell shows besides its sliders, null while the kernel works. With `figures`, the bytes of its
# pictures alone, where it has any.
SHOWN = """async (cell, figures) => {
    if (!(IDLE)()) return null;
    const pictures = [];
    for (const image of cell.querySelectorAll(".jp-OutputArea-output img")) {
        try {
            await image.decode();
            const bytes = await (await fetch(image.src)).arrayBuffer();
            pictures.push([...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].join("."));
        } catch {  // it is being replaced, or broken
            if (figures) return null;
            pictures.push("broken");
        }
    }
    if (figures && pictures.length) return "pictures " + pictures.join(" ");
    const copy = cell.querySelector(".jp-Cell-outputArea").cloneNode(true);
    copy.querySelectorAll(".widget-slider, .widget-readout, img").forEach(element => element.remove());
    return copy.innerHTML + pictures.join(" ");
}""".replace("IDLE", IDLE)

# What is wrong with the outputs on the page, as sentences; the committed notebook says which cells have how
# many widgets and figures.
# A widget is alive while its kernel answers for it; a picture that cannot be decoded, or has one colour only,
# shows nothing.
WRONG = """async committed => {
    const wrong = [];
    const check = (right, ...words) => right || wrong.push(words.join(" "));
    const drawn = element => element.offsetWidth > 0 && element.offsetHeight > 0;
    const shows = async image => {
        try { await image.decode(); } catch { return false; }
        if (!image.naturalWidth) return false;
        const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
        canvas.drawImage(image, 0, 0);
        const data = canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data;
        const pixels = new Uint32Array(data.buffer);
        return pixels.some(pixel => pixel !== pixels[0]);
    };
    const cells = jupyterapp.shell.currentWidget.content.widgets;
    for (const {id, widgets, figures} of committed) {
        const cell = cells.find(cell => cell.model.id === id);
        const {outputArea, model} = cell;
        const holds = (type, k) => type in (model.outputs.get(k).data ?? {});
        const shown = type => outputArea.widgets.filter((_, k) => holds(type, k));
        const outputs = type => shown(type).map(output => output.node);
        const now = outputs("application/vnd.jupyter.widget-view+json");
        check(now.length >= widgets, id, "has", now.length, "widgets and should have", widgets);
        for (const output of now) {
            const [text, widgets] = [output.innerText, [...output.querySelectorAll(".jupyter-widgets")]];
            const dead = output.querySelector(".jupyter-widgets-disconnected, .jupyter-widgets-error-widget");
            const broken = /Loading widget|Error (displaying|creating) widget/.test(text);
            check(widgets.some(drawn), "a widget of", id, "is not drawn:", text);
            check(!dead, "a widget of", id, "is dead");
            check(!broken, "a widget of", id, "says", text);
        }
        const pictures = outputs("image/png").map(output => output.querySelector("img"));
        check(pictures.length === figures, id, "has", pictures.length, "figures and should have", figures);
        for (const picture of pictures) check(picture && drawn(picture), "a figure of", id, "is not drawn");
    }
    for (const cell of cells)
        for (const image of cell.node.querySelectorAll(".jp-OutputArea-output img"))
            check(!drawn(image) || await shows(image), "a picture of", cell.model.id, "is broken or blank");
    const dialog = document.querySelector(".jp-Dialog");
    check(!dialog, "a dialog:", dialog?.innerText);
    return wrong;
}"""

# Run a line of Python in the kernel of the open notebook, and return what it prints.
ASK_KERNEL = """async code => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({code, store_history: false});
    let printed = "";
    future.onIOPub = ({header, content}) => { if (header.msg_type === "stream") printed += content.text; };
    await future.done;
    return printed;
}"""


def screenshot(page, of=""):
    """Store what the page shows in runs/screenshots/, named after the test and `of`; return the path."""
    name = re.sub(
        r"[^\w.-]+", "_", os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0] + of
    ).strip("_")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path.relative_to(ROOT)


@contextmanager
def step(page, what):
    """Turn what goes wrong inside into a failure that says what was being done, and where a picture is."""
    try:
        yield
    except (AssertionError, PlaywrightError) as error:
        pytest.fail(f"{what}: {error}\nThe page at that moment: {screenshot(page)}")


# --- serving and opening


def copy_repository(folder):
    """Copy what the notebooks need, without their outputs: what the page then shows is this run's."""
    for name in ("notebooks", "utils", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for path in (folder / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


def call(server, path, method="GET"):
    """Ask Jupyter's own interface; return the parsed answer, or None for an empty one."""
    request = urllib.request.Request(
        server["url"] + path, method=method, headers={"Authorization": f"token {server['token']}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def wait_for_server(process, runtime, log, seconds=60):
    """Return url and token once the server answers; its own runtime file says where it listens."""
    for _ in range(seconds * 10):
        assert process.poll() is None, (
            f"JupyterLab ended with status {process.returncode}:\n{log.read_text()[-3000:]}"
        )
        with suppress(OSError, ValueError, StopIteration):  # no file yet, half a file, not listening yet
            server = json.loads(next(runtime.glob("jpserver-*.json")).read_text())
            call(server, "api/status")
            return server
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not answer within {seconds} s:\n{log.read_text()[-3000:]}")


@contextmanager
def serve(folder, command=(sys.executable, "-m", "jupyterlab"), **more):
    """Serve JupyterLab from `folder`/work with settings and kernels of its own; end its processes afterwards.

    What it would open in a browser is in `folder`/opened. `more`: environment variables.
    """
    own = {"SETTINGS": folder / "settings", "WORKSPACES": folder / "workspaces"}
    # the notebooks shall find the copy and this kernel; a make that runs these tests has told its children
    # which variables it was given
    others = ("JUPYTER_PATH", "JUPYTER_TOKEN", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    environment |= {f"JUPYTERLAB_{name}_DIR": str(path) for name, path in own.items()}
    environment |= {
        f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    environment |= {
        "IPYTHONDIR": str(folder / "ipython"),
        "BROWSER": str(folder / "browser"),
        "PYTHONPATH": str(folder / "work"),
    } | more
    for plugin, values in SETTINGS.items():
        path = own["SETTINGS"] / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:  # should somebody take the port in between, Jupyter takes the next one
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the extension manager would ask the package index; an abandoned server (pytest was killed) ends itself
    config = {
        "ServerApp": {"port": port, "allow_root": True, "shutdown_no_activity_timeout": 900},
        "MappingKernelManager": {"cull_idle_timeout": 600},
        "LabApp": {"extension_manager": "readonly", "expose_app_in_browser": True},
    }
    (folder / "config").mkdir()
    (folder / "config" / "jupyter_lab_config.json").write_text(json.dumps(config))
    (folder / "browser").write_text(f"#!/bin/sh\nprintf %s \"$1\" > '{folder / 'opened'}'\n")
    (folder / "browser").chmod(0o700)
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder / "work"
        )
    try:
        yield wait_for_server(process, folder / "runtime", log)
    finally:
        family = (
            [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            if process.poll() is None
            else []
        )
        process.terminate()  # Jupyter ends its kernels first
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        for left in psutil.wait_procs(family, timeout=2)[1]:
            left.kill()
        process.wait()


def cannot_test(reason):
    """Skip, saying why; fail where REQUIRE_BROWSER is set, as in CI."""
    reason = f"nothing was tested in a browser: {reason}"
    pytest.fail(reason, pytrace=False) if os.environ.get("REQUIRE_BROWSER") else pytest.skip(reason)


@contextmanager
def play():
    """Start Playwright, which brings its own program; what that needs of the system may be missing."""
    try:
        playwright = sync_playwright().start()
    except Exception as error:  # Playwright raises no class of its own here
        cannot_test(f"Playwright does not start ({error}); on Debian: apt-get install libatomic1")
    try:
        yield playwright
    finally:
        playwright.stop()


@pytest.fixture(scope="module")  # not session: while Playwright is on, no other test could use asyncio
def browser():
    """A headless Chromium with a new, empty profile."""
    if CHROMIUM is None:
        cannot_test("no Chromium on this machine; on Debian: apt-get install chromium")
    before = signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a CI job that is cut off cleans up, too
    try:
        with (
            tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home,
            play() as playwright,
        ):
            own = {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=os.environ | own)
            yield chromium
            chromium.close()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def server(browser):
    """JupyterLab over a temporary copy of the repository: url, token and root_dir."""
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as folder:
        copy_repository(Path(folder) / "work")
        with serve(Path(folder)) as running:
            yield running


@contextmanager
def new_page(browser, server):
    """A page of a browser that knows nothing yet. Afterwards: a screenshot, kernels ended, and nothing was
    asked of another machine.
    """
    context = browser.new_context(base_url=server["url"], viewport=WINDOW)
    context.set_default_timeout(STEP)
    asked, complaints = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on(
        "console", lambda message: complaints.append(message.text) if message.type == "error" else None
    )
    try:
        page = context.new_page()
        yield page
        print("screenshot:", screenshot(page))
        print("the browser's console:", *complaints, sep="\n  ")
    finally:
        context.close()
        for session in call(server, "api/sessions"):
            call(server, f"api/sessions/{session['id']}", "DELETE")
    outside = [url for url in asked if not url.startswith((server["url"], "data:", "blob:", "file:"))]
    assert not outside, f"the page asked other machines: {outside}"


@pytest.fixture
def lab(browser, server):
    """A page that is logged in to JupyterLab."""
    with new_page(browser, server) as page:
        page.context.request.get(f"/api/status?token={server['token']}")  # sets the cookie
        yield page


def run_all(page, notebook, timeout=RUN):
    """Open a notebook (its path from the repository root), run all cells from the menu, and wait for the end.

    Fails with the traceback where a cell ends in an error, or with the text of JupyterLab's dialog.
    """
    with step(page, f"Opening {notebook}"):
        page.goto(f"/lab/tree/{notebook}?reset")
        page.wait_for_function(IDLE)
    with step(page, f"Running all cells of {notebook}"):
        page.click(".lm-MenuBar-item >> text=/^Run$/")
        page.click("[data-command='runmenu:run-all']")
        outcome = page.wait_for_function(OUTCOME, polling=500, timeout=timeout).json_value()
        assert outcome["end"] == "all done", f"it ended with {outcome['end']}:\n{outcome['text']}"


def outputs_are_drawn(page, committed):
    """Wait until the widgets and figures that a committed notebook has are there, alive and not blank; return
    the ids of the cells with widgets.

    There may be more widgets than committed: progress bars, which `make notebooks` turns off.
    """
    kinds = [
        (cell.id, [kind for output in cell.outputs for kind in output.get("data", {})])
        for cell in committed.cells
        if cell.cell_type == "code"
    ]
    expected = [
        {"id": cell, "widgets": found.count(WIDGET), "figures": found.count("image/png")}
        for cell, found in kinds
    ]
    with step(page, "Looking for the widgets and figures"):
        for _ in range(CHANGE // LOOK):
            wrong = page.evaluate(WRONG, expected)
            if not wrong:
                return [cell["id"] for cell in expected if cell["widgets"]]
            page.wait_for_timeout(LOOK)
        raise AssertionError("\n".join(wrong))


def pictures(page, cells):
    """Store pictures of the notebook's top, of the whole notebook, and of some cells and their neighbours."""
    scroll_to = """id => {
        const cells = jupyterapp.shell.currentWidget.content.widgets;
        cells.find(cell => cell.model.id === id).node.scrollIntoView({block: "center"});
    }"""
    for cell in cells:
        page.evaluate(scroll_to, cell)
        screenshot(page, f"_{cell}")
    notebook = page.locator(".jp-NotebookPanel:visible .jp-WindowedPanel-outer")
    notebook.evaluate("panel => { panel.scrollTop = 0; }")
    screenshot(page, "_top")
    page.set_viewport_size(
        WINDOW
        | {"height": WINDOW["height"] + notebook.evaluate("panel => panel.scrollHeight - panel.clientHeight")}
    )
    screenshot(page, "_all")
    page.set_viewport_size(WINDOW)


def first(page, control, what):
    """Return the first control of a kind in the outputs, and the cell it is in."""
    with step(page, f"Looking for the first {what}"):
        found = page.locator(control).first
        found.scroll_into_view_if_needed()
        return found, page.locator(".jp-CodeCell").filter(has=page.locator(control)).first


def shown(page, cell, figures=False, before=None):
    """Wait until two looks at a cell are alike, and not like `before`; return what it shows.

    With `figures`, that is its pictures alone, if it has any.
    """
    last = None
    for _ in range(CHANGE // LOOK):
        now = cell.evaluate(SHOWN, figures)
        lost = (before or "").startswith("pictures") and not (now or "").startswith(
            "pictures"
        )  # gone is not redrawn
        if now == last and now not in (None, before) and not lost:
            return now
        last = now
        page.wait_for_timeout(LOOK)
    state = (
        "the kernel is not idle or a picture is broken"
        if now is None
        else "the pictures are gone"
        if lost
        else "what it shows is the same, or never settles"
    )
    raise AssertionError(f"after {CHANGE / 1000:.0f} s {state}")


def move_slider(page, presses=3):
    """Move the first slider by arrow keys, away from its end; wait until the figure in its cell changes."""
    handle, cell = first(page, SLIDER, "slider")
    with step(page, "Moving the slider"):
        before = shown(page, cell, figures=True)
        old, largest = (float(handle.get_attribute(name)) for name in ("aria-valuenow", "aria-valuemax"))
        handle.focus()
        for _ in range(presses):
            page.keyboard.press("ArrowLeft" if old == largest else "ArrowRight")
        new = float(handle.get_attribute("aria-valuenow"))
        assert new != old, f"it stays at {old}"
    with step(page, f"Moved the slider from {old} to {new}, and the figure should change"):
        shown(page, cell, figures=True, before=before)


def type_text(page, text):
    """Replace what is in the first text input, key by key, and wait until its cell shows something else."""
    entry, cell = first(page, TEXT, "text input")
    with step(page, f"Typing {text!r}, and the output should change"):
        before = shown(page, cell)
        entry.press("Control+A")
        entry.press_sequentially(text)
        entry.blur()  # sends the text where the control waits for that
        assert entry.input_value() == text, f"the field shows {entry.input_value()!r}"
        shown(page, cell, before=before)


def what_ran(page):
    """Say which part of typed MARKUP became live: its effect, elements that carry it, or a script."""
    scripts = (
        "[...document.querySelectorAll('.jp-OutputArea-output script')].map(element => element.outerHTML)"
    )
    return page.evaluate(markup.LIVE) + page.evaluate(scripts)


def choose_runs(page):
    """Choose other runs in the list of 06, wait until table and pictures change; return the table's words."""
    choice, cell = first(page, ".jp-OutputArea-output select[multiple]", "list of runs")
    with step(page, "Choosing other runs"):
        assert cell.locator("img:visible").count() == 2, "curves and confusion matrices"
        before, words = shown(page, cell, figures=True), cell.locator("table").inner_text()
        choice.select_option(index=[0, 1])
        shown(page, cell, figures=True, before=before)
        assert cell.locator("table").inner_text() != words
        return cell.locator("table").inner_text()


def type_words_and_markup(page):
    type_text(page, "hello")
    type_text(page, MARKUP)
    assert not what_ran(page)


# --- the chapters

USE = {  # how the control of each notebook is used
    "01_loading": type_words_and_markup,
    "02_data_prep": move_slider,
    "03_training_arguments": move_slider,
    "06_batch_runs": choose_runs,
    "template": type_words_and_markup,
}
SHORT = ("01_loading", "02_data_prep", "03_training_arguments")


def test_every_control_is_used():
    with_widgets = {path.stem for path in NOTEBOOKS if WIDGET in path.read_text(encoding="utf-8")}
    assert with_widgets == set(USE)


@pytest.mark.browser  # a second run of what the comparison of outputs runs, here or in `make test-all`
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_chapter(lab, path):
    """All cells run, widgets and figures are there as committed, and the control changes what it should."""
    run_all(lab, f"notebooks/{path.name}", timeout=RUN if path.stem in SHORT else LONG_RUN)
    widgets = outputs_are_drawn(lab, read(path))
    pictures(lab, widgets)
    if widgets:
        with step(
            lab,
            "Asking for the style of figures: what a cell leaves there changes those that the control draws",
        ):
            assert (
                lab.evaluate(ASK_KERNEL, "import matplotlib; print(matplotlib.rcParams['axes.facecolor'])")
                == "white\n"
            )
        USE[path.stem](lab)


SWEEP = """
import json, sys, tempfile
from pathlib import Path
import pandas as pd
sys.path.insert(0, '..')
from utils.lessons.batch_runs import run_explorer
folder, rows = Path(tempfile.mkdtemp()), []
for seed in (1, 2, 3):
    run = folder / str(seed)
    run.mkdir()
    history = [{"epoch": 1, "loss": 1 / seed}, {"epoch": 1, "eval_loss": 0.5}]
    record = {"parameters": {"task": "single_label"}, "history": history}
    (run / "metrics.json").write_text(json.dumps(record))
    predictions = pd.DataFrame({"text": "t", "label": ["yes", MARKUP] * seed, "predicted": "yes"})
    predictions.to_csv(run / "predictions.csv", index=False)
    row = {"run_id": str(seed), "name": [MARKUP, "b", "c"][seed - 1], "seed": seed, "status": "completed"}
    rows.append(row | {"validation_f1_macro": 0.9 - seed / 10, "seconds": 1, "error": ""})
run_explorer(pd.DataFrame(rows), folder)
"""


@pytest.mark.slow
def test_another_run_is_compared_and_markup_in_its_name_does_not_run(lab, server):
    """The control of 06, on runs made up here: the chapter's own sweep takes minutes."""
    run_all(lab, write_notebook(server, "runs", SWEEP.replace("MARKUP", repr(MARKUP))))
    assert MARKUP in choose_runs(lab)
    assert not what_ran(lab)


TABLES = """
import sys
sys.path.insert(0, '..')
import pandas as pd
from utils.findings import Finding, Report
pd.set_option('display.max_colwidth', None)
print(TEXT)
display(pd.DataFrame({TEXT: [TEXT, 'next: $x^2$']}, index=[TEXT, 'another']))
Report([Finding(TEXT, 'error', TEXT, TEXT)])
"""


@pytest.mark.slow
def test_markup_in_tables_reports_and_formulas_does_not_run(lab, server):
    """A notebook that has just been run is trusted: JupyterLab sanitises nothing, and it typesets what stands
    between dollars, links in formulas too.
    """
    run_all(lab, write_notebook(server, "tables", TABLES.replace("TEXT", repr(" ".join(markup.ALL)))))
    with step(lab, "Waiting for formulas to be typeset"):
        lab.wait_for_function(
            "document.querySelectorAll('.jp-OutputArea-output mjx-container').length === 3 + 1 + 2"
        )  # the report's fix is code
    assert lab.evaluate(markup.LIVE) == []
    seen = lab.locator(".jp-OutputArea-output").all_inner_texts()
    assert [text.count(markup.SCRIPT) for text in seen] == [1, 3, 3]
    assert not what_ran(lab)


# --- make lab


@pytest.mark.slow
def test_make_lab_opens_the_template_with_the_kernel_of_the_environment(browser, tmp_path):
    """Whatever other kernel of that name a user has, and prefers. The page is the one that their browser
    would be told to open.
    """
    copy_repository(tmp_path / "work")
    shutil.copy(ROOT / "Makefile", tmp_path / "work")
    (tmp_path / "work" / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    decoys = {name: str(tmp_path / name) for name in ("JUPYTER_DATA_DIR", "JUPYTER_PATH")}
    for name, folder in decoys.items():
        write_decoy(Path(folder), name)
    with (
        serve(tmp_path, ["make", "lab", "--old-file=setup"], JUPYTER_PREFER_ENV_PATH="0", **decoys) as server,
        new_page(browser, server) as page,
        step(page, "Opening what `make lab` opens"),
    ):
        page.goto(opened(tmp_path))
        page.wait_for_function(IDLE)
        assert page.evaluate("jupyterapp.shell.currentWidget.context.path") == "notebooks/template.ipynb"
        page.locator(".jp-DirListing-itemText", has_text="template.ipynb").wait_for()
        page.click(".jp-BreadCrumbs-home")
        page.locator(".jp-DirListing-itemText", has_text="Makefile").wait_for()
        assert Path(server["root_dir"]).samefile(tmp_path / "work")
        asked = (
            "import json, os, sys; from utils import ROOT; "
            "print(json.dumps([sys.executable, os.getcwd(), str(ROOT), os.environ.get('DECOY')]))"
        )
        python, folder, repository, is_decoy = json.loads(page.evaluate(ASK_KERNEL, asked))
        assert is_decoy is None, f"the kernel is the one in {is_decoy}"
        assert Path(python).parent.samefile(Path(sys.executable).parent)
        assert Path(folder).samefile(tmp_path / "work" / "notebooks")
        assert Path(repository).samefile(tmp_path / "work")


def opened(folder, seconds=30):
    """Return the address that the server that `serve` has started in `folder` opened in the browser."""
    for _ in range(seconds * 10):
        with suppress(FileNotFoundError):
            if address := (folder / "opened").read_text():
                return address
        time.sleep(0.1)
    raise AssertionError(f"no browser was opened within {seconds} s")


def write_decoy(folder, name):
    """A kernel of the usual name, as `python -m ipykernel install --user` leaves it; DECOY tells it."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    path = folder / "kernels" / "python3" / "kernel.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(spec | {"env": {"DECOY": name}}))


# --- the tests' own test: what they look for is seen where it happens


def write_notebook(server, name, *cells):
    path = Path(server["root_dir"]) / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return f"notebooks/{name}.ipynb"


FIGURE = """
import io
import ipywidgets as widgets
from matplotlib.figure import Figure
slider, picture, tell = widgets.IntSlider(value=10, max=10), widgets.Image(), widgets.HTML()
def draw(change=None):
    figure, png = Figure(figsize=(4, 2)), io.BytesIO()
    figure.subplots().plot([0, {height}])
    figure.savefig(png, format="png")
    picture.value = png.getvalue()
slider.observe(draw, "value")
draw()
widgets.VBox([slider, picture])
"""
TEXT_WIDGET = """
import html
entry, shown = widgets.Text(), widgets.HTML()
entry.observe(lambda change: setattr(shown, "value", {value}), "value")
widgets.VBox([entry, shown])
"""


@pytest.mark.slow
def test_self_test_controls_that_work(lab, server):
    run_all(
        lab,
        write_notebook(
            server,
            "good",
            FIGURE.format(height="slider.value"),
            TEXT_WIDGET.format(value="html.escape(change.new)"),
        ),
    )
    move_slider(lab)
    type_text(lab, MARKUP)
    assert not what_ran(lab)


@pytest.mark.slow
def test_self_test_controls_that_do_not(lab, server, monkeypatch):
    run_all(
        lab, write_notebook(server, "bad", FIGURE.format(height="7"), TEXT_WIDGET.format(value="change.new"))
    )
    with (
        monkeypatch.context() as patient,
        pytest.raises(
            pytest.fail.Exception, match=r"(?s)Moved the slider from 10.0 to 7.0.*runs/screenshots/.*png"
        ),
    ):
        patient.setitem(globals(), "CHANGE", 4_000)  # it waits in vain
        move_slider(lab)
    type_text(lab, MARKUP)
    lab.wait_for_function("window.hacked")
    assert len(what_ran(lab)) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    ["1 / 0", "import ipywidgets\ninside = ipywidgets.Output()\nwith inside:\n    1 / 0\ninside"],
    ids=["cell", "output_widget"],
)
def test_self_test_error(lab, server, cell):
    notebook = write_notebook(server, "error", "print('fine')", cell, "print('last')")
    with pytest.raises(
        pytest.fail.Exception,
        match=r"(?s)error\.ipynb: it ended with an error.*ZeroDivisionError.*runs/screenshots/.*png",
    ):
        run_all(lab, notebook)


PICTURES = """
import io
import ipywidgets as widgets
from IPython.display import Image, display
from matplotlib.figure import Figure
def png(*points):
    figure, file = Figure(figsize=(4, 2)), io.BytesIO()
    if points:
        figure.subplots().plot(points)
    figure.savefig(file, format="png")
    return file.getvalue()
"""
# what a cell shows, and what is said of it where the committed notebook has a widget and a figure there
OUTPUTS = {
    "as_it_should_be": ("display(widgets.Image(value=png(1, 2)), Image(png(1, 2)))", []),
    "nothing": ("", ["has 0 widgets", "has 0 figures"]),
    "closed_widget": (
        "slider = widgets.IntSlider()\ndisplay(slider, Image(png(1, 2)))\nslider.close()",
        ["a widget"],
    ),
    "hidden": ("display(widgets.HTML(layout={'display': 'none'}), Image(png(1, 2)))", ["not drawn"]),
    "empty_figure": ("display(widgets.IntSlider(), Image(png()))", ["broken or blank"]),
    "broken_figure_in_a_widget": (
        "display(widgets.Image(value=b'no picture'), Image(png(1, 2)))",
        ["broken or blank"],
    ),
    "two_figures": ("display(widgets.IntSlider(), Image(png(1, 2)), Image(png(1, 2)))", ["has 2 figures"]),
}


@pytest.mark.slow
def test_self_test_outputs(lab, server, monkeypatch):
    """What is missing, dead or blank is said, and of which cell."""
    notebook = write_notebook(server, "outputs", PICTURES, *(cell for cell, _ in OUTPUTS.values()))
    run_all(lab, notebook)
    committed = read(Path(server["root_dir"]) / notebook)
    for cell in committed.cells[1:]:
        cell.outputs = [nbformat.v4.new_output("display_data", {kind: ""}) for kind in (WIDGET, "image/png")]
    monkeypatch.setitem(globals(), "CHANGE", 2_000)  # it waits in vain
    with pytest.raises(pytest.fail.Exception) as failure:
        outputs_are_drawn(lab, committed)
    wrong = str(failure.value).splitlines()
    for cell, (name, (_, said)) in zip(committed.cells[1:], OUTPUTS.items(), strict=True):
        about = [line for line in wrong if cell.id in line]
        assert len(about) == len(said), f"{name}: {about}"
        assert all(words in line for words, line in zip(said, about, strict=True)), f"{name}: {about}"
    lab.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    with pytest.raises(pytest.fail.Exception, match=f"a widget of {committed.cells[1].id} is dead"):
        outputs_are_drawn(lab, committed)
