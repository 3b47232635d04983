"""Losses of networks that learn against each other.

Letters: N images.
"""

from torch import Tensor
from torch.nn import functional


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Compute what a discriminator lowers: -log D(real) - log(1 - D(fake)) [Goodfellow 2014].

    Args:
        real: scores before the sigmoid of what is to be called real, any shape.
        fake: the same of what is to be called fake; detached from what made it.

    Returns:
        Scalar: the two means, added.
    """
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Compute what lowers when the discriminator takes fakes for real: -log D(fake).

    The form that does not saturate [Goodfellow 2014].

    Args:
        fake: scores before the sigmoid of what is to pass for real, any shape.

    Returns:
        Scalar mean.
    """
    return functional.softplus(-fake).mean()
