"""Many papermill runs on Dask, from one file: `python -m utils.batch SWEEP --output-dir FOLDER`, or `utils.batch.runner.run_batch`.

`plan` reads the sweep, `runner` drives, `worker` is what happens to one run, `leaderboard` and `figures` compare what came of them.
"""
