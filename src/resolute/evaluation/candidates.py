"""Which gallery images a query is compared with, and which of them are its matches.

Letters: Q queries, G gallery.
"""

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError

CAMERA_RULES = ("same-camera", "separate-camera", "none")

JUNK_PID = -1
DISTRACTOR_PID = 0

Positions = NDArray[np.int64]


class Candidates:
    """The gallery as a query sees it under one camera rule.

    ``same-camera`` removes the images of the query's identity taken by the query's camera;
    ``separate-camera`` removes every image of the query's camera; ``none`` removes neither, for
    cameras that are unknown. Junk is removed for every query [Zheng 2015].

    Args:
        junk_pid: identity that marks junk; None where there is no junk.

    Attributes:
        pids: identity of each gallery image, shape (G,).
        camids: camera of each gallery image, shape (G,).
        camera_rule: one of ``CAMERA_RULES``.
        junk: positions of junk, ascending.

    Raises:
        ConfigError: if the rule is unknown.
    """

    def __init__(
        self,
        pids: Positions,
        camids: Positions,
        *,
        camera_rule: str,
        junk_pid: int | None = JUNK_PID,
    ) -> None:
        if camera_rule not in CAMERA_RULES:
            raise ConfigError(unknown_name("camera rule", camera_rule, list(CAMERA_RULES)))
        self.pids = pids
        self.camids = camids
        self.camera_rule = camera_rule
        is_junk = np.zeros(len(pids), dtype=bool) if junk_pid is None else pids == junk_pid
        self.junk = np.flatnonzero(is_junk)
        self._none = np.empty(0, dtype=np.int64)
        self._of_pid = _group(pids)
        self._of_camid = _group(camids)

    def of_identity(self, pid: int) -> Positions:
        """Return the positions of all images of an identity, ascending.

        Args:
            pid: identity.
        """
        return self._of_pid.get(pid, self._none)

    def of_query(self, pid: int, camid: int) -> tuple[Positions, Positions]:
        """Find the matches of a query and what is taken out of its list.

        Args:
            pid: identity of the query.
            camid: camera of the query.

        Returns:
            Positions of the matches, ascending, and positions to remove, in any order.
        """
        own = self.of_identity(pid)
        if self.camera_rule == "none":
            return own, self.junk
        is_same = self.camids[own] == camid
        if self.camera_rule == "same-camera":
            removed = own[is_same]
        else:
            removed = self._of_camid.get(camid, self._none)
        return own[~is_same], np.concatenate([self.junk, removed])


def _group(values: Positions) -> dict[int, Positions]:
    order = np.argsort(values, kind="stable")
    names, starts = np.unique(values[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
