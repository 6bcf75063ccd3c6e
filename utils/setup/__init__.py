"""The environment of a local machine, which `make` calls, and what Colab lacks, which the first cell of a notebook calls."""
