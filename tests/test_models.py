"""From a model's name to a folder, and what a forward pass keeps."""

import pytest
import torch

from utils.models import ModelError, activation_bytes, find_model


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_activation_bytes_counts_each_storage_once_and_no_weights(device):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 4, bias=False, device=device)

        def forward(self, x):
            return torch.relu(self.layer(x)) + torch.relu(self.layer(x))

    # kept: x (2 × 3 numbers, once) and what each relu returned (2 × 4 numbers, twice), in 4 bytes each
    assert activation_bytes(Twice(), {"x": torch.ones(2, 3, device=device)}) == 4 * (6 + 8 + 8)


def test_a_refused_folder_in_the_repository_is_named_without_the_machines_path(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.models.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="no config.json in mine") as caught:
        find_model("mine")
    assert str(tmp_path) not in str(caught.value)
