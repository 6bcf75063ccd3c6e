"""Stand-ins for what PEFT makes of a model; it need not be installed."""

import copy
import json
import re
from types import SimpleNamespace

import torch
from safetensors.torch import save_file


class SavedWithIt(torch.nn.Module):
    """What PEFT puts in the place of a module that is named in modules_to_save."""

    def __init__(self, module, adapter="default", on=True):
        super().__init__()
        self.original_module, self.adapter = module, adapter
        self.modules_to_save = torch.nn.ModuleDict({adapter: copy.deepcopy(module)}).requires_grad_(on)

    def forward(self, *args, **kwargs):
        return self.modules_to_save[self.adapter](*args, **kwargs)


class LowRank(torch.nn.Module):
    """What PEFT puts in the place of a layer that is named in target_modules."""

    def __init__(self, layer, adapter="default", on=True):
        super().__init__()
        self.base_layer, self.adapter = layer, adapter
        down = torch.nn.Linear(layer.in_features, 2, bias=False)
        up = torch.nn.Linear(2, layer.out_features, bias=False)
        self.lora_A = torch.nn.ModuleDict({adapter: down}).requires_grad_(on)
        self.lora_B = torch.nn.ModuleDict({adapter: up}).requires_grad_(on)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B[self.adapter](self.lora_A[self.adapter](x))


class LoraConfig(SimpleNamespace):
    pass


class IA3Config(LoraConfig):
    pass


def with_adapter(model, *saved, target="query", adapter="default", config=LoraConfig, on=True):
    """Freeze a model, but for an adapter on the layers called `target` and the modules `saved`."""
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if name in saved:
            setattr(model.get_submodule(parent), last, SavedWithIt(module, adapter, on))
        elif target and re.fullmatch(target, last):
            setattr(model.get_submodule(parent), last, LowRank(module, adapter, on))
    model.peft_config = {adapter: config(task_type=None, modules_to_save=list(saved) or None)}
    model.get_base_model = lambda: model
    return model


def save_adapter(model, folder, base):
    """Write what PEFT writes: the trainable tensors, without the adapter's name."""
    (adapter,) = model.peft_config
    parameters = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    plain = {name: name.replace(".modules_to_save", "").replace(f".{adapter}.", ".") for name in parameters}
    folder.mkdir(parents=True)
    tensors = {f"base_model.model.{plain[name]}": tensor for name, tensor in parameters.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": base and str(base), "r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config))
