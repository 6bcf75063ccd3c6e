"""The command `python -m utils.batch SWEEP --output-dir FOLDER`."""

import argparse
import sys
from pathlib import Path

from utils.batch.plan import BatchError, Plan, read_plan
from utils.batch.runner import run_and_sum_up
from utils.batch.worker import record_of
from utils.runs import display_path


def _print_plan(plan: Plan, output_dir: Path) -> None:
    """Print what all runs have in common, and for each its state and the folder that names the rest."""
    print(f"{len(plan.runs)} runs of {display_path(plan.notebook)} into {display_path(output_dir)}")
    first = plan.runs[0].settings
    common = [name for name in first if all(run.settings[name] == first[name] for run in plan.runs)]
    if common:
        print(f"all with {', '.join(f'{name} {first[name]}' for name in common)}")
    states = []
    for run in plan.runs:
        record = record_of({"folder": str(output_dir / run.run_id), "parameters": run.parameters})
        states.append(record["status"] if record else "to do")
        print(f"  {states[-1]:10} {run.run_id}")
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 all completed, 1 some failed, 2 the sweep is refused, 130 interrupted."""
    description = "Run a notebook for many parameters; the same command again goes on."
    parser = argparse.ArgumentParser(prog="python -m utils.batch", description=description)
    add = parser.add_argument
    add("file", help="the sweep: YAML with notebook, parameters, grid, runs")
    add("--output-dir", required=True, help="a folder for each run and leaderboard.csv go here")
    add("--workers", type=int, help="runs at a time on this machine; the default is one for every two cores")
    add("--scheduler", help="the address of a running Dask scheduler, such as tcp://10.0.0.1:8786")
    add("--dry-run", action="store_true", help="check the sweep, print its runs, start nothing")
    retry = {"action": argparse.BooleanOptionalAction, "default": True}
    add("--retry-failed", **retry, help="run failed ones again (the default)")
    args = parser.parse_args(arguments)
    if args.workers is not None and (args.workers < 1 or args.scheduler):
        parser.error("--workers must be 1 or more, and goes without --scheduler, which has its own workers")
    output_dir = Path(args.output_dir).expanduser().absolute()
    try:
        if args.dry_run:
            _print_plan(read_plan(args.file), output_dir)
            return 0
        options = (args.workers, args.scheduler, args.retry_failed)
        leaderboard, summary = run_and_sum_up(args.file, output_dir, *options)
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on with what is unfinished.", file=sys.stderr)
        return 130
    failed = leaderboard[leaderboard["status"] == "failed"]
    lines = [summary] if summary else []
    lines += [f"failed: {row['run_id']}: {row['error']}" for _, row in failed.iterrows()]
    counts = f"{len(leaderboard) - len(failed)} completed, {len(failed)} failed"
    print("\n".join([*lines, f"{counts}. {display_path(output_dir / 'leaderboard.csv')}"]))
    return 1 if len(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
