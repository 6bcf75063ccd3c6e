"""The checks, a file a theme. They run in this order: a later one may ask what an earlier one has found."""

# ruff: isort: skip_file
from utils.preflight.checks import texts as texts
from utils.preflight.checks import labels as labels
from utils.preflight.checks import arguments as arguments
from utils.preflight.checks import run as run
