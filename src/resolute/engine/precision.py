"""In which numbers a run multiplies."""

from typing import Literal

import torch

Precision = Literal["float32", "bf16"]

# Instructions that multiply bf16 numbers; without them torch turns each into float32 and back.
_BF16 = ("avx512_bf16", "amx_bf16", "avx10_1", "avx10_2", "bf16", "sve_bf16")


def precision_of(device: torch.device, *, is_mixed: bool) -> Precision:
    """Say in which numbers a run on a device multiplies.

    Without instructions for bf16 a step in it takes many times as long as one in float32 and is
    worth no more, so there it is not used.

    Args:
        device: where the run happens.
        is_mixed: whether the run asks for bf16 (``train.amp``).

    Returns:
        ``bf16`` where it is asked for and the device has it, else ``float32``.
    """
    return "bf16" if is_mixed and _has_bf16(device) else "float32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    # Older versions of torch do not tell.
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return not known or any(known.get(name) for name in _BF16)
