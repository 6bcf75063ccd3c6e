"""The environment of a local machine, which `make` calls, and of Colab, which a first cell calls."""
