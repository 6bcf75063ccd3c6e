"""The notebooks' controls, driven in a real browser: JupyterLab is served from a temporary copy, and a headless Chromium moves sliders and types.

Every test leaves a screenshot in runs/screenshots/. Nothing here waits a fixed time: each step waits for what it needs to see.
"""

import json
import os
import re
import secrets
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

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "runs" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The name resolution rule keeps the browser on this machine, whatever a page asks for.
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
# milliseconds that a step, all cells of a notebook, and the answer to a moved control may take on a busy machine; and between two looks at a cell
STEP, RUN, CHANGE, LOOK = 60_000, 600_000, 15_000, 250

SETTINGS = {  # JupyterLab's settings, by the plugin that reads them
    "notebook-extension/tracker": {"windowingMode": "none"},  # otherwise cells out of sight are not drawn
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
SLIDER = ".jp-OutputArea-output .widget-slider:not([disabled]) .noUi-handle"
TEXT = ".jp-OutputArea-output .jupyter-widgets :is(input[type=text], textarea):not([disabled])"
MARKUP = """<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1"> hello"""

# JupyterLab's own account of the kernel: the circle in the toolbar says "idle" before there is one, and cells run then are dropped.
IDLE = """() => {
    const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""

# How running all cells ended; false while it has not, or while widgets are still being drawn, so that the page is not as half a second ago.
# An error inside an Output widget is not in the notebook's model, only on the page.
OUTCOME = r"""() => {
    const dialog = document.querySelector(".jp-Dialog");
    if (dialog) return {end: "a dialog", text: dialog.innerText};
    if (!(IDLE)()) return false;
    const notebook = jupyterapp.shell.currentWidget.content;
    const now = [...notebook.node.querySelectorAll(".jp-OutputArea-output")].map(output => output.innerHTML).join();
    const settled = now === window.lastLook && !now.includes("Loading widget...");
    window.lastLook = now;
    if (!settled) return false;
    const code = notebook.widgets.map(cell => cell.model).filter(model => model.type === "code");
    const errors = code.flatMap(model => model.outputs.toJSON()).filter(output => output.output_type === "error").map(error => error.traceback.join("\n"));
    const inside = [...notebook.node.querySelectorAll(".jupyter-widgets")].map(widget => widget.innerText);
    errors.push(...inside.filter(text => /Traceback \(most recent|^Error displaying widget/.test(text)));
    if (errors.length) return {end: "an error", text: errors.join("\n").replace(/\x1b\[[\d;]*m/g, "")};
    return code.every(model => model.executionCount !== null || !model.sharedModel.source.trim()) && {end: "all done", text: ""};
}""".replace("IDLE", IDLE)

# What a cell shows besides its sliders, null while the kernel works. With `figures`, the bytes of its pictures alone, where it has any.
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


def screenshot(page):
    """Store what the page shows in runs/screenshots/, under the test's name, and return the path."""
    name = re.sub(r"[^\w.-]+", "_", os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]).strip("_")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path.relative_to(ROOT)


@contextmanager
def step(page, what):
    """Turn what goes wrong inside into a failure that says what was being done, and where to see how the page looked."""
    try:
        yield
    except (AssertionError, PlaywrightError) as error:
        pytest.fail(f"{what}: {error}\nThe page at that moment: {screenshot(page)}")


# --- serving and opening


def copy_repository(folder):
    """Copy what the notebooks need, without their outputs: what the page shows afterwards was made by this run."""
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
    request = urllib.request.Request(server["url"] + path, method=method, headers={"Authorization": f"token {server['token']}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def wait_for_server(process, runtime, log, seconds=60):
    """Return url and token once the server answers; its own runtime file says where it listens."""
    for _ in range(seconds * 10):
        assert process.poll() is None, f"JupyterLab ended with status {process.returncode}:\n{log.read_text()[-3000:]}"
        with suppress(OSError, ValueError, StopIteration):  # no file yet, half a file, not listening yet
            server = json.loads(next(runtime.glob("jpserver-*.json")).read_text())
            call(server, "api/status")
            return server
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not answer within {seconds} s:\n{log.read_text()[-3000:]}")


@contextmanager
def serve(folder):
    """Serve JupyterLab from `folder`/work with settings, workspaces and kernels of its own; end all of its processes afterwards."""
    own = {"SETTINGS": folder / "settings", "WORKSPACES": folder / "workspaces"}
    environment = {name: value for name, value in os.environ.items() if name != "FINETUNE_REPO"}  # the notebooks shall find the copy
    environment |= {f"JUPYTERLAB_{name}_DIR": str(path) for name, path in own.items()}
    environment |= {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment |= {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_TOKEN": secrets.token_hex(16)}
    for plugin, values in SETTINGS.items():
        path = own["SETTINGS"] / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:  # should somebody take the port in between, Jupyter takes the next one
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--expose-app-in-browser"]
    # the extension manager would ask the package index; an abandoned server (pytest was killed) ends by itself
    command += [f"--ServerApp.root_dir={folder / 'work'}", "--LabApp.extension_manager=readonly", "--ServerApp.shutdown_no_activity_timeout=900"]
    command += ["--MappingKernelManager.cull_idle_timeout=600"]
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder)
    try:
        yield wait_for_server(process, folder / "runtime", log)
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
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
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a CI job that is cut off cleans up, too
    try:
        with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home, play() as playwright:
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


@pytest.fixture
def lab(browser, server):
    """A page that is logged in to JupyterLab. Afterwards: a screenshot, kernels ended, and nothing was asked of another machine."""
    context = browser.new_context(base_url=server["url"], viewport={"width": 1280, "height": 1100})
    context.set_default_timeout(STEP)
    asked, complaints = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    try:
        context.request.get(f"/api/status?token={server['token']}")  # sets the cookie
        page = context.new_page()
        yield page
        print("screenshot:", screenshot(page))
        print("the browser's console:", *complaints, sep="\n  ")
    finally:
        context.close()
        for session in call(server, "api/sessions"):
            call(server, f"api/sessions/{session['id']}", "DELETE")
    outside = [url for url in asked if not url.startswith((server["url"], "data:", "blob:"))]
    assert not outside, f"the page asked other machines: {outside}"


def run_all(page, notebook):
    """Open a notebook (its path from the repository root), run all cells from the menu, and wait until the last is done.

    Fails with the traceback where a cell ends in an error, and with the dialog's text where JupyterLab asks something.
    """
    with step(page, f"Opening {notebook}"):
        page.goto(f"/lab/tree/{notebook}?reset")
        page.wait_for_function(IDLE)
    with step(page, f"Running all cells of {notebook}"):
        page.click(".lm-MenuBar-item >> text=/^Run$/")
        page.click("[data-command='runmenu:run-all']")
        outcome = page.wait_for_function(OUTCOME, polling=500, timeout=RUN).json_value()
        assert outcome["end"] == "all done", f"it ended with {outcome['end']}:\n{outcome['text']}"


def first(page, control, what):
    """Return the first control of a kind in the outputs, and the cell it is in."""
    with step(page, f"Looking for the first {what}"):
        found = page.locator(control).first
        found.scroll_into_view_if_needed()
        return found, page.locator(".jp-CodeCell").filter(has=page.locator(control)).first


def shown(page, cell, figures=False, before=None):
    """Wait until two looks at a cell are alike, and not like `before`; return what it shows (`figures`: its pictures alone, if it has any)."""
    last = None
    for _ in range(CHANGE // LOOK):
        now = cell.evaluate(SHOWN, figures)
        lost = (before or "").startswith("pictures") and not (now or "").startswith("pictures")  # gone is not redrawn
        if now == last and now not in (None, before) and not lost:
            return now
        last = now
        page.wait_for_timeout(LOOK)
    state = (
        "the kernel is not idle or a picture is broken" if now is None else "the pictures are gone" if lost else "what it shows is the same, or never settles"
    )
    raise AssertionError(f"after {CHANGE / 1000:.0f} s {state}")


def move_slider(page, presses=3):
    """Move the first slider by arrow keys, away from the end it may be at, and wait until the figure in its cell changes."""
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
    """Say which part of typed MARKUP became live: its effect, or elements that carry it."""
    return page.evaluate("""() => [
        ...(window.hacked ? ["window.hacked is set"] : []),
        ...[...document.querySelectorAll("img[src=x], [onerror], .jp-OutputArea-output script")].map(element => element.outerHTML),
    ]""")


# --- the chapters


@pytest.mark.slow
@pytest.mark.parametrize("notebook", ["02_data_prep.ipynb", "03_training_arguments.ipynb"])
def test_moving_the_slider_redraws_the_figure(lab, notebook):
    run_all(lab, f"notebooks/{notebook}")
    move_slider(lab)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", ["01_loading.ipynb"])
def test_typed_text_is_shown_and_markup_in_it_does_not_run(lab, notebook):
    run_all(lab, f"notebooks/{notebook}")
    type_text(lab, "hello")
    type_text(lab, MARKUP)
    assert not what_ran(lab)


@pytest.mark.slow
def test_another_mistake_is_shown_with_its_symptom(lab, server):
    """The control of 05, in a notebook of its own: the chapter trains for a minute before it gets there, and nbval runs it anyway."""
    run_all(
        lab,
        write_notebook(
            server, "pitfalls", "import sys\nsys.path.insert(0, '..')", "from utils.widgets import pitfall_explorer\npitfall_explorer('split-leak')"
        ),
    )
    choice, cell = first(lab, ".jp-OutputArea-output .widget-dropdown select", "list of choices")
    with step(lab, "Choosing another mistake"):
        before = shown(lab, cell)
        assert "The same text in two splits" in before
        choice.select_option("ga-loss")
        assert "model.accepts_loss_kwargs = False" in shown(lab, cell, before=before)


SWEEP = """
import json, sys, tempfile
from pathlib import Path
import pandas as pd
sys.path.insert(0, '..')
from utils.widgets import RunComparison
folder, rows = Path(tempfile.mkdtemp()), []
for seed in (1, 2, 3):
    run = folder / str(seed)
    run.mkdir()
    history = [{"epoch": 1, "loss": 1 / seed}, {"epoch": 1, "eval_loss": 0.5}]
    (run / "metrics.json").write_text(json.dumps({"parameters": {"task": "single_label"}, "history": history}))
    pd.DataFrame({"text": "t", "label": ["yes", MARKUP] * seed, "predicted": "yes"}).to_csv(run / "predictions.csv", index=False)
    name = [MARKUP, "b", "c"][seed - 1]
    rows.append({"run_id": str(seed), "name": name, "seed": seed, "status": "completed", "validation_f1_macro": 0.9 - seed / 10, "seconds": 1, "error": ""})
RunComparison(pd.DataFrame(rows), folder)
"""


@pytest.mark.slow
def test_another_run_is_compared_and_markup_in_its_name_does_not_run(lab, server):
    """The control of 06, on runs made up here: the chapter's own sweep takes minutes."""
    run_all(lab, write_notebook(server, "runs", SWEEP.replace("MARKUP", repr(MARKUP))))
    choice, cell = first(lab, ".jp-OutputArea-output select[multiple]", "list of runs")
    with step(lab, "Choosing other runs"):
        assert cell.locator("img:visible").count() == 2, "curves and confusion matrices"
        before, words = shown(lab, cell, figures=True), cell.locator("table").inner_text()
        choice.select_option(index=[0, 1])
        shown(lab, cell, figures=True, before=before)
        assert cell.locator("table").inner_text() != words
        assert MARKUP in cell.locator("table").inner_text()
    assert not what_ran(lab)


TABLES = """
import sys
sys.path.insert(0, '..')
import pandas as pd
from utils.preflight import Finding, Report
pd.set_option('display.max_colwidth', None)
print(TEXT)
display(pd.DataFrame({TEXT: [TEXT, 'next: $x^2$']}, index=[TEXT, 'another']))
Report([Finding(TEXT, 'error', TEXT, TEXT)])
"""


@pytest.mark.slow
def test_markup_in_tables_reports_and_formulas_does_not_run(lab, server):
    """A notebook that has just been run is trusted: JupyterLab sanitises nothing, and it typesets what stands between dollars, links in formulas too."""
    run_all(lab, write_notebook(server, "tables", TABLES.replace("TEXT", repr(" ".join(markup.ALL)))))
    with step(lab, "Waiting for formulas to be typeset"):
        lab.wait_for_function("document.querySelectorAll('.jp-OutputArea-output mjx-container').length === 3 + 1 + 2")  # the report's fix is code
    assert lab.evaluate(markup.LIVE) == []
    seen = lab.locator(".jp-OutputArea-output").all_inner_texts()
    assert [text.count(markup.SCRIPT) for text in seen] == [1, 3, 3]
    assert not what_ran(lab)


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
    run_all(lab, write_notebook(server, "good", FIGURE.format(height="slider.value"), TEXT_WIDGET.format(value="html.escape(change.new)")))
    move_slider(lab)
    type_text(lab, MARKUP)
    assert not what_ran(lab)


@pytest.mark.slow
def test_self_test_controls_that_do_not(lab, server, monkeypatch):
    run_all(lab, write_notebook(server, "bad", FIGURE.format(height="7"), TEXT_WIDGET.format(value="change.new")))
    with monkeypatch.context() as patient, pytest.raises(pytest.fail.Exception, match=r"(?s)Moved the slider from 10.0 to 7.0.*runs/screenshots/.*png"):
        patient.setitem(globals(), "CHANGE", 4_000)  # it waits in vain
        move_slider(lab)
    type_text(lab, MARKUP)
    lab.wait_for_function("window.hacked")
    assert len(what_ran(lab)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["1 / 0", "import ipywidgets\ninside = ipywidgets.Output()\nwith inside:\n    1 / 0\ninside"], ids=["cell", "output_widget"])
def test_self_test_error(lab, server, cell):
    notebook = write_notebook(server, "error", "print('fine')", cell, "print('last')")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)error\.ipynb: it ended with an error.*ZeroDivisionError.*runs/screenshots/.*png"):
        run_all(lab, notebook)
