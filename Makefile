# make run    fine-tune a classifier on the bundled tweets: environment, data and the template, into runs/tutorial/
# make test   style, tests and the notebooks' outputs; says what it leaves for
# make test-all   the same, and what takes minutes: 04, 06 and the template on all rows, 02, 03 and 07 with the bundled model,
#             trainings that have to beat a baseline
# make browser   all notebooks in JupyterLab, in a headless Chromium; pictures of them in runs/screenshots/
# make batch  run the sweep of notebooks/params/sweep.yaml into runs/sweep; again: what is missing.
#             make batch SWEEP=my.yaml OUT=runs/my
# make bench  what a run costs, beside what people use instead: table, figure and ratios in runs/bench/. Takes hours;
#             again: what is missing. QUICK=1: five minutes. Or SEEDS=3 SETS=tweets,reviews METHODS=tfidf,template
#             THREADS=1; PEERS=1 installs SetFit and simpletransformers for it
# make lab    JupyterLab in notebooks/
# make notebooks   run all notebooks and store their outputs in them
# make test-matrix   the tests with Colab's versions, the lowest that are allowed, those of constraints.txt, the newest;
#             or ENVS=colab TESTS=tests/reading
# make colab  all notebooks as in Colab: its versions, nothing but the notebook; what they showed is in runs/colab/
# make audit  known vulnerabilities in constraints.txt (asks the package index), weaknesses in the CI file
# make site   the notebooks as pages to read and search, offline: runs/site/index.html
# make pages  the pages of docs/ that are made from the code
# make badges REPO=owner/name TAG=v1.0   "Open in Colab" badges in README and notebooks
# make clean  remove .venv, fetched data and runs/

ifeq ($(OS),Windows_NT)
PYTHON ?= python
SCRIPTS := Scripts
else
PYTHON ?= python3
SCRIPTS := bin
endif
BIN := .venv/$(SCRIPTS)

# Bars are for people who watch; these outputs go to files.
export HF_HUB_DISABLE_PROGRESS_BARS = 1
export HF_DATASETS_DISABLE_PROGRESS_BARS = 1

# What `make run` asks the model at its end.
SENTENCES = "Best day of my life :)" "My phone died again, great." "The meeting is at ten."

# The kernel python3 is the environment's, also where somebody has another one of that name.
export JUPYTER_PREFER_ENV_PATH = 1
unexport JUPYTER_PATH

.PHONY: run test test-all suite browser test-matrix colab audit lab notebooks site pages badges batch bench clean setup

setup:
	@$(PYTHON) utils/setup/environment.py
	@$(BIN)/python -m utils.reading.bundled

run: setup
	@rm -rf runs/tutorial && mkdir -p runs/tutorial
	@$(BIN)/papermill notebooks/template.ipynb runs/tutorial/template.ipynb -p output_dir runs/tutorial/training
	@$(BIN)/python -m utils.runs runs/tutorial/training $(SENTENCES)

test test-all: setup site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory suite $(if $(filter test-all,$@),MARKS="not browser")

TESTS ?= tests
MARKS ?= not browser and not full
NBVAL := runs/nbval/notebooks

# In the environment BIN, as it is: all tests and the notebooks, or only TESTS. The notebooks run in a copy, with the
# exercises solved, 02, 03 and 07 also with a small model: runs/training of whoever works here stays as it is. Four
# processes for two cores, because many tests wait; one thread each, because two trainings with two threads slow each
# other down several times.
suite:
ifeq ($(TESTS),tests)
	@rm -rf runs/nbval && mkdir -p runs/nbval && cp -R notebooks utils data runs/nbval/
	@$(BIN)/python tests/tools/notebooks.py $(NBVAL)
endif
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=10 \
		-m "$(MARKS)" --nbval-lax --nbval-cell-timeout=1200 $(TESTS) $(if $(filter tests,$(TESTS)),$(NBVAL))
	@rm -rf runs/nbval

browser: setup
	OMP_NUM_THREADS=1 REQUIRE_BROWSER=1 $(BIN)/python -m pytest -v --durations=10 tests/notebooks/test_browser.py

test-matrix:
	@TESTS="$(TESTS)" $(PYTHON) tests/tools/matrix.py $(ENVS)

colab:
	@TESTS=none $(PYTHON) tests/tools/matrix.py colab

# No finding is accepted so far. One that has to stay is named here, with the reason: --ignore-vuln ID
# --strict: what could not be looked up is a failure. Without it pip-audit passes with nothing audited.
audit:
	@$(PYTHON) utils/setup/environment.py audit
	.venv-audit/$(SCRIPTS)/zizmor --offline --quiet .github
	.venv-audit/$(SCRIPTS)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	.venv-audit/$(SCRIPTS)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

SWEEP ?= notebooks/params/sweep.yaml
OUT ?= runs/sweep

batch: setup
	@env -u HF_HUB_DISABLE_PROGRESS_BARS $(BIN)/python -m utils.batch $(SWEEP) --output-dir $(OUT)

# The rungs; then, unless only some were asked for, what grows with the rows and what a start costs; then the table.
BENCH_ARGS = $(if $(QUICK),--quick) $(if $(PEERS),--peers) $(if $(SEEDS),--seeds $(SEEDS)) \
	$(if $(THREADS),--threads $(THREADS)) $(if $(SETS),--sets "$(SETS)") $(if $(METHODS),--methods "$(METHODS)")

bench: setup  # 3: some measurements failed; the table is of the others
	@$(BIN)/python benchmarks/run.py $(BENCH_ARGS); status=$$?; [ $$status = 0 ] || [ $$status = 3 ] || exit $$status; \
	$(if $(QUICK)$(SETS)$(METHODS),,$(BIN)/python benchmarks/growth.py && $(BIN)/python benchmarks/startup.py &&) \
	$(BIN)/python benchmarks/report.py $(if $(QUICK),--quick) && exit $$status

lab: setup
	env -u HF_HUB_DISABLE_PROGRESS_BARS -u HF_DATASETS_DISABLE_PROGRESS_BARS $(BIN)/jupyter lab --notebook-dir=. notebooks/template.ipynb

notebooks: setup
	@rm -rf runs/training runs/batch notebooks/runs
	$(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--NotebookExporter.preprocessors=nbconvert.preprocessors.coalescestreams.CoalesceStreamsPreprocessor notebooks/*.ipynb

site:
	@$(PYTHON) utils/setup/environment.py site
	@.venv-site/$(SCRIPTS)/python docs/build.py

pages: setup
	$(BIN)/python docs/pages.py

badges:
	@$(PYTHON) docs/badges.py $(if $(filter undefined,$(origin REPO)),,--repository "$(REPO)") $(if $(TAG),--tag "$(TAG)")

clean:
	rm -rf .venv .venv-site .venv-audit finetuning.egg-info runs notebooks/runs data/*.zip data/tweets.csv data/reviews.csv data/products.csv data/editorials.csv
