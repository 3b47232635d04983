"""Retention, enforced: of images, of deleted bytes, of the audit log."""

import logging
from typing import Any

from resolute.core.errors import GalleryBusyError, ReidError
from resolute.retrieval.gallery import Gallery
from resolute.service.desk import Desk
from resolute.service.events import fields

_LOG = logging.getLogger(__name__)


def keep_house(desk: Desk) -> None:
    """Erase what is too old or deleted, and see what another writer did.

    Args:
        desk: whose gallery and audit log.
    """
    done: dict[str, Any] = {}
    # Where the gallery cannot be kept, the audit log is kept all the same.
    for keep in (_keep_gallery, _keep_audit):
        try:
            done |= keep(desk)
        except ReidError as error:
            # The next hour tries again; until then this line is what somebody must see.
            _LOG.error("retention not enforced: %s", error)
        except Exception:  # noqa: BLE001 (a bug must not end the rounds of a server that runs on)
            _LOG.exception("retention not enforced")
    if done:
        _LOG.info("retention", extra=fields(**done))


def _keep_gallery(desk: Desk) -> dict[str, Any]:
    expired, purged = _expire(desk)
    if expired or purged:
        desk.audit.write(
            "expire",
            who="retention",
            gallery=desk.gallery.space.fingerprint,
            num_expired=expired,
            num_purged=purged,
        )
    return {"expired": expired, "purged": purged}


def _keep_audit(desk: Desk) -> dict[str, Any]:
    erased = desk.audit.expire(desk.config.audit_days)
    head = desk.audit.head
    return {"audit_erased": erased, "audit_num": head.num, "audit_head": head.digest}


def _expire(desk: Desk) -> tuple[int, int]:
    gallery = desk.gallery
    if not desk.config.read_only:
        before = gallery.stats().num_deleted
        expired = gallery.expire()
        return expired, before + expired if expired else gallery.purge()
    # Before anything that can fail: what others purged must not be shown any longer.
    gallery.refresh()
    if gallery.retention_days is None:
        return 0, 0
    # As a reader the server must leave the lock to others: it takes it for this moment only.
    with Gallery.open(desk.folder) as writer:
        try:
            writer.lock()
        except GalleryBusyError as error:
            _LOG.warning("retention left to the writer: %s", error)
            return 0, 0
        expired = writer.expire()
    gallery.refresh()
    return expired, expired
