"""Every method by name, and how it is built from settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from resolute.core.config import from_mapping, to_mapping
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.methods.config import FTWAConfig, OptimiserConfig, ScheduleConfig
from resolute.methods.contract import Phase
from resolute.methods.ftwa import FTWA, RESOLUTION
from resolute.methods.variants import VARIANTS
from resolute.models.adapter import ResolutionAdapters
from resolute.models.backbone import Backbone
from resolute.models.config import ModelConfig
from resolute.models.pretrained import start_backbone
from resolute.models.two_stream import TwoStream


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
    method: FTWAConfig
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


def build_ftwa(blueprint: Blueprint, *, streams: Streams) -> tuple[FTWA, str]:
    """Build FTWA or one of its variants.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched.
    """
    model = blueprint.model
    with streams.torch_default(Stream.INITIALISATION):
        backbone, report = start_backbone(model)
        method = FTWA(
            _two_stream(backbone, blueprint.method),
            blueprint.method,
            input_spec=InputSpec(height=model.height, width=model.width),
            phases=_phases(blueprint),
            num_identities=blueprint.num_identities,
            height_reference=blueprint.height_reference,
            is_pretrained=bool(model.weights),
        )
    return method, report.summary() if report else "random weights"


def _two_stream(backbone: Backbone, config: FTWAConfig) -> TwoStream:
    adapters = None
    if config.encoder_lr == "adapter":
        adapters = ResolutionAdapters(
            backbone.shallow(), rank=config.adapter_rank, hidden=config.adapter_hidden
        )
    return TwoStream(backbone, two_encoders=config.encoders == 2, adapters=adapters)


def _phases(blueprint: Blueprint) -> tuple[Phase, ...]:
    """Return ``main``, after ``resolution`` where the settings give it a share of the run."""
    share = blueprint.method.resolution_share
    optimiser, schedule = blueprint.optimiser, blueprint.schedule
    main = Phase(name="main", optimiser=optimiser, schedule=schedule, first=share)
    if share == 0:
        return (main,)
    # Nothing random is at work while nothing but E_L and T moves: nothing waits for a new head.
    moving = replace(optimiser, frozen_epochs=0)
    return (Phase(name=RESOLUTION, optimiser=moving, schedule=schedule, last=share), main)


METHODS: dict[str, Callable[..., tuple[FTWA, str]]] = dict.fromkeys(VARIANTS, build_ftwa)
