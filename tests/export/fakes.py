"""A method of a few layers that can be exported: traced in about a second."""

import torch
from torch import nn
from torch.nn import functional

from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.data.synthetic import SyntheticSource
from resolute.export.samples import drawn_people
from resolute.methods.graph import Graphs, Role, Routing, Traced

SPEC = InputSpec(height=64, width=32)
DIM = 6


class Comparator(nn.Module):
    """Two streams from one convolution; HR images bring versions at two rates."""

    rates = (1.0, 2.0, 3.0)

    def __init__(self, *, fusion="weighted", is_mirrored=False, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.input_spec = SPEC
        self.convolution = nn.Conv2d(3, 2 * DIM, 5, stride=4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
        self.fusion, self.is_mirrored = fusion, is_mirrored
        self.eval()

    def graphs(self):
        return Graphs(
            hr=Role(rates=self.rates, network=Traced(self, self.describe_hr)),
            lr=Role(rates=(1.0,), network=Traced(self, self.describe_lr)),
            routing=Routing(hr_above=60.0, lr_below=80.0),
            metric="sqeuclidean",
            fusion=self.fusion,
            constant=0.25,
            is_mirrored=self.is_mirrored,
            height_reference=128.0,
        )

    def describe_hr(self, *inputs):
        maps = [self._streams(x) for x in inputs]
        sharp, blurred = maps[0][:, 0], (maps[1][:, 1] + maps[2][:, 1]) / 2
        return self._described(torch.stack([sharp, blurred], dim=1))

    def describe_lr(self, inputs):
        return self._described(self._streams(inputs).flip(1))

    def _streams(self, x):
        return torch.tanh(self.convolution(x)).mean(dim=(2, 3)).view(-1, 2, DIM)

    def _described(self, vectors):
        norms = vectors.norm(dim=2)
        return functional.normalize(vectors, dim=2), torch.sigmoid(vectors[:, :, 0]), norms

    def embed(self, images: Images) -> Embedding:
        """The rules written out image by image, without any of the exported code."""
        rows = []
        for i in range(len(images)):
            one = images.take(torch.tensor([i]))
            height, flag = int(one.native_sizes[0, 0]), int(one.resolution[0])
            roles = [("hr",), ("lr",)][flag] if flag < 2 else ()
            if flag == 2:
                roles = (("hr",) if height > 60 else ()) + (("lr",) if height < 80 else ())
            sides = [self._average(one, roles, is_flipped=f) for f in self._sides()]
            vectors = functional.normalize(sum(v for v, _, _ in sides), dim=2)
            rows.append((vectors, *(sum(s[k] for s in sides) / len(sides) for k in (1, 2))))
        vectors, quality, norms = (torch.cat(x).detach().numpy() for x in zip(*rows, strict=True))
        return Embedding(
            vectors=vectors,
            quality=quality,
            fusion=self.fusion,
            constant=0.25,
            norms=norms,
            native_sizes=images.native_sizes.numpy(),
        )

    def _sides(self):
        return (False, True) if self.is_mirrored else (False,)

    def _average(self, one, roles, *, is_flipped):
        found = []
        for role in roles:
            rates = self.rates if role == "hr" else (1.0,)
            inputs = [to_input(one, SPEC, rates=torch.tensor([r])) for r in rates]
            if is_flipped:
                inputs = [x.flip(-1) for x in inputs]
            found.append(getattr(self, f"describe_{role}")(*inputs))
        vectors = functional.normalize(sum(v for v, _, _ in found), dim=2)
        return vectors, *(sum(f[k] for f in found) / len(found) for k in (1, 2))


def few_people(count=20):
    return drawn_people(count=count)


def person(pid):
    return SyntheticSource(seed=5, pid=pid, camid=0, index=0).pixels()
