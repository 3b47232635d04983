"""What a recipe takes from its benchmark: batches, length, protocol, and what a set was made of."""

from dataclasses import replace

import pytest
from data.trees import viper

from resolute.core.errors import ConfigError, DatasetError
from resolute.data.benchmark import DataConfig, benchmark_names, open_split, resolved_policy
from resolute.data.catalogue import DATASETS
from resolute.data.sampler import num_steps
from resolute.data.written import write
from resolute.methods.variants import TABLE1
from resolute.recipes.catalogue import FLAVOURS, find_recipe


@pytest.fixture
def written(tmp_path):
    """Trial 3 of seed 2 of VIPeR, and the settings it was written with."""
    data = DataConfig(name="mlr-viper", root=str(viper(tmp_path / "viper", 12)), trial=3, seed=2)
    write(open_split(data), tmp_path / "set", policy=resolved_policy(data), seed=data.seed)
    return str(tmp_path / "set"), data


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("method", ["ftwa", "sing"])
def test_a_written_set_has_the_recipe_of_what_it_was_made_of(written, method, flavour):
    root, data = written
    own = find_recipe(method, "mlr-viper", flavour)
    made = find_recipe(method, "mlr-written", flavour, root=root)
    assert replace(made, data=own.data) == own
    # Splits and gallery draws are the original's too.
    assert (made.data.name, made.data.trial, made.data.seed) == ("mlr-written", 3, 2)
    assert open_split(made.data).digest() == open_split(data).digest()


def test_a_written_set_is_named_by_its_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"mlr-written: .* give its folder \(--data.root DIR\)"):
        find_recipe("ftwa", "mlr-written")
    with pytest.raises(DatasetError, match=r"manifest\.json: cannot be read"):
        find_recipe("ftwa", "mlr-written", root=str(tmp_path))


@pytest.mark.parametrize("method", TABLE1)
def test_every_benchmark_has_every_recipe(method):
    for data in benchmark_names():
        if data != "mlr-written":
            for flavour in FLAVOURS:
                assert find_recipe(method, data, flavour).data.name == data


@pytest.mark.parametrize("name", [name for name, info in DATASETS.items() if info.counts])
def test_sing_is_trained_for_about_the_published_steps(name):
    info = DATASETS[name]
    config = find_recipe("sing", name if info.has_real_lr else f"mlr-{name}", "paper")
    # Of CUHK03's classic splits 1,367 of 1,467 people train, of 14,096 images.
    num_images = info.counts.train.images or 14_096 * 1_367 / 1_467
    epochs = config.train.epochs * (1 - config.method.restoration_share)
    steps = epochs * num_steps(num_images, config.loader.batch_size)
    assert steps == pytest.approx(1000 if name in ("caviar", "viper") else 5000, rel=0.05)


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        ("mlr-viper", "mlr"),
        ("caviar", "mlr"),
        ("market1501", "market"),
        ("cuhk03-p1", "market"),
        ("cuhk03-new-labeled", "market"),
        ("cuhk03-classic-labeled", "cuhk03-classic"),
        ("cuhk03-classic-detected", "cuhk03-classic"),
        ("mlr-cuhk03-classic-labeled", "mlr"),
    ],
)
def test_the_protocol_follows_the_benchmark(data, protocol):
    assert find_recipe("baseline", data).evaluation.protocol == protocol
