"""What is wrong with a Trainer: before training, while it trains (`Watch`) and after saving (`check_saved`).

    report = preflight(trainer)       # trains nothing, changes nothing
    report.raise_for_errors()
    trainer.add_callback(Watch())     # stops a run that can only be seen to be broken while it runs
    trainer.train()
    check_saved(folder, trainer).raise_for_errors()

The single checks stand in `utils.preflight.checks`, a file a theme.
"""

from utils.preflight.catalogue import catalogue
from utils.preflight.run import preflight
from utils.preflight.saved import check_saved
from utils.preflight.watch import Watch, WatchError

__all__ = ["Watch", "WatchError", "catalogue", "check_saved", "preflight"]
