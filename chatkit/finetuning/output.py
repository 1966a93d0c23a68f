"""The folder of a run: what is there before, what is left after."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from chatkit.errors import DiskFull, InputError
from chatkit.finetuning.lineage import FILE
from chatkit.finetuning.recipe import Recipe, read_recipe, write_recipe

if TYPE_CHECKING:
    from chatkit.template import ChatTemplate

RECIPE, METRICS, SAMPLES, CHECKPOINTS = (
    "recipe.yaml",
    "metrics.jsonl",
    "answers.jsonl",
    "checkpoints",
)


class Output:
    """The folder that a recipe names.

    Args:
        recipe: says where.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.folder = recipe.folder
        self.checkpoints = self.folder / CHECKPOINTS
        self.data = self.folder / "data"
        self._recipe = recipe

    def prepare(self, *, resume: bool) -> Path | None:
        """Make the folder ready, and give the checkpoint to go on from.

        Args:
            resume: go on where an earlier run with the same recipe ended.

        Raises:
            InputError: there is something in it already, or nothing to go on from, or the recipe
                is another one now.
        """
        if not resume:
            if self.folder.exists() and any(self.folder.iterdir()):
                raise InputError(
                    f"The output folder {self.folder} is not empty; choose another one, or go on "
                    "in it with --resume."
                )
            self.checkpoints.mkdir(parents=True)
            (self.folder / RECIPE).write_text(write_recipe(self._recipe), "utf-8")
            return None
        self._same_recipe()
        found = last_checkpoint(self.checkpoints)
        if found is None:
            raise InputError(
                f"There is no checkpoint in {self.checkpoints} to go on from; empty {self.folder} "
                "and begin again without --resume."
            )
        return found

    def _same_recipe(self) -> None:
        path = self.folder / RECIPE
        if not path.exists():
            raise InputError(f"There is no run in {self.folder} to go on with; leave out --resume.")
        before = read_recipe(path)
        if before != self._recipe:
            changed = ", ".join(_differences(before.model_dump(), self._recipe.model_dump()))
            raise InputError(
                f"The recipe is not the one that {self.folder} was begun with; different is "
                f"{changed}. Change it back, or choose another output folder."
            )

    def save(
        self,
        model: Any,
        tokenizer: Any,
        template: "ChatTemplate",
        base: str,
    ) -> None:
        """Write the weights, and the tokenizer with its template where TGI looks for it.

        Args:
            model: all of it, or an adapter.
            tokenizer: the base's.
            template: the base's.
            base: the name that other tools know the base by.

        Raises:
            DiskFull: there is no room; checkpoints stay.
        """
        from chatkit.finetuning.training.watched import is_disk_full

        try:
            model.save_pretrained(self.folder)
            _name_base(self.folder / "adapter_config.json", base)
            tokenizer.chat_template = template.source
            tokenizer.save_pretrained(self.folder, save_jinja_files=False)
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise DiskFull(
                f"The disk has no room for the result in {self.folder}; its last checkpoint is as "
                "it was. Make room, and go on with --resume."
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of facts."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (self.folder / name).write_text(text + "\n", "utf-8")

    def check_same_data(self, lineage: dict[str, Any]) -> None:
        """Refuse to go on with other rows than a run was begun with.

        Raises:
            InputError: a file has changed since.
        """
        before = json.loads((self.folder / FILE).read_text("utf-8"))["data"]["train_sha256"]
        if before != lineage["data"]["train_sha256"]:
            raise InputError(
                f"The data is not what {self.folder} was begun with; bring the files back as they "
                "were, or choose another output folder."
            )

    def write_lineage(self, lineage: dict[str, Any]) -> None:
        """Write where the result comes from."""
        self.write_json(FILE, lineage)

    def metrics(self) -> list[dict[str, Any]]:
        """Read all figures of the run, in their order."""
        path = self.folder / METRICS
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _name_base(configuration: Path, base: str) -> None:
    """Put the base's name where PEFT wrote the folder that it was loaded from."""
    if configuration.exists():
        said = json.loads(configuration.read_text("utf-8"))
        text = json.dumps({**said, "base_model_name_or_path": base}, indent=2)
        configuration.write_text(text + "\n", "utf-8")


def last_checkpoint(folder: Path) -> Path | None:
    """Find the newest whole checkpoint: its state is written last."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return max(found, key=lambda path: int(path.name.partition("-")[2]), default=None)


def read_output_recipe(folder: Path) -> Recipe:
    """Read the recipe that a result was made by.

    Raises:
        InputError: the folder holds none.
    """
    if not (folder / RECIPE).exists():
        raise InputError(f"{folder} is no result of finetune; it has no {RECIPE}.")
    return read_recipe(folder / RECIPE)


def _differences(one: dict[str, Any], other: dict[str, Any], at: str = "") -> list[str]:
    found: list[str] = []
    for name in one:
        a, b = one[name], other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{at}{name}.")
        elif a != b:
            found.append(f"{at}{name} ({yaml.safe_dump(a).split(chr(10))[0]})")
    return found
