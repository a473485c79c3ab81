"""Small data sets in the layouts in which the real ones come, for FastReID's own classes to read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def pictures(folder: Path, names: Iterable[str]) -> None:
    """A picture of its own under each name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def market1501(root: Path) -> None:
    """4 training identities in 2 cameras of 2 pictures each; 3 test identities, a query each and 4 gallery images."""
    train = [f"bounding_box_train/{pid:04d}_c{c}s1_{k}.jpg" for pid in (2, 7, 10, 11) for c in (1, 2) for k in (1, 2)]
    query = [f"query/{pid:04d}_c1s1_0.jpg" for pid in (1, 3, 5)]
    gallery = [f"bounding_box_test/{pid:04d}_c{c}s1_{k}.jpg" for pid in (1, 3, 5) for c in (2, 3) for k in (1, 2)]
    pictures(root / "Market-1501-v15.09.15", [*train, *query, *gallery])


def msmt17(root: Path) -> None:
    """3 training identities in 2 cameras of 2 pictures each, numbered from 0; 2 test identities."""
    folder = root / "MSMT17_V1"
    lists = {"train": ("train", 3, (1, 2)), "val": ("train", 3, (3,)), "query": ("test", 2, (1,)),
             "gallery": ("test", 2, (2, 3))}  # fmt: skip
    for name, (side, identities, cameras) in lists.items():
        rows = [
            (f"{p:04d}/{p:04d}_00{k}_{c:02d}_03.jpg", p) for p in range(identities) for c in cameras for k in (1, 2)
        ]
        pictures(folder / side, [path for path, _ in rows])
        (folder / f"list_{name}.txt").write_text("".join(f"{path} {pid}\n" for path, pid in rows))


def vehicleid(root: Path) -> None:
    """3 training vehicles of 4 pictures; the lists of 800, 1600 and 2400 have 5, 6 and 7 vehicles of 4 pictures."""
    lists = {"train_list": range(3), **{f"test_list_{n}": range(10, 15 + k) for k, n in enumerate((800, 1600, 2400))}}
    lists["test_list_13164"] = lists["test_list_2400"]
    splits = root / "vehicleid" / "train_test_split"
    splits.mkdir(parents=True)
    for name, vehicles in lists.items():
        rows = [(10 * vehicle + k, vehicle) for vehicle in vehicles for k in range(4)]
        pictures(root / "vehicleid" / "image", [f"{number:07d}.jpg" for number, _ in rows])
        (splits / f"{name}.txt").write_text("".join(f"{number:07d} {vehicle}\n" for number, vehicle in rows))


def veriwild(root: Path) -> None:
    """3 training vehicles in 2 cameras of 2 pictures; those of 3000, 5000 and 10000 have 2, 3 and 4 vehicles."""
    folder = root / "VERI-Wild"
    info, lists = ["id/image;Camera ID;Time;Model;Type;Color"], {}
    for vehicle in range(1, 8):
        names = [f"{vehicle:05d}/{100 * vehicle + 10 * camera + k:06d}" for camera in (1, 2) for k in (1, 2)]
        info += [f"{name};{int(name[-2])};2018-03-11;Audi;SUV;black" for name in names]
        pictures(folder / "images", [f"{name}.jpg" for name in names])
        lists[vehicle] = names
    splits = {"train_list": [name for v in (1, 2, 3) for name in lists[v]]}
    for count, vehicles in ((3000, (4, 5)), (5000, (4, 5, 6)), (10000, (4, 5, 6, 7))):
        splits[f"test_{count}_query"] = [lists[v][0] for v in vehicles]
        splits[f"test_{count}"] = [name for v in vehicles for name in lists[v][1:]]
    (folder / "train_test_split").mkdir(parents=True)
    (folder / "train_test_split" / "vehicle_info.txt").write_text("\n".join(info) + "\n")
    for name, rows in splits.items():
        (folder / "train_test_split" / f"{name}.txt").write_text("".join(f"{row}.jpg\n" for row in rows))


def veri(root: Path) -> None:
    """3 training vehicles in 2 cameras of 2 pictures; 2 test vehicles."""
    names = [f"image_train/{v:04d}_c{c:03d}_{k}.jpg" for v in (1, 3, 4) for c in (1, 2) for k in (1, 2)]
    names += [f"image_query/{v:04d}_c001_0.jpg" for v in (2, 5)]
    names += [f"image_test/{v:04d}_c{c:03d}_{k}.jpg" for v in (2, 5) for c in (2, 3) for k in (1, 2)]
    pictures(root / "veri", names)


ALL = (market1501, msmt17, veri, vehicleid, veriwild)
