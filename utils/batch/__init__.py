"""Many papermill runs on Dask, from one file: `python -m utils.batch SWEEP --output-dir FOLDER`.

`plan` reads the sweep, `runner` drives, `worker` does one run, `leaderboard` and `figures` compare what came
of them, `folds` puts the folds of a cross-validation together.
"""
