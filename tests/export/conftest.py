"""Exported files of the small comparator, written once per session."""

from functools import cache

import pytest
from export.fakes import Comparator, few_people
from methods.builders import small_blueprint

from resolute.export import artifact
from resolute.export.config import ExportConfig
from resolute.export.tracing import trace_full
from resolute.inference.model import Model

PRESETS = ("imagenet", "raw-rgb", "unit-rgb", "raw-bgr")
KINDS = {
    "tracker": {"preset": PRESETS},
    "full": {"artifact": "full", "preset": ("raw-bgr",)},
    "mirrored": {"artifact": "full", "method": Comparator(is_mirrored=True)},
    "hr": {"branch": "hr"},
    "lr": {"branch": "lr"},
    "ir": {"artifact": "full", "format": "openvino"},
}


def write(folder, *, method=None, samples=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "model.safetensors"
    source.write_bytes(b"weights")
    return artifact.export_model(
        model_of(method or Comparator()),
        ExportConfig(**settings),
        source=source,
        out=folder / "export",
        samples=samples or few_people(),
    )


def model_of(method):
    return Model(
        method=method,
        blueprint=small_blueprint(),
        metadata={"split": "none"},
        fingerprint="f" * 64,
    )


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Give what :func:`export_model` returned, by kind; read only."""
    done = {}

    # The same method in another format is not traced again: tracing takes most of the time.
    traced = cache(lambda: trace_full(model_of(Comparator()), Comparator().graphs()))

    def get(kind):
        if kind not in done:
            with pytest.MonkeyPatch.context() as patch:
                if kind in ("full", "ir"):
                    patch.setattr(artifact, "trace_full", lambda *_: traced())
                done[kind] = write(tmp_path_factory.mktemp(kind), **KINDS[kind])
        return done[kind]

    return get
