"""A tiny method with batch norm and dropout, tiny GANs, a tiny loader, and a script that trains.

``python fakes.py RUN_DIR [name=value ...]`` trains a tiny method in a process of its own: tests
kill it, interrupt it, or start two of it.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import process_group
from resolute.engine.trainer import train
from resolute.inference.model_file import save_model
from resolute.methods.config import OptimiserConfig, ScheduleConfig
from resolute.methods.contract import Phase, grouped

STEPS_PER_EPOCH = 5
NUM_IDENTITIES = 4
METADATA = {"config": {"train": {"epochs": 4}}, "split_digest": "abc", "input_spec": {"height": 16}}


class TinyMethod(nn.Module):
    """Stem (pre-trained), second convolution, classifier; dropout between them."""

    def __init__(self, *, optimiser=None, schedule=None, dropout=0.2, seed=0):
        super().__init__()
        self.input_spec = InputSpec(height=16, width=8)
        self.phases = (
            Phase(
                name="main",
                optimiser=optimiser or OptimiserConfig(learning_rate=0.01),
                schedule=schedule or ScheduleConfig(),
            ),
        )
        with Streams(seed).torch_default(Stream.INITIALISATION):
            # No bias before batch norm: its gradient is rounding noise, which Adam blows up.
            self.stem = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            )
            self.body = nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(8)
            )
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Linear(8, NUM_IDENTITIES, bias=False)

    def parameter_groups(self, phase):
        pretrained = frozenset(n for n, _ in self.named_parameters() if n.startswith("stem."))
        return grouped(self.named_parameters(), phase.optimiser, pretrained=pretrained)

    def embedding(self, images):
        return self.body(self.stem(images)).mean(dim=(2, 3))

    def losses(self, batch, phase):
        vectors = self.embedding(torch.cat([batch.images_hr, batch.images_lr]))
        labels = batch.labels.repeat(2)
        # Indexing with repetition: its gradient adds up, as that of mined triplets does.
        gaps = (vectors - vectors[torch.arange(len(labels)) // 2]).square().mean()
        logits = self.classifier(self.dropout(vectors))
        return {"identity": functional.cross_entropy(logits, labels), "gap": 0.1 * gaps}

    def embed(self, images):
        raise NotImplementedError


class TinyGan(nn.Module):
    """A generator and a discriminator that take turns; the second makes two updates."""

    def __init__(self):
        super().__init__()
        self.input_spec = InputSpec(height=16, width=8)
        shared = {
            "optimiser": OptimiserConfig(learning_rate=0.01),
            "schedule": ScheduleConfig(warmup=0.0),
        }
        self.generator_phase = Phase(name="generator", **shared)
        self.discriminator_phase = Phase(name="discriminator", updates_per_step=2, **shared)
        self.phases = (self.generator_phase, self.discriminator_phase)
        with Streams(0).torch_default(Stream.INITIALISATION):
            self.generator = nn.Sequential(
                nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
            )
            self.discriminator = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2), nn.Dropout(0.1), nn.Flatten(), nn.LazyLinear(1)
            )
            self.discriminator(torch.zeros(1, 3, 16, 8))

    def parameter_groups(self, phase):
        named = getattr(self, phase.name).named_parameters(prefix=phase.name)
        return grouped(named, phase.optimiser, pretrained=frozenset())

    def losses(self, batch, phase):
        made = self.generator(batch.images_lr)
        if phase.name == "generator":
            scores = self.discriminator(made)
            return {
                "adversarial": functional.softplus(-scores).mean(),
                "pixels": (made - batch.images_hr).abs().mean(),
            }
        real, false = self.discriminator(batch.images_hr), self.discriminator(made.detach())
        return {
            "real": functional.softplus(-real).mean(),
            "made": functional.softplus(false).mean(),
        }

    def pictures(self, batch):
        return {"LR": batch.images_lr, "made": self.generator(batch.images_lr)}

    def embed(self, images):
        raise NotImplementedError


class TinyAdversarial(TinyGan):
    """An identity network all along; a generator on pixels alone, then against a discriminator.

    Three optimisers of three kinds are at work at a time, and the generator's weights go from one
    phase to another.
    """

    def __init__(self):
        super().__init__()
        adam = OptimiserConfig(learning_rate=0.01, beta1=0.5, clip_norm=1.0)
        even = ScheduleConfig(warmup=0.0)
        self.phases = (
            Phase(name="pixels", optimiser=OptimiserConfig(), schedule=even, last=0.5),
            Phase(name="generator", optimiser=adam, schedule=even, first=0.5),
            Phase(
                name="discriminator", optimiser=adam, schedule=even, first=0.5, updates_per_step=2
            ),
            Phase(
                name="identity",
                optimiser=OptimiserConfig(name="sgd", learning_rate=0.01),
                schedule=ScheduleConfig(shape="cosine"),
            ),
        )
        with Streams(1).torch_default(Stream.INITIALISATION):
            self.identity = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4, NUM_IDENTITIES, bias=False),
            )

    def parameter_groups(self, phase):
        part = "generator" if phase.name == "pixels" else phase.name
        named = getattr(self, part).named_parameters(prefix=part)
        return grouped(named, phase.optimiser, pretrained=frozenset())

    def losses(self, batch, phase):
        if phase.name == "identity":
            made = self.generator(batch.images_lr).detach()
            logits = self.identity(torch.cat([batch.images_hr, made]))
            return {"cross_entropy": functional.cross_entropy(logits, batch.labels.repeat(2))}
        if phase.name == "pixels":
            return {"distance": (self.generator(batch.images_lr) - batch.images_hr).abs().mean()}
        return super().losses(batch, phase)


METHODS = {"tiny": TinyMethod, "gan": TinyGan, "adversarial": TinyAdversarial}


class TinyLoader:
    """Noise with a faint colour per identity; a batch is a function of (epoch, step, rank)."""

    def __init__(self, *, steps_per_epoch=STEPS_PER_EPOCH, rank=0, nan_at=None, hook=None):
        self.steps_per_epoch = steps_per_epoch
        self.rank = rank
        self.nan_at = nan_at
        self.hook = hook

    def batch(self, epoch, step, device="cpu"):
        rng = Streams(5).torch(Stream.SAMPLER, epoch, step, self.rank)
        labels = torch.randint(0, NUM_IDENTITIES, (6,), generator=rng)

        def pixels():
            noise = torch.randn(6, 3, 16, 8, generator=rng)
            return noise + labels[:, None, None, None] / NUM_IDENTITIES

        numbers = torch.arange(6)
        images = pixels()
        if (epoch, step) == self.nan_at:
            images = images * float("nan")
        return Batch(
            images_hr=images,
            images_lr=pixels(),
            images_lr_syn=pixels(),
            labels=labels,
            rates_lr=torch.full((6,), 2.0),
            rates_syn=torch.full((6,), 2.0),
            heights_hr=torch.full((6,), 16),
            heights_lr=torch.full((6,), 8),
            heights_lr_syn=torch.full((6,), 8),
            sources_hr=numbers,
            sources_lr=numbers + 6,
        ).to(device)

    def batches(self, epoch, start_step, device):
        for step in range(start_step, self.steps_per_epoch):
            if self.hook is not None:
                self.hook(epoch, step)
            yield self.batch(epoch, step, device)


def run(run_dir, *, method=None, loader=None, streams=None, metadata=METADATA, resume="no", **rest):
    """Train in place with short defaults; returns (method, result)."""
    names = {"world", "progress", "stop", "watch", "has_unused_parameters"}
    options = {name: rest.pop(name) for name in names & rest.keys()}
    method = TinyMethod() if method is None else method
    result = train(
        method,
        TinyLoader() if loader is None else loader,
        config=TrainConfig(
            **{"epochs": 4, "device": "cpu", "threads": 1, "checkpoint_pause": 0.0, **rest}
        ),
        streams=streams or Streams(3),
        run_dir=run_dir,
        metadata=metadata,
        resume=resume,
        **options,
    )
    return method, result


def stop_after(steps):
    """A ``stop`` that ends a run after so many steps."""
    made = []

    def stop():
        made.append(None)
        return len(made) == steps

    return stop


def bits(method):
    """Weights and buffers as bytes, for comparison to the bit."""
    return {name: t.contiguous().numpy().tobytes() for name, t in method.state_dict().items()}


def main(arguments):
    run_dir = Path(arguments[0])
    values = dict(word.split("=") for word in arguments[1:])
    with process_group("cpu") as world:
        pause_s = float(values.get("pause", 0))
        loader = TinyLoader(rank=world.rank, hook=lambda epoch, step: time.sleep(pause_s))
        numbers = {name: int(values[name]) for name in ("epochs", "threads") if name in values}
        method, _ = run(
            run_dir,
            method=METHODS[values.get("method", "tiny")](),
            loader=loader,
            world=world,
            resume=values.get("resume", "no"),
            checkpoint_every=2,
            **numbers,
        )
        save_model(run_dir / f"rank{world.rank}.safetensors", method, METADATA)


if __name__ == "__main__":
    main(sys.argv[1:])
