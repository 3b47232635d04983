"""Single-shot galleries: one image per identity, drawn many times, ranked in one pass.

A draw is one number in [0, 1) per identity. It picks among the images of the identity that the
camera rule leaves to the query, so one draw serves every query under every rule.

Letters: G gallery, I gallery identities, T draws.
"""

import numpy as np
from numpy.typing import NDArray

from resolute.core.rng import Stream, Streams
from resolute.evaluation.candidates import DISTRACTOR_PID, Candidates

Positions = NDArray[np.int64]
Floats = NDArray[np.float64]


class SingleShot:
    """Seeded galleries with one image per identity. Junk is in none, every distractor in all.

    Args:
        candidates: the gallery.
        num_draws: number of galleries to draw, >= 1.
        is_per_query: draw anew for each query in place of once for all.
        has_distractors: whether identity 0 means many unknown people; they all stay.
        streams: source of the draws (``Stream.TRIAL``).
        trial: number of the trial, part of the address of each draw.

    Attributes:
        num_draws: number of galleries T that are ranked; 1 when all draws are identical.
        num_images: size of each gallery, before the camera rule.
        is_constant: whether every identity has one image, so that nothing can be drawn.
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        num_draws: int,
        is_per_query: bool,
        has_distractors: bool,
        streams: Streams,
        trial: int,
    ) -> None:
        self._candidates = candidates
        self._is_per_query = is_per_query
        self._streams = streams
        self._trial = trial
        groups = candidates.pids.copy()
        if has_distractors:  # each a group of its own, behind the people, whose draws stay
            distractors = np.flatnonzero(groups == DISTRACTOR_PID)
            groups[distractors] = groups.max(initial=0) + 1 + np.arange(len(distractors))
        is_listed = np.ones(len(groups), dtype=bool)
        is_listed[candidates.junk] = False
        listed = np.flatnonzero(is_listed)
        self._names, codes = np.unique(groups[listed], return_inverse=True)
        self._codes = np.full(len(groups), -1)
        self._codes[listed] = codes
        # Listed positions, identity after identity, gallery order within each.
        self._order = listed[np.argsort(codes, kind="stable")]
        self.num_images = len(self._names)
        self.is_constant = len(listed) == len(self._names)
        self.num_draws = 1 if self.is_constant else num_draws
        self._galleries: dict[int | None, tuple[Positions, Positions]] = {}
        self._shared = np.stack(
            [
                streams.numpy(Stream.TRIAL, trial, draw).random(len(self._names))
                for draw in range(self.num_draws)
            ]
        )  # (T, I)

    def ranks(
        self,
        distances: NDArray[np.floating],
        *,
        position: int,
        pid: int,
        camid: int,
        matches: Positions,
    ) -> Positions:
        """Rank the drawn match of one query in each gallery.

        Args:
            distances: to every gallery image, shape (G,).
            position: number of the query, part of the address of its draws.
            pid: its identity.
            camid: its camera.
            matches: positions of its matches, ascending, at least one.

        Returns:
            Ranks counted from 1, shape (T,).
        """
        draws = self._shared
        if self._is_per_query and not self.is_constant:
            rng = self._streams.numpy(Stream.TRIAL, self._trial, "query", position)
            # People first, so that distractors, which stand behind them, move no draw.
            draws = rng.random(draws.shape[::-1]).T
        code = int(np.searchsorted(self._names, pid))
        match = matches[_pick(draws[:, code], len(matches))][:, None]  # (T, 1)
        codes, gallery = self._gallery(draws, camid)  # (I',), (T, I')
        others, near = distances[gallery], distances[match]
        is_before = (others < near) | ((others == near) & (gallery < match))
        # The camera rule may have replaced the image that stands here for the query's identity.
        is_before[:, np.searchsorted(codes, code)] = False
        ranks: Positions = 1 + np.count_nonzero(is_before, axis=1)
        return ranks

    def _gallery(self, draws: Floats, camid: int) -> tuple[Positions, Positions]:
        # Only `separate-camera` takes images of other people away, by the query's camera.
        is_separate = self._candidates.camera_rule == "separate-camera"
        key = camid if is_separate else None
        if key in self._galleries:
            return self._galleries[key]
        pool = self._order
        if is_separate:
            pool = pool[self._candidates.camids[pool] != camid]
        counts = np.bincount(self._codes[pool], minlength=len(self._names))
        starts = np.cumsum(counts) - counts
        codes = np.flatnonzero(counts)
        gallery = pool[starts[codes] + _pick(draws[:, codes], counts[codes])]  # (T, I')
        if draws is self._shared:
            self._galleries[key] = (codes, gallery)
        return codes, gallery


def _pick(draws: Floats, counts: Positions | int) -> Positions:
    return np.floor(draws * counts).astype(np.int64)
