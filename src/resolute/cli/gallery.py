"""``resolute gallery``: look after a gallery."""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from resolute.cli.conditions import check_cameras
from resolute.cli.overrides import parse
from resolute.core.errors import ConfigError, GalleryError
from resolute.inference.block import write_atomically, write_folder
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.place import open_gallery
from resolute.retrieval.types import Where


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and act.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute gallery stats|verify|purge|expire GALLERY [--json]\n"
        "       resolute gallery delete GALLERY KEY [KEY ...] [--purge]\n"
        "       resolute gallery delete GALLERY --camera NAME [--purge]\n"
        "       resolute gallery export GALLERY --out FILE.npz | --key KEY --out DIR"
    )
    parser.epilog = (
        "stats counts; verify reads every byte; delete hides images at once; purge erases what is\n"
        "deleted from every file; expire deletes and purges what is older than the retention.\n"
        "export writes vectors, weights and what is known of every image as one .npz, or all that\n"
        "is held of one image as a folder. GALLERY is a folder or http://host:6333/collection."
    )
    add = parser.add_argument
    add("action", choices=tuple(_ACTIONS))
    add("gallery", metavar="GALLERY", help="folder, or http://host:6333/collection")
    add("keys", nargs="*", metavar="KEY", help="for delete: names of images")
    add("--camera", action="append", default=[], help="for delete: all images of this camera")
    add("--purge", action="store_true", help="for delete: erase as well")
    add("--key", help="for export: one image")
    add("--out", type=Path, metavar="PATH", help="for export")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    key = os.environ.get("RESOLUTE_QDRANT_API_KEY")
    if options.keys and options.action != "delete":
        raise ConfigError(f"gallery {options.action}: unexpected word {options.keys[0]!r}")
    with open_gallery(options.gallery, api_key=key) as gallery:
        found = _ACTIONS[options.action](gallery, options)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name:<16} {'-' if value is None else value}")
    return 0


Found = dict[str, object]


def _stats(gallery: Gallery, options: argparse.Namespace) -> Found:  # noqa: ARG001 (one signature)
    stats = asdict(gallery.stats())
    space = stats.pop("space")
    return {**stats, **space}


def _verify(gallery: Gallery, options: argparse.Namespace) -> Found:  # noqa: ARG001
    return {"bytes_checked": gallery.verify(), "images": len(gallery)}


def _delete(gallery: Gallery, options: argparse.Namespace) -> Found:
    if bool(options.keys) == bool(options.camera):
        raise ConfigError("gallery delete: expected keys, or --camera NAME")
    if options.keys:
        count = gallery.delete(options.keys)
    else:
        # As an unset variable of a shell gives it: it would mean all images without a camera.
        if "" in options.camera:
            raise ConfigError(
                "--camera: expected the name of a camera, got ''; to delete images without a "
                "camera, give their keys"
            )
        check_cameras(options.camera, gallery.stats())
        count = gallery.delete_where(Where(camera=options.camera))
    found: Found = {"deleted": count}
    if options.purge:
        found["purged"] = gallery.purge()
    else:
        found["next"] = "their bytes stay until: resolute gallery purge"
    return found


def _purge(gallery: Gallery, options: argparse.Namespace) -> Found:  # noqa: ARG001
    return {"purged": gallery.purge(), "images": len(gallery)}


def _expire(gallery: Gallery, options: argparse.Namespace) -> Found:  # noqa: ARG001
    if gallery.retention_days is None:
        raise GalleryError("this gallery has no retention: nothing expires")
    return {
        "erased": gallery.expire(),
        "images": len(gallery),
        "retention_days": gallery.retention_days,
    }


def _export(gallery: Gallery, options: argparse.Namespace) -> Found:
    if options.out is None:
        raise ConfigError("gallery export: expected --out PATH")
    if options.out.exists():
        raise ConfigError(f"{options.out}: is there already; choose another name")
    if options.key is not None:
        return _export_one(gallery, options.key, options.out)
    if options.out.suffix != ".npz":
        raise ConfigError(f"{options.out}: expected a name that ends in .npz, or --key KEY")
    entries = gallery.entries()
    embedding = gallery.embedding([entry.key for entry in entries])

    def column(name: str, unknown: object = np.nan) -> np.ndarray[Any, np.dtype[Any]]:
        values = [getattr(entry, name) for entry in entries]
        return np.array([unknown if value is None else value for value in values])

    arrays: dict[str, Any] = {
        "vectors": embedding.vectors,
        "quality": embedding.quality,
        "norms": column("norms", (np.nan,) * gallery.space.num_streams),
        "ids": column("id"),
        "keys": np.array([entry.key for entry in entries], dtype=np.str_),
        "cameras": np.array([entry.camera for entry in entries], dtype=np.str_),
        "times": column("time"),
        "added": column("added"),
        "reliability": column("reliability"),
        "native_sizes": column("native_size", (0, 0)),
        **{name: np.array(value) for name, value in asdict(gallery.space).items()},
    }
    write_atomically(options.out, lambda file: np.savez(file, **arrays))
    return {"images": len(entries), "file": str(options.out)}


def _export_one(gallery: Gallery, key: str, folder: Path) -> Found:
    held = {
        **asdict(gallery.entry(key)),
        "vectors": gallery.embedding([key]).vectors[0].tolist(),
        "space": asdict(gallery.space),
    }
    files = {"held.json": (json.dumps(held, indent=1) + "\n").encode()}
    if (picture := gallery.thumbnail(key)) is not None:
        files["thumbnail.jpg"] = picture
    write_folder(folder, files)
    return {"key": key, "folder": str(folder)}


_ACTIONS: dict[str, Callable[[Gallery, argparse.Namespace], Found]] = {
    "stats": _stats,
    "verify": _verify,
    "delete": _delete,
    "purge": _purge,
    "expire": _expire,
    "export": _export,
}
