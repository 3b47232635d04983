"""The heads of self-weighted attention: evaluator W, classifier C and the neck [FTWA 2.3].

Letters: N images, D embedding, I train identities.
"""

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError


class QualityEvaluator(nn.Module):
    """W of the paper: how far an embedding of this space can be trusted [FTWA eq. 4].

    The paper gives neither layers nor activation: a small perceptron and a sigmoid [assumed].
    The last layer starts at zero, so every weight starts equal and FTWA as FTWA_R [ours].

    Attributes:
        floor: smallest weight; keeps a stream from being shut out [ours].
        reads_height: whether it also reads the native height of the image [ours].
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        hidden: int = 128,
        floor: float = 0.0,
        reads_height: bool = False,
    ) -> None:
        super().__init__()
        if hidden < 1:
            raise ConfigError(f"quality hidden: expected at least 1, got {hidden}")
        if not 0 <= floor < 1:
            raise ConfigError(f"quality floor: expected 0 <= floor < 1, got {floor}")
        self.floor = floor
        self.reads_height = reads_height
        self.hidden = nn.Linear(embedding_dim + reads_height, hidden)
        self.score = nn.Linear(hidden, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, embedding: Tensor, log_heights: Tensor | None = None) -> Tensor:
        """Weigh embeddings.

        Args:
            embedding: v, before the neck, shape (N, D).
            log_heights: logarithm of the native height over a typical one, shape (N,); not read
                unless ``reads_height``.

        Returns:
            Weights w in [floor, 1], shape (N,).

        Raises:
            ConfigError: if it reads heights and there are none.
        """
        if self.reads_height:
            if log_heights is None:
                raise ConfigError("quality: this evaluator reads native heights, and got none")
            embedding = torch.cat([embedding, log_heights[:, None]], dim=1)  # (N, D + 1)
        score = self.score(torch.relu(self.hidden(embedding))).squeeze(1)  # (N,)
        # A bf16 sigmoid has steps of 0.4 % around one half, where the weights start.
        return self.floor + (1 - self.floor) * torch.sigmoid(score.float())


class Classifier(nn.Linear):
    """C of the paper: logits per training identity [FTWA eq. 4].

    Linear without bias, started from N(0, 0.001) [strong baseline].
    """

    def __init__(self, embedding_dim: int, num_identities: int) -> None:
        super().__init__(embedding_dim, num_identities, bias=False)

    def reset_parameters(self) -> None:
        """Draw start weights from torch's default generator."""
        nn.init.normal_(self.weight, std=0.001)


class BNNeck(nn.BatchNorm1d):
    """Batch norm between embedding and classifier, its bias frozen at zero [strong baseline]."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__(embedding_dim)
        self.bias.requires_grad = False


class Space(nn.Module):
    """Neck, classifier C and evaluator W of one space [FTWA eq. 4].

    W and the triplet loss read v before the neck, C and matching after it [assumed].

    Attributes:
        neck: batch norm before the classifier; the identity where the backbone has its own.
        classifier: C.
        evaluator: W; None where every quality is 1.
    """

    def __init__(
        self,
        *,
        neck: BNNeck | None,
        classifier: Classifier,
        evaluator: QualityEvaluator | None,
        is_evaluator_detached: bool = False,
    ) -> None:
        super().__init__()
        self.neck: nn.Module = neck or nn.Identity()
        self.classifier = classifier
        self.evaluator = evaluator
        self._is_evaluator_detached = is_evaluator_detached

    def logits(self, embedding: Tensor) -> Tensor:
        """Classify embeddings.

        Args:
            embedding: v, shape (N, D).

        Returns:
            Identity logits f, shape (N, I).
        """
        logits: Tensor = self.classifier(self.neck(embedding))
        return logits

    def quality(self, embedding: Tensor, log_heights: Tensor | None = None) -> Tensor:
        """Weigh embeddings.

        Args:
            embedding: v, shape (N, D).
            log_heights: for an evaluator that reads native heights, shape (N,).

        Returns:
            Qualities w, shape (N,); 1 where there is no evaluator.
        """
        if self.evaluator is None:
            return torch.ones_like(embedding[:, 0])
        if self._is_evaluator_detached:
            embedding = embedding.detach()
        quality: Tensor = self.evaluator(embedding, log_heights)
        return quality
