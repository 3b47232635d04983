"""Settings of an export; loads no torch, so that the command line can list them at once."""

from dataclasses import dataclass
from typing import Literal, get_args

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError

Format = Literal["onnx", "openvino"]
Artifact = Literal["tracker", "full"]
Branch = Literal["auto", "hr", "lr"]
Precision = Literal["f32", "int8"]
PresetName = Literal["imagenet", "raw-rgb", "unit-rgb", "raw-bgr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What to write.

    Attributes:
        format: onnx = one file; openvino = IR, `.xml` with `.bin`.
        artifact: tracker = one image in, one vector out; full = vectors, qualities and norms of
            all streams, for our own galleries.
        preset: how the consumer gives pixels: imagenet, raw-rgb, unit-rgb or raw-bgr; several
            make one file each.
        branch: of a tracker: hr or lr for every image, or auto = chosen per image by its
            sharpness [ours].
        precision: f32, or int8 = quantised after training (format openvino) [ours].
    """

    format: Format = "onnx"
    artifact: Artifact = "tracker"
    preset: tuple[PresetName, ...] = ("imagenet",)
    branch: Branch = "auto"
    precision: Precision = "f32"

    def __post_init__(self) -> None:
        choices = {
            "format": get_args(Format),
            "artifact": get_args(Artifact),
            "branch": get_args(Branch),
            "precision": get_args(Precision),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(unknown_name(name, getattr(self, name), list(known)))
        if not self.preset:
            raise ConfigError("preset: expected at least one, got none")
        if self.precision == "int8" and self.format != "openvino":
            raise ConfigError("precision int8: needs --format openvino")

    def file_name(self, preset: str) -> str:
        """Name a file: ``model.onnx``, or with what sets it apart from that.

        Args:
            preset: one of ``preset``.
        """
        parts = ["full" if self.artifact == "full" else "model"]
        if preset != "imagenet":
            parts.append(preset)
        if self.artifact == "tracker" and self.branch != "auto":
            parts.append(self.branch)
        if self.precision != "f32":
            parts.append(self.precision)
        return f"{'-'.join(parts)}.{'onnx' if self.format == 'onnx' else 'xml'}"
