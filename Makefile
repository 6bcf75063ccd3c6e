# make run    fine-tune a classifier on the bundled tweets: environment, data and notebooks 01 to 05, into runs/tutorial/
# make test   style, tests and the notebooks' outputs
# make batch  run the sweep of notebooks/params/sweep.yaml into runs/sweep; again: what is missing. make batch SWEEP=my.yaml OUT=runs/my
# make lab    JupyterLab in notebooks/
# make notebooks   run all notebooks and store their outputs in them
# make clean  remove .venv, fetched data and runs/

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

# Bars are for people who watch; these outputs go to files.
export HF_HUB_DISABLE_PROGRESS_BARS = 1
export HF_DATASETS_DISABLE_PROGRESS_BARS = 1
export FINETUNE_REPO = $(CURDIR)

.PHONY: run test lab notebooks batch clean setup

setup:
	@$(PYTHON) utils/environment.py
	@$(BIN)/python -m utils.data

run: setup
	@rm -rf runs/tutorial && mkdir -p runs/tutorial
	@for notebook in notebooks/0[1-5]_*.ipynb; do \
		case $$notebook in *04_training*) parameters="-p output_dir runs/tutorial/training";; *) parameters="";; esac; \
		$(BIN)/papermill $$notebook runs/tutorial/$$(basename $$notebook) $$parameters || exit 1; \
	done
	@$(BIN)/python -m utils.runs runs/tutorial/training

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# two files at a time, one thread each: trainings with two threads slow each other down several times
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests
	@# on a copy, with the exercises solved: runs/training of whoever works here stays as it is
	@rm -rf runs/nbval && mkdir -p runs/nbval && cp -R notebooks utils data runs/nbval/
	@$(BIN)/python tests/notebooks.py runs/nbval/notebooks
	OMP_NUM_THREADS=1 FINETUNE_REPO= $(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-cell-timeout=1200 --durations=5 -p no:cacheprovider runs/nbval/notebooks
	@rm -rf runs/nbval

SWEEP ?= notebooks/params/sweep.yaml
OUT ?= runs/sweep

batch: setup
	@env -u HF_HUB_DISABLE_PROGRESS_BARS $(BIN)/python -m utils.batch $(SWEEP) --output-dir $(OUT)

lab: setup
	env -u HF_HUB_DISABLE_PROGRESS_BARS -u HF_DATASETS_DISABLE_PROGRESS_BARS $(BIN)/jupyter lab --notebook-dir=. notebooks/04_training.ipynb

notebooks: setup
	@rm -rf runs/training
	$(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--NotebookExporter.preprocessors=nbconvert.preprocessors.coalescestreams.CoalesceStreamsPreprocessor notebooks/*.ipynb

clean:
	rm -rf .venv runs data/*.zip data/tweets.csv data/reviews.csv data/products.csv data/editorials.csv
