"""Models with PEFT's adapters, made in a line."""

import json

from peft import LoraConfig, get_peft_model


def with_adapter(model, *saved, target="query", adapter="default", kind=LoraConfig, on=True, **how):
    """Freeze a model, but for an adapter on the layers called `target` and the modules `saved`."""
    target = target if target == "all-linear" else rf"(.*\.)?({target})"
    how |= {"target_modules": target, "modules_to_save": list(saved) or None}
    how |= {"r": 2} if kind is LoraConfig else {"feedforward_modules": []}
    model = get_peft_model(model, kind(**how), adapter_name=adapter)
    return model if on else model.requires_grad_(False)


def save_adapter(model, folder, base):
    """Save an adapter as if its model had been loaded from `base`."""
    model.save_pretrained(folder)
    (adapter,) = model.peft_config
    file = folder / ("" if adapter == "default" else adapter) / "adapter_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base and str(base)})
    )
