"""Which GPUs there are, without importing torch."""

import os
import shutil
import subprocess

ANSWER_SECONDS = 120  # nvidia-smi answers at once, or hangs with its driver


def visible_gpus() -> list[str]:
    """Return the GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        RuntimeError: nvidia-smi hangs.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None and shutil.which("nvidia-smi"):
        try:
            answer = subprocess.run(
                ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=ANSWER_SECONDS
            ).stdout
        except subprocess.TimeoutExpired:
            reason = f"nvidia-smi has not answered for {ANSWER_SECONDS} seconds: something is wrong with the GPU's driver"
            raise RuntimeError(
                f"{reason}; to do without a GPU, set CUDA_VISIBLE_DEVICES to nothing"
            ) from None
        named = ",".join(map(str, range(sum(line.startswith("GPU ") for line in answer.splitlines()))))
    return [device for device in (named or "").split(",") if device not in ("", "-1")]
