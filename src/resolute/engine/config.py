"""The complete settings of one run, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from resolute.core.errors import ConfigError
from resolute.data.benchmark import DataConfig
from resolute.data.config import LoaderConfig
from resolute.methods.blueprint import Blueprint
from resolute.methods.config import Fusion, MethodConfig, OptimiserConfig, ScheduleConfig
from resolute.methods.variants import VARIANTS, method_section
from resolute.models.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The loop.

    Attributes:
        epochs: number of epochs [FTWA 3.2]; warm-up and milestones scale with it.
        max_steps: stop after this many steps in all; 0 runs every epoch.
        seed: fixes every draw of the run.
        device: cpu, cuda, cuda:1, mps or auto.
        threads: CPU threads; 0 keeps torch's choice. Bits hold for one thread count alone.
        amp: bf16 autocast where the device has bf16 instructions, float32 elsewhere; which of the
            two it was stands in log and result.
        channels_last: memory layout of activations and weights.
        compile: torch.compile the step; pays on GPUs, a loss on CPUs.
        checkpoint_every: epochs between checkpoints.
        checkpoint_pause: least seconds between them, or a large network on a small set would spend
            its time on writing; the end and an interrupt leave one all the same.
        average: momentum per step of a running average of all weights, which the model file then
            holds in place of the last ones; 0 = off [ours].
        keep_start: share of the start weights blended into the pre-trained layers of the model
            file; `resolute blend` tries other shares without training [ours].
        tensorboard: also write scalars for TensorBoard (extra `tensorboard`).
        pictures: epochs between sample pictures of what the method makes of images, for methods
            that restore or generate some; 0 = off.
    """

    epochs: int = 120
    max_steps: int = 0
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    amp: bool = False
    channels_last: bool = False
    compile: bool = False
    checkpoint_every: int = 1
    checkpoint_pause: float = 30.0
    average: float = 0.0
    keep_start: float = 0.0
    tensorboard: bool = False
    pictures: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("max_steps", 0),
            ("seed", 0),
            ("threads", 0),
            ("checkpoint_every", 1),
            ("checkpoint_pause", 0),
            ("pictures", 0),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"train.{name}: expected >= {least}, got {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise ConfigError(f"train.average: expected 0 <= momentum < 1, got {self.average}")
        if not 0 <= self.keep_start <= 1:
            raise ConfigError(f"train.keep_start: expected 0 to 1, got {self.keep_start}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How a run is scored.

    Attributes:
        protocol: name of the protocol, see docs/protocols.md.
        batch_size: images per forward pass.
        unseen_rates: extra rates at which all queries are scored, besides the protocol's own.
        fusions: further fusions scored from the same embeddings, besides `method.fusion`; none
            where an image has one vector.
        hr_queries: also score undegraded queries (HR query to HR gallery), outside the protocol.
        flip: also score images averaged with their mirror images, as `method.flip` does [ours].
        rerank: also score after k-reciprocal re-ranking of the whole gallery [Zhong 2017].
        rerank_k1: neighbours looked at [Zhong 2017].
        rerank_k2: neighbours averaged over [Zhong 2017].
        rerank_lambda: share of the distance itself, 0 to 1 [Zhong 2017].
        expand: also score queries averaged with this many nearest gallery images; 0 = off
            [Chum 2007].
        expand_alpha: exponent of the similarity by which these count; 0 = all the same, 3 is
            usual [Radenovic 2019].
        verification: also judge all pairs by one threshold: TPR at FPR, equal error rate [ours].
    """

    protocol: Literal["mlr", "market", "cuhk03-classic", "separate-camera", "all-shot"] = "mlr"
    batch_size: int = 64
    unseen_rates: tuple[float, ...] = (8.0,)
    fusions: tuple[Fusion, ...] = ()
    hr_queries: bool = True
    flip: bool = False
    rerank: bool = False
    rerank_k1: int = 20
    rerank_k2: int = 6
    rerank_lambda: float = 0.3
    expand: int = 0
    expand_alpha: float = 0.0
    verification: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("rerank_k1", 1),
            ("rerank_k2", 1),
            ("expand", 0),
            ("expand_alpha", 0),
        ):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"evaluation.{name}: expected >= {least}, got {value}")
        if not 0 <= self.rerank_lambda <= 1:
            raise ConfigError(
                f"evaluation.rerank_lambda: expected 0 to 1, got {self.rerank_lambda}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that decides a run; a recipe is a function that returns one.

    Attributes:
        name: the method, as `resolute recipes` lists it.
        data: what is read and which records are LR.
        loader: batches and augmentation.
        model: backbone, start weights, input size.
        method: the method's own settings; their class follows from the name.
        optimiser: how weights move.
        schedule: how the learning rate changes.
        train: the loop.
        evaluation: how the run is scored.
    """

    name: str = "ftwa"
    data: DataConfig = field(default_factory=DataConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = VARIANTS["ftwa"]
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def blueprint(self, *, num_identities: int, height_reference: float) -> Blueprint:
        """Say what the method is built from, with what only the training images tell.

        Args:
            num_identities: number of training identities I.
            height_reference: median native height of HR training images in pixels.
        """
        return Blueprint(
            name=self.name,
            model=self.model,
            method=self.method,
            optimiser=self.optimiser,
            schedule=self.schedule,
            num_identities=num_identities,
            height_reference=height_reference,
        )

    @classmethod
    def section_types(cls, mapping: Mapping[str, Any]) -> dict[str, type[MethodConfig]]:
        """Say of which class the method's settings are, see :mod:`resolute.core.config`.

        Args:
            mapping: with ``name``.
        """
        return method_section(mapping, usual="ftwa")
