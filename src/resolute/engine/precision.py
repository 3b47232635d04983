"""Whether bf16 pays on this machine."""

import logging

import torch

_LOG = logging.getLogger(__name__)

# Instructions that multiply bf16 numbers; without them torch turns each into float32 and back.
_BF16 = ("avx512_bf16", "amx_bf16", "avx10_1", "avx10_2", "bf16", "sve_bf16")


def warn_of_slow_bf16(device: torch.device) -> None:
    """Say so where a run with `train.amp` would be slower than one without.

    Args:
        device: where the run happens.
    """
    if device.type != "cpu":
        return
    # Older versions of torch do not tell.
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if known and not any(known.get(name) for name in _BF16):
        _LOG.warning(
            "train.amp: this processor (%s) has no bf16 instructions, float32 is faster; set "
            "--train.amp false for a run of your own",
            known.get("cpu_name", "unknown"),
        )
