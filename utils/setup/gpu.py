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
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices is None and shutil.which("nvidia-smi"):
        try:
            command = ["nvidia-smi", "-L"]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            reason = f"nvidia-smi has not answered for {ANSWER_SECONDS} seconds: the GPU's driver is at fault"
            remedy = "to do without a GPU, set CUDA_VISIBLE_DEVICES to nothing"
            raise RuntimeError(f"{reason}; {remedy}") from None
        return [str(k) for k in range(sum(line.startswith("GPU ") for line in answer.stdout.splitlines()))]
    return [device for device in (devices or "").split(",") if device not in ("", "-1")]
