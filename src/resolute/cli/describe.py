"""``resolute describe``: parameters, MACs and shapes of a run or a backbone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse
from resolute.core.config import override
from resolute.core.errors import ConfigError


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and print.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.usage = "resolute describe RUN | NAME | BACKBONE [--height H] [--width W]"
    parser.add_argument(
        "what", help="a run folder, a model that comes along, or a backbone such as osnet_x1_0"
    )
    parser.add_argument("--height", help="input height of a backbone (default: 256)")
    parser.add_argument("--width", help="input width of a backbone (default: 128)")
    options = parse(parser, words)

    from resolute.core.types import InputSpec
    from resolute.inference.shipped import shipped_names
    from resolute.models.backbone import build_backbone
    from resolute.models.config import ModelConfig
    from resolute.models.describe import describe

    folder = Path(options.what).expanduser()
    if folder.exists() or options.what in shipped_names():
        if options.height or options.width:
            raise ConfigError("--height and --width: a run has its own input size")
        print(_describe_run(folder))
        return 0
    sizes = {n: v for n, v in (("height", options.height), ("width", options.width)) if v}
    settings = override(ModelConfig(), sizes)
    backbone = build_backbone(options.what)
    print(describe(backbone, InputSpec(height=settings.height, width=settings.width)).table())
    return 0


def _describe_run(folder: Path) -> str:
    from resolute.inference.load import load
    from resolute.methods.measures import transform_cost, transform_of
    from resolute.models.backbone import build_backbone
    from resolute.models.describe import describe

    model = load(folder)
    settings, method = model.blueprint.model, model.method
    backbone = build_backbone(
        settings.backbone,
        last_stride=settings.last_stride,
        stem_relu=settings.stem_relu,
        stem_pool_padding=settings.stem_pool_padding,
    )
    description = describe(backbone, method.input_spec)
    total = sum(p.numel() for p in method.parameters())
    lines = [
        f"{model.blueprint.name} on {settings.backbone}, start {model.metadata['start']['name']}, "
        f"trained {model.metadata['training']['steps']} steps",
        f"data: {model.metadata['split'] or 'none'}",
        f"identities {model.blueprint.num_identities}, parameters in all {total:,}",
        *(
            f"  {name}: {sum(p.numel() for p in part.parameters()):,}"
            for name, part in method.named_children()
        ),
        "",
        "the backbone alone, at the input size:",
        description.table(),
    ]
    transforming = transform_of(method)
    if transforming is not None:
        raft = transform_cost(transforming)
        lines.append(f"T (RAFT): {raft.parameters:,} parameters, {raft.macs / 1e6:.0f} MMAC")
    return "\n".join(lines)
