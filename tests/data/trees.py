"""Build small trees of generated pictures in the layouts of the data sets."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

ROLES = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def draw(path: Path, *, seed: int = 0, size: tuple[int, int] = (8, 4)) -> Path:
    """Write one picture of noise, size (height, width), format by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, size)).save(path)
    return path


def noise(seed: int, size: tuple[int, int] = (8, 4)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def draw_all(folder: Path, names: Iterable[str]) -> Path:
    """Write one picture, then copy it: the readers look at names alone."""
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, bytes] = {}
    for name in names:
        suffix = Path(name).suffix
        if suffix not in content:
            content[suffix] = draw(folder / f"drawn{suffix}").read_bytes()
            (folder / f"drawn{suffix}").unlink()
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[suffix])
    return folder


def viper(base: Path, people: int = 8) -> Path:
    draw_all(base / "cam_a", [f"{3 * i:03d}_45.bmp" for i in range(people)])
    draw_all(base / "cam_b", [f"{3 * i:03d}_135.bmp" for i in range(people)])
    return base


def caviar(base: Path, pattern: str = "{:04d}{:03d}.jpg") -> Path:
    """The published shape: 50 people with 20 images, 22 with 10."""
    two_views = [pattern.format(p, i) for p in range(1, 51) for i in range(1, 21)]
    one_view = [pattern.format(p, i) for p in range(51, 73) for i in range(1, 11)]
    return draw_all(base, two_views + one_view)


def cuhk01(base: Path, people: int = 9) -> Path:
    return draw_all(
        base, [f"{p:04d}{i:03d}.png" for p in range(1, people + 1) for i in range(1, 5)]
    )


MARKET = {
    "train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000451_01.jpg", "0007_c6s3_000001_02.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c3s2_000002_00.jpg"],
    "gallery": [
        "-1_c1s1_000401_03.jpg",
        "-1_c5s1_000401_04.jpg",
        "0000_c2s1_000151_01.jpg",
        "0001_c2s1_001051_01.jpg",
        "0003_c4s2_000002_01.jpg",
    ],
}
DUKE = {
    "train": ["0001_c2_f0046182.jpg", "0001_c8_f0046302.jpg"],
    "query": ["0005_c2_f0046985.jpg"],
    "gallery": ["0005_c5_f0051341.jpg", "0011_c1_f0000001.jpg"],
}
NUMPY = {
    "train": ["0001_c1_1.png", "0001_c2_6.png"],
    "query": ["0900_c1_2.png"],
    "gallery": ["0900_c2_7.png", "1400_c1_3.png"],
}


def market_style(base: Path, names: Mapping[str, Iterable[str]]) -> Path:
    for role, folder in ROLES.items():
        draw_all(base / folder, names[role])
    return base


def by_identity(base: Path, roles: Mapping[str, Iterable[str]]) -> Path:
    """DI-REID's and layumi's layout: one folder per identity."""
    for role, names in roles.items():
        draw_all(base / role, [f"{name.split('_')[0]}/{name}" for name in names])
    return base


MSMT = {
    "train": [
        ("0000/0000_000_01_0303morning_0015_0.jpg", 0),
        ("0001/0001_000_15_0113noon_1_0.jpg", 1),
    ],
    "val": [("0000/0000_001_02_0303morning_0015_0.jpg", 0)],
    "query": [("0000/0000_000_03_0303morning_0020_0.jpg", 0)],
    "gallery": [
        ("0000/0000_001_04_0303morning_0021_0.jpg", 0),
        ("0002/0002_000_05_0303evening_0022_0.jpg", 2),
    ],
}


def msmt17(base: Path, version: int) -> Path:
    train, test = {1: ("train", "test"), 2: ("mask_train_v2", "mask_test_v2")}[version]
    for role, lines in MSMT.items():
        draw_all(base / (train if role in ("train", "val") else test), [path for path, _ in lines])
        text = "".join(f"{path} {pid}\n" for path, pid in lines)
        (base / f"list_{role}.txt").write_text(text)
    return base


def cuhk03_stems(people: Mapping[int, int]) -> list[str]:
    """Base names of a number of people per camera pair, one image per view."""
    return [
        f"{pair}_{person:03d}_{view}_{image:02d}"
        for pair, number in people.items()
        for person in range(1, number + 1)
        for view, image in ((1, 1), (2, 6))
    ]


def cuhk03_folder(
    base: Path, people: Mapping[int, int], boxes: str = "labeled", suffix: str = "png"
) -> Path:
    draw_all(base / f"images_{boxes}", [f"{stem}.{suffix}" for stem in cuhk03_stems(people)])
    return base


def cuhk03_json(path: Path, splits: list[tuple[list[str], list[str]]]) -> Path:
    """Torchreid's list, with absolute paths of a machine that is not this one."""

    def items(stems: list[str]) -> list[list[object]]:
        return [[f"/elsewhere/images/{stem}.png", 0, 0] for stem in stems]

    content = [
        {"train": items(train), "query": items(test), "gallery": items(test), "num_train_pids": 1}
        for train, test in splits
    ]
    path.write_text(json.dumps(content))
    return path


def cuhk03_mat(
    path: Path, people: Mapping[int, int], test_sets: list[list[tuple[int, int]]]
) -> dict[str, np.ndarray]:
    """The raw HDF5 file as MATLAB writes it: cells of references, axes reversed.

    Every person has images 1 and 6; the other eight cells are empty. Returns the pictures of the
    labelled boxes by base name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, np.ndarray] = {}
    with h5py.File(path, "w") as file:
        store = file.create_group("#refs#")
        empty = store.create_dataset("empty", data=np.zeros(2, np.uint64)).ref

        def cell(name: str, refs: np.ndarray) -> h5py.Reference:
            data = store.create_dataset(name, refs.shape, dtype=h5py.ref_dtype)
            data[...] = refs
            return data.ref

        for boxes in ("labeled", "detected"):
            pairs = np.empty((1, 5), dtype=object)
            for pair in range(1, 6):
                cells = np.full((10, people.get(pair, 0)), empty, dtype=object)
                for person in range(1, people.get(pair, 0) + 1):
                    for view, image in ((1, 1), (2, 6)):
                        stem = f"{pair}_{person:03d}_{view}_{image:02d}"
                        picture = noise(len(pictures), (9 + image, 5))
                        stored = store.create_dataset(f"{boxes}{stem}", data=picture.T)
                        cells[image - 1, person - 1] = stored.ref
                        if boxes == "labeled":
                            pictures[stem] = picture
                pairs[0, pair - 1] = cell(f"{boxes}{pair}", cells)
            file.create_dataset(boxes, (1, 5), dtype=h5py.ref_dtype)[...] = pairs
        sets = np.empty((1, len(test_sets)), dtype=object)
        for trial, rows in enumerate(test_sets):
            data = np.array(rows, dtype=np.float64).T  # (2, people)
            sets[0, trial] = store.create_dataset(f"test{trial}", data=data).ref
        file.create_dataset("testsets", sets.shape, dtype=h5py.ref_dtype)[...] = sets
    return pictures


def cuhk03_config(
    path: Path, stems: list[str], index: Mapping[str, list[int]], *, do_compression: bool = False
) -> Path:
    """The lists of the new protocol; indices count from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    filelist = np.empty((len(stems), 1), dtype=object)
    filelist[:, 0] = [f"{stem}.png" for stem in stems]
    arrays = {f"{role}_idx": np.array(places)[:, None] for role, places in index.items()}
    content = {"filelist": filelist, "labels": np.ones((len(stems), 1)), **arrays}
    savemat(path, content, do_compression=do_compression)
    return path
