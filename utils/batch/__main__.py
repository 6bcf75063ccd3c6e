"""The command `python -m utils.batch SWEEP --output-dir FOLDER`."""

import argparse
import sys
from pathlib import Path

from utils.batch.plan import BatchError, Plan, read_plan
from utils.batch.runner import run_and_sum_up
from utils.batch.worker import record_of
from utils.runs import display_path


def _print_plan(plan: Plan, output_dir: Path) -> None:
    """Print what all runs have in common, and for each its state and its folder, which names what it has of its own."""
    states = [
        (
            record_of({"folder": str(output_dir / run.run_id), "parameters": run.parameters})
            or {"status": "to do"}
        )["status"]
        for run in plan.runs
    ]
    print(f"{len(states)} runs of {display_path(plan.notebook)} into {display_path(output_dir)}")
    if common := [
        f"{name} {value}"
        for name, value in plan.runs[0].shown.items()
        if all(run.shown[name] == value for run in plan.runs)
    ]:
        print(f"all with {', '.join(common)}")
    for run, state in zip(plan.runs, states, strict=True):
        print(f"  {state:10} {run.run_id}")
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 all completed, 1 some failed or are missing, 2 the sweep is refused, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.batch",
        description="Run a notebook for many parameters; the same command again goes on.",
    )
    parser.add_argument("file", help="the sweep: YAML with notebook, parameters, grid, runs")
    parser.add_argument(
        "--output-dir", required=True, help="a folder for each run and leaderboard.csv go here"
    )
    parser.add_argument(
        "--workers", type=int, help="runs at a time on this machine; the default is one for every two cores"
    )
    parser.add_argument(
        "--scheduler",
        help="the address of a running Dask scheduler, such as tcp://10.0.0.1:8786; waits for its workers",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the sweep, print its runs, start nothing"
    )
    parser.add_argument(
        "--retry-failed",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run failed ones again (they are)",
    )
    given = parser.parse_args(arguments)
    if given.workers is not None and (given.workers < 1 or given.scheduler):
        parser.error(
            "--workers must be 1 or more, and goes without --scheduler, whose workers are counted already"
        )
    try:
        if given.dry_run:
            _print_plan(read_plan(given.file), Path(given.output_dir).expanduser().absolute())
            return 0
        leaderboard, summary = run_and_sum_up(
            given.file, given.output_dir, given.workers, given.scheduler, given.retry_failed
        )
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on with what is unfinished.", file=sys.stderr)
        return 130
    if summary:
        print(summary)
    failed = leaderboard[leaderboard["status"] == "failed"]
    for _, row in failed.iterrows():
        print(f"failed: {row['run_id']}: {row['error']}")
    print(
        f"{len(leaderboard) - len(failed)} completed, {len(failed)} failed. {display_path(Path(given.output_dir).absolute() / 'leaderboard.csv')}"
    )
    return 1 if len(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
