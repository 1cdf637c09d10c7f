"""Every bundle has the files, the names and the metadata that MONAI looks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties

from softoverlap import bundles

FOLDERS = [getattr(bundles, name) for name in bundles.__all__]
REQUIRED = {
    "version", "changelog", "monai_version", "pytorch_version", "numpy_version",
    "required_packages_version", "task", "description", "authors", "copyright",
    "network_data_format",
}  # fmt: skip

each_bundle = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_folder_of_the_room_is_among_them():
    room = Path(bundles.__file__).parent
    found = {path.parent for path in room.glob("*/configs")}
    assert found == set(FOLDERS)


@each_bundle
def test_the_configurations_hold_what_monai_looks_for(folder):
    for name, properties in (("train", TrainProperties), ("inference", InferProperties)):
        parser = ConfigParser()
        parser.read_config(str(folder / "configs" / f"{name}.yaml"))
        needed = [known["id"] for known in properties.values() if known["required"]]
        assert [name for name in needed if name not in parser] == []


@each_bundle
def test_the_metadata_have_what_monai_asks_for(folder):
    meta = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert set(meta) >= REQUIRED
    assert meta["version"] in meta["changelog"]
    assert (folder / "docs" / "README.md").is_file()
