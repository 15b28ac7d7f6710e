"""What the embedded data set holds, as numbers."""

from typing import NamedTuple, get_args

from data_pipelines.build.scenes.picture import ImageFormat


class SceneConfig(NamedTuple):
    """What the data set holds; `python -m data_pipelines.build scenes` has a flag for every
    field.
    """

    scenes: int = 20_000  # pictures of the train split, each captioned in both languages
    eval_scenes: int = 1_000  # pictures of validation, and again of test
    text_scenes: int = 60_000  # text-only train samples, in each language
    task_scenes: int = 0  # train samples of every other task, in each language; 0: no such task
    sign_scenes: int = 0  # of the tasks with words on signs, which are few; 0: as many as others
    kinds: int = 30  # 0: all that the font draws
    image_size: int = 64
    max_objects: int = 4
    object_min: float = 0.35  # longer side of an object, as a share of the picture's
    object_max: float = 0.55
    step: int = 1  # pixels: an object's edges lie on multiples of it
    held_out_every: int = 5  # every n-th kind stays out of training's relation captions; 0: none
    grid: int = 4  # cells of a side in the text samples' picture of a scene: sqrt(queries) fits
    image_format: ImageFormat = "png"
    vocab_size: int = 1_024
    shards: int = 8
    seed: int = 0
    processes: int = 0  # 0: one a core; changes nothing about the data


def check(config: SceneConfig) -> None:
    """Raises ValueError, naming the key, where a value is out of range."""
    least = {
        "scenes": 0,
        "eval_scenes": 0,
        "text_scenes": 1,
        "task_scenes": 0,
        "sign_scenes": 0,
        "kinds": 0,
        "image_size": 16,
    }
    least |= {"max_objects": 1, "held_out_every": 0, "grid": 1, "step": 1, "shards": 1}
    least |= {"processes": 0}
    for key, value in least.items():
        if getattr(config, key) < value:
            raise ValueError(f"{key}={getattr(config, key)}: must be at least {value}")
    if not 0 < config.object_min <= config.object_max <= 1:
        raise ValueError(
            f"object_min={config.object_min}, object_max={config.object_max}: "
            "need 0 < object_min <= object_max <= 1"
        )
    if config.max_objects > 4:
        raise ValueError(f"max_objects={config.max_objects}: the captions count to 4")
    if config.image_format not in get_args(ImageFormat):
        raise ValueError(f"image_format={config.image_format!r}: expected png or jpeg")
