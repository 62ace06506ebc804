"""Starts a project folder with a settings file, and reads it back."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from dhn_kit.errors import DhnError
from dhn_kit.generic_boards import find_board

SETTINGS = "dhn-kit.toml"


@dataclass(frozen=True)
class Project:
    """Paths are relative to the folder that holds the settings."""

    model: Path
    calib: Path
    board: str


_SETTINGS_TEXT = """\
# Settings of this project. Paths count from this folder.
model = {model}  # .onnx, or int8 .tflite (which needs no calibration data)
calib = {calib}  # array 'x' in the model's input layout, optional labels 'y'
board = {board}  # see 'dhn-kit boards'
"""

_README_TEXT = """\
# {title}

Next steps, called in this folder:

1. Put your network at `{model}` and some hundred inputs as it sees them in use at `{calib}`
   (`numpy.savez("{calib}", x=inputs, y=labels)`).
2. `dhn-kit inspect {model} --calib {calib}` shows the operators, how well int8 fits, and where hooks may act.
3. `dhn-kit pack {model} --calib {calib} -o build/model.dhn` writes the program for the board.
4. `dhn-kit run build/model.dhn --board {board} --input inputs.npz --output outputs.npz` runs it.
5. `dhn-kit loop build/model.dhn build/samples.db --board {board} --input inputs.npz` collects samples, trains hooks
   and writes them back; `dhn-kit report` shows what they bring.

`dhn-kit doctor` says which tools are missing on this machine.
"""


def start_project(folder: Path, project: Project) -> list[Path]:
    """Writes settings and a README of next steps; returns what was written. DhnError rather than overwriting."""
    find_board(project.board)
    values = {"model": project.model.as_posix(), "calib": project.calib.as_posix(), "board": project.board}
    settings = _SETTINGS_TEXT.format(**{k: json.dumps(v) for k, v in values.items()})
    texts = {
        folder / SETTINGS: settings,
        folder / "README.md": _README_TEXT.format(title=folder.resolve().name, **values),
        folder / ".gitignore": "build/\n",
    }
    for path in texts:
        if path.exists():
            raise DhnError(f"{path} is there already; choose another folder or remove it")
    try:
        (folder / "build").mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text)
    except OSError as error:
        raise DhnError(f"cannot write {error.filename}: {error.strerror}; choose another folder") from error
    return list(texts)


def load_project(folder: Path) -> Project:
    """The settings of a project folder; DhnError if they are missing or faulty."""
    path = folder / SETTINGS
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise DhnError(f"{path} does not exist; start a project with 'dhn-kit init'") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DhnError(f"{path}: {error}; correct the file") from error
    for key in ("model", "calib", "board"):
        if not isinstance(table.get(key), str):
            raise DhnError(f"{path}: '{key}' is missing or not a text; add a line {key} = \"...\"")
    return Project(folder / table["model"], folder / table["calib"], find_board(table["board"]).name)
