"""The complete settings of one run, without torch."""

from dataclasses import dataclass, field
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.data.benchmark import DataConfig
from resolute.data.config import LoaderConfig
from resolute.methods.config import FTWAConfig, Fusion, OptimiserConfig, ScheduleConfig
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
        amp: bf16 autocast; slower for depth-wise networks on a CPU.
        channels_last: memory layout of activations and weights.
        compile: torch.compile the step; pays on GPUs, a loss on CPUs.
        checkpoint_every: epochs between checkpoints.
        tensorboard: also write scalars for TensorBoard (extra `tensorboard`).
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
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("max_steps", 0),
            ("seed", 0),
            ("threads", 0),
            ("checkpoint_every", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"train.{name}: expected >= {least}, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How a run is scored.

    Attributes:
        protocol: name of the protocol, see docs/protocols.md.
        batch_size: images per forward pass.
        unseen_rates: extra rates at which all queries are scored, besides the protocol's own.
        fusions: further fusions scored from the same embeddings, besides `method.fusion`.
        hr_queries: also score undegraded queries (HR query to HR gallery), outside the protocol.
    """

    protocol: Literal["mlr", "market", "cuhk03-classic", "separate-camera", "all-shot"] = "mlr"
    batch_size: int = 64
    unseen_rates: tuple[float, ...] = (8.0,)
    fusions: tuple[Fusion, ...] = ()
    hr_queries: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"evaluation.batch_size: expected >= 1, got {self.batch_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that decides a run; a recipe is a function that returns one.

    Attributes:
        name: the method, as `resolute recipes` lists it.
        data: what is read and which records are LR.
        loader: batches and augmentation.
        model: backbone, start weights, input size.
        method: FTWA or one of its variants.
        optimiser: how weights move.
        schedule: how the learning rate changes.
        train: the loop.
        evaluation: how the run is scored.
    """

    name: str = "ftwa"
    data: DataConfig = field(default_factory=DataConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: FTWAConfig = field(default_factory=FTWAConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
