"""What a method is built from, and what a model file stores to be built again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from resolute.core.config import from_mapping, to_mapping
from resolute.core.errors import ConfigError
from resolute.core.types import InputSpec
from resolute.methods.config import MethodConfig, OptimiserConfig, ScheduleConfig
from resolute.methods.variants import method_section
from resolute.models.config import ModelConfig

C = TypeVar("C", bound=MethodConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Everything a method is built from.

    Attributes:
        name: method as in `METHODS`.
        model: backbone, start weights and input size.
        method: the method's own settings.
        optimiser: how weights move.
        schedule: how the learning rate changes.
        num_identities: number of training identities I.
        height_reference: median native height of HR training images in pixels.
    """

    name: str
    model: ModelConfig
    method: MethodConfig
    optimiser: OptimiserConfig
    schedule: ScheduleConfig
    num_identities: int
    height_reference: float

    def to_mapping(self) -> dict[str, Any]:
        """Return what a model file stores to be built again."""
        return to_mapping(self)

    @classmethod
    def of(cls, mapping: dict[str, Any]) -> "Blueprint":
        """Read what :meth:`to_mapping` gave.

        Args:
            mapping: nested dictionaries.
        """
        return from_mapping(cls, mapping)

    @classmethod
    def section_types(cls, mapping: Mapping[str, Any]) -> dict[str, type[MethodConfig]]:
        """Say of which class the method's settings are, see :mod:`resolute.core.config`.

        Args:
            mapping: with ``name``.
        """
        return method_section(mapping, usual="")

    def settings(self, kind: type[C]) -> C:
        """Return the method's own settings.

        Args:
            kind: the class that the method takes.

        Raises:
            ConfigError: if they are another method's.
        """
        if not isinstance(self.method, kind):
            raise ConfigError(
                f"{self.name}: expected method settings {kind.__name__}, got "
                f"{type(self.method).__name__}"
            )
        return self.method

    @property
    def input_spec(self) -> InputSpec:
        """How pixels become input."""
        return InputSpec(height=self.model.height, width=self.model.width)
