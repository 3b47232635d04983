"""Read weight files and fill a backbone by name and shape, saying what matched.

No code is ever executed: safetensors, or pickles through torch's restricted unpickler with the
short allow-list below and no fallback.
"""

import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from resolute.core.errors import CheckpointError
from resolute.models.resnet import ResNet

# Training toolboxes store a score beside the weights (Torchreid's ``rank1``), a numpy scalar.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
ALLOWED_GLOBALS: list[Any] = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]

# What a toolbox's ResNets have in another way than torchvision's, as settings of the model.
STEMS: dict[str, tuple[str, Any]] = {
    "FastReID": ("stem_pool_padding", 0),
    "the strong baseline": ("stem_relu", False),
}

# On a layer: names of its own parameters that a file filled. It goes where the layer goes, into
# parts of a method and copies of them.
_FILLED = "filled_by_file"

# The state is the file itself or stands under one of these keys.
STATE_KEYS = ("state_dict", "model")  # Torchreid, FastReID

# In front of a backbone's own names: DataParallel, FastReID, the strong baseline.
_PREFIXES = ("module.", "backbone.", "base.", "model.", "network.")
# Our runs: the parts of a two-stream network, of which the HR encoder stands for the shallow part;
# the stages of RAIN's extractor, of CAD-Net's E (not of F, which reads restored images) and of the
# stream of RIFE that reads images as they are.
_OURS = re.compile(
    r"^(?!encoder_restored\.)(?:.*\.)?"
    r"(?:encoder_hr|encoder_id|pool|(?:extractor|encoder)\.stages\.\d+|streams\.0\.\d+)\.(?=.)"
)

# What torch and safetensors were seen to raise on damaged files, by fuzzing.
_MALFORMED = (
    struct.error,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    OSError,
    AssertionError,
    MemoryError,
    OverflowError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchReport:
    """What a weight file filled.

    Attributes:
        path: the file.
        matched: tensors filled, by the backbone's names.
        missing: tensors of the backbone that the file lacks.
        mismatched: tensors the file has in another shape or kind.
        unexpected: tensors of the file the backbone has no place for, such as classifiers.
        remark: what else the reader of a log should know, empty if nothing.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    remark: str = ""

    def summary(self) -> str:
        """Return one line for log and terminal."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        parts = [f"{self.path}: filled {len(self.matched)} of {total} tensors"]
        for word, names in (
            ("missing", self.missing),
            ("wrong shape", self.mismatched),
            ("not used", self.unexpected),
        ):
            if names:
                parts.append(f"{word}: {_shorten(names)}")
        return "; ".join([*parts, self.remark] if self.remark else parts)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, by the names in the file.

    Args:
        path: safetensors file, or ``.pth``, ``.pt``, ``.pth.tar`` as torch saves them; told
            apart by content. A state under ``state_dict`` or ``model`` is unwrapped; entries
            that are no tensors are left out.

    Returns:
        Tensors on the CPU by name.

    Raises:
        CheckpointError: if there is no such file, it is damaged, asks to run code, or holds
            no tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {kind}: name a weight file (.safetensors, .pth)")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if head[8:] == b"{":
        return _read_safetensors(path)
    if head.startswith((b"PK", b"\x80")):
        return _tensors(_read_pickle(path), path)
    if head.startswith((b"<?xml", b"<net")):
        raise CheckpointError(
            f"{path}: an OpenVINO graph, whose batch norms are folded and cannot train: make "
            f"start weights of it with resolute convert {path.name}"
        )
    raise CheckpointError(
        f"{path}: expected a safetensors file or one saved by torch, got other content "
        f"(first bytes {head[:4]!r}): download it again or unpack it"
    )


def load_weights(
    module: nn.Module,
    path: str | Path,
    *,
    partial: bool = False,
    optional: frozenset[str] = frozenset(),
) -> MatchReport:
    """Fill a backbone from a weight file by name and shape.

    Known prefixes are removed (``module.``, FastReID's ``backbone.``, our encoders'). Batch
    counters are left alone: no layer here uses them. Nothing is changed when an error is raised.

    Args:
        module: backbone to fill, in place.
        path: weight file, see :func:`read_state`.
        partial: accept a file that fills only a part; the rest keeps its values.
        optional: tensors of the backbone that a file need not have.

    Returns:
        What matched.

    Raises:
        CheckpointError: if the file cannot be read, nothing matches, a tensor holds values
            that are not finite, or, unless ``partial``, a tensor is missing or misshapen.
    """
    content = read_state(path)
    state = rename(content, where=str(path))
    report = match(module, state, where=str(path))
    report = replace(
        report,
        missing=tuple(name for name in report.missing if name not in optional),
        remark=_stem_remark(module, toolbox_of(content)),
    )
    targets = module.state_dict()
    if not report.matched:
        raise CheckpointError(
            f"{path}: no tensor fits: the file has {_shorten(report.unexpected)}, the backbone "
            f"wants {_shorten(report.missing)}: choose another model.backbone"
        )
    if not partial and (report.missing or report.mismatched):
        raise CheckpointError(
            f"{report.summary()}: choose another model.backbone, or accept a part with "
            "model.partial_weights"
        )
    broken = [k for k in report.matched if not torch.isfinite(state[k].float()).all()]
    if broken:
        raise CheckpointError(f"{path}: values are not finite in {_shorten(broken)}")
    with torch.no_grad():
        for name in report.matched:
            targets[name].copy_(state[name])
    _mark(module, frozenset(report.matched))
    return report


def filled_names(network: nn.Module) -> frozenset[str]:
    """Name the parameters that weight files filled, in any part or copy of a backbone.

    Args:
        network: anything that holds layers of backbones.

    Returns:
        Names as in ``named_parameters``; none where every weight was drawn.
    """
    return frozenset(
        f"{prefix}.{name}".removeprefix(".")
        for prefix, layer in network.named_modules()
        for name in getattr(layer, _FILLED, ())
    )


def _mark(module: nn.Module, filled: frozenset[str]) -> None:
    for prefix, layer in module.named_modules():
        own = [name for name, _ in layer.named_parameters(recurse=False)]
        names = (name for name in own if f"{prefix}.{name}".removeprefix(".") in filled)
        setattr(layer, _FILLED, frozenset(names))


def rename(state: Mapping[str, Tensor], *, where: str = "") -> dict[str, Tensor]:
    """Give the tensors of a file the backbone's names; batch counters are dropped.

    Args:
        state: tensors by the names in the file.
        where: path for messages.

    Returns:
        The same tensors without known prefixes.

    Raises:
        CheckpointError: if two tensors end up with one name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = _OURS.sub("", name, count=1)
        while short.startswith(_PREFIXES):
            short = short.split(".", 1)[1]
        if short in renamed:
            raise CheckpointError(f"{where}: two tensors for {short}, one of them {name}")
        if not _is_counter(short):
            renamed[short] = tensor
    return renamed


def toolbox_of(names: Iterable[str]) -> str:
    """Tell which toolbox wrote a file, where its ResNets differ from torchvision's.

    Args:
        names: of the tensors in the file.

    Returns:
        ``FastReID``, ``the strong baseline``, or nothing.
    """
    names = [name.removeprefix("module.") for name in names]
    if "pixel_mean" in names and any(name.startswith("backbone.") for name in names):
        return "FastReID"
    return "the strong baseline" if any(name.startswith("base.") for name in names) else ""


def _stem_remark(module: nn.Module, toolbox: str) -> str:
    """Say which setting makes a ResNet the one that the file was trained in, if it is not."""
    if toolbox not in STEMS or not isinstance(module, ResNet):
        return ""
    name, value = STEMS[toolbox]
    if getattr(module, name) == value:
        return ""
    shown = str(value).lower()
    return f"{toolbox} trains another stem: set model.{name} {shown} to run it as it was trained"


def match(module: nn.Module, state: Mapping[str, Tensor], *, where: str = "") -> MatchReport:
    """Compare a backbone with tensors by name and shape; fill nothing.

    Args:
        module: backbone.
        state: tensors by the backbone's names, see :func:`rename`.
        where: path for the report.

    Returns:
        What would match.
    """
    targets = {k: v for k, v in module.state_dict().items() if not _is_counter(k)}
    common = [name for name in targets if name in state]
    fits = {name for name in common if _fits(targets[name], state[name])}
    return MatchReport(
        path=where,
        matched=tuple(name for name in common if name in fits),
        missing=tuple(name for name in targets if name not in state),
        mismatched=tuple(name for name in common if name not in fits),
        unexpected=tuple(name for name in state if name not in targets),
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, *_MALFORMED) as error:
        raise CheckpointError(f"{path}: damaged safetensors file ({_line(error)})") from error


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(ALLOWED_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise CheckpointError(f"{path}: damaged weight file ({_line(error)})") from error
        raise CheckpointError(
            f"{path}: refused, because loading it would run {refused[1]}: ask its author for "
            "the state dict alone (torch.save(model.state_dict(), ...)) or a safetensors file"
        ) from error
    except _MALFORMED as error:
        raise CheckpointError(
            f"{path}: not a readable weight file ({_line(error)}): download it again, or, if it "
            "holds a program, save the state dict of its model instead"
        ) from error


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: expected tensors by name, got {type(content).__name__}: save the state dict"
        )
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(
            f"{path}: expected tensors by name, got the keys {_shorten(list(map(str, content)))}"
        )
    return state


def _fits(target: Tensor, tensor: Tensor) -> bool:
    is_plain = tensor.layout == torch.strided and tensor.is_floating_point()
    return is_plain and tensor.shape == target.shape


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _shorten(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _line(error: BaseException) -> str:
    """Return the first sentence of a message; torch's go on to recommend unsafe loading."""
    sentence = re.split(r"\.\s|\n", str(error).strip())[0]
    return sentence or type(error).__name__
