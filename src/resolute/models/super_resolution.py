"""Networks that sharpen enlarged images: SRCNN on luma [SING], and a small one of our own.

Letters: N images, H, W network input, h, w what is left of it without padding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.types import InputSpec

BORDER = 8  # lines that the three convolutions 9, 5, 5 lose on each side

# RGB to Y, Cb, Cr in grey levels 0..255 [ITU-R BT.601]. The row of Y is that of [SING]; it prints
# no other, and the way back is the inverse matrix [assumed].
TO_YCBCR = (
    (0.2568, 0.5041, 0.0979),
    (-0.1482, -0.2910, 0.4392),
    (0.4392, -0.3678, -0.0714),
)
OFFSET = (16.0, 128.0, 128.0)
LOWEST = (16.0, 16.0, 16.0)  # the valid range of that norm [assumed: SING says "valid range"]
HIGHEST = (235.0, 240.0, 240.0)


class SRCNN(nn.Sequential):
    """Three convolutions without padding: 9x9, ReLU, 5x5, ReLU, 5x5 [SING; Dong 2016].

    The published networks start from SRCNN's weights at each factor [SING]. Here each starts as
    the identity: one path hands the luma through, the others start with random filters and no say
    in the output. Those of the first layer sum to zero, so that they see detail, not brightness:
    else the first steps of the last layer move the brightness of the whole picture [ours].
    """

    def __init__(self, *, widths: tuple[int, int] = (64, 32)) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            widths: channels after the first and the second convolution [SING: 64, 32].

        Raises:
            ConfigError: if a width is below 1.
        """
        if min(widths) < 1:
            raise ConfigError(f"srcnn widths: expected at least 1, got {widths}")
        first, second = widths
        super().__init__(
            nn.Conv2d(1, first, 9),
            nn.ReLU(),
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.Conv2d(second, 1, 5),
        )
        with torch.no_grad():
            for layer in self.convolutions:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every one has a bias
                if layer.in_channels == 1:
                    layer.weight -= layer.weight.mean(dim=(2, 3), keepdim=True)
                centre = layer.kernel_size[0] // 2
                layer.weight[0] = 0
                layer.weight[0, 0, centre, centre] = 1  # the path that hands luma through

    @property
    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        """The three layers with weights."""
        return self[0], self[2], self[4]  # type: ignore[return-value]


class LumaSuperResolution(nn.Module):
    """Super-resolve the luma of network input, one SRCNN per factor; colours pass [SING].

    Normalised RGB becomes Y, Cb, Cr by fixed coefficients; Y goes through the SRCNN of the asked
    factor; all three are clamped to their valid range and turned back.

    Attributes:
        networks: one SRCNN per factor.
        margin: lines that the output has less than the input, on each side.
    """

    def __init__(
        self, num_factors: int, spec: InputSpec, *, widths: tuple[int, int], padding: bool
    ) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            num_factors: number of networks.
            spec: how its input is normalised.
            widths: of each network.
            padding: repeat the luma at the border so that nothing is lost [ours]; else the output
                is 16 lines smaller each way [SING].
        """
        super().__init__()
        self.networks = nn.ModuleList(SRCNN(widths=widths) for _ in range(num_factors))
        self.margin = 0 if padding else BORDER
        matrix = torch.tensor(TO_YCBCR)
        colours = {
            "mean": torch.tensor(spec.mean),
            "std": torch.tensor(spec.std),
            "offset": torch.tensor(OFFSET) / 255,
            "lowest": torch.tensor(LOWEST) / 255,
            "highest": torch.tensor(HIGHEST) / 255,
        }
        for name, values in colours.items():
            self.register_buffer(name, values.view(3, 1, 1), persistent=False)
        self.register_buffer("to_ycbcr", matrix, persistent=False)
        self.register_buffer("to_rgb", torch.linalg.inv(matrix.double()).float(), persistent=False)

    mean: Tensor
    std: Tensor
    offset: Tensor
    lowest: Tensor
    highest: Tensor
    to_ycbcr: Tensor
    to_rgb: Tensor

    def forward(self, images: Tensor, factor: int) -> Tensor:
        """Sharpen images by the network of one factor.

        Args:
            images: normalised RGB, shape (N, 3, H, W); N may be 0.
            factor: position of the factor.

        Returns:
            Normalised RGB, float32, shape (N, 3, h, w): h = H and w = W with padding.
        """
        ycbcr = _mixed(self.to_ycbcr, images * self.std + self.mean) + self.offset  # 0..1
        luma = ycbcr[:, :1]  # (N, 1, H, W)
        if not self.margin:
            luma = functional.pad(luma, (BORDER,) * 4, mode="replicate")
        luma = self.networks[factor](luma).float()  # (N, 1, h, w)
        joined = torch.cat([luma, self.crop(ycbcr[:, 1:])], dim=1)
        valid = torch.minimum(torch.maximum(joined, self.lowest), self.highest)
        return (_mixed(self.to_rgb, valid - self.offset) - self.mean) / self.std

    def crop(self, images: Tensor) -> Tensor:
        """Cut what passes by to the size of what was sharpened.

        Args:
            images: shape (N, C, H, W).

        Returns:
            Its centre, shape (N, C, h, w).

        Raises:
            ShapeError: if nothing would be left.
        """
        margin, (height, width) = self.margin, images.shape[2:]
        if min(height, width) <= 2 * margin:
            raise ShapeError(
                f"super-resolution: an input of {height}x{width} (height x width) loses "
                f"{2 * margin} lines each way, nothing is left: pad it, or take a larger input"
            )
        return images[:, :, margin : height - margin, margin : width - margin]

    def grey_levels(self, images: Tensor) -> Tensor:
        """Undo the normalisation.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            Grey levels 0..255, float32.
        """
        return (images.float() * self.std + self.mean) * 255


class Restorer(nn.Module):
    """A small network that sharpens enlarged images of any rate, blind to which [ours].

    Works on 2x2 blocks of pixels, a quarter of the places: a 3x3 convolution, residual blocks
    without normalisation [Lim 2017], a 3x3 convolution back [Shi 2016], added to the input. The
    last one starts at zero, so the network starts as the identity.
    """

    def __init__(self, *, width: int = 32, num_blocks: int = 4) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            width: channels inside.
            num_blocks: residual blocks.

        Raises:
            ConfigError: if one of them is below 1.
        """
        super().__init__()
        if width < 1 or num_blocks < 1:
            raise ConfigError(
                f"restorer: expected width and blocks of at least 1, got {width} and {num_blocks}"
            )
        self.head = nn.Conv2d(12, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(num_blocks)
        )
        self.tail = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # it has a bias

    def forward(self, images: Tensor) -> Tensor:
        """Sharpen images.

        Args:
            images: normalised RGB, shape (N, 3, H, W), both sides even.

        Returns:
            Normalised RGB, same shape.
        """
        features = self.head(functional.pixel_unshuffle(images, 2))  # (N, width, H/2, W/2)
        for block in self.blocks:
            features = features + block(features)
        return images + functional.pixel_shuffle(self.tail(features), 2)


def _mixed(matrix: Tensor, images: Tensor) -> Tensor:
    # A product of its own, out of reach of autocast: bf16 has too few bits for 256 levels.
    with torch.autocast(images.device.type, enabled=False):
        return torch.einsum("dc,nchw->ndhw", matrix, images.float())
