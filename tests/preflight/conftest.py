"""What all tests of preflight need."""

import gc

import pytest
import transformers


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Trainer collects garbage at each start: that takes a second with the libraries' objects among it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def quiet_and_seeded():
    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(0)
    yield
    transformers.utils.logging.set_verbosity_warning()
