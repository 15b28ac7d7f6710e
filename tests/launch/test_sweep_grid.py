"""Arms from text: what is written is what is run, and every arm has a folder of its own."""

import pytest

from launch.sweeps import grid


def names(axes):
    return [arm.name for arm in grid.product(axes)]


def test_axes_multiply_and_values_keep_their_types():
    """A rate read as text, or a count as a float, would be refused by every run."""
    arms = grid.product(grid.grid("config.optim.peak_lr=1e-3,2; model.vit.heads=2,4;remat=none"))
    assert [tuple(arm.overrides.values()) for arm in arms] == [
        (1e-3, 2, "none"),
        (1e-3, 4, "none"),
        (2, 2, "none"),
        (2, 4, "none"),
    ]
    assert set(arms[0].overrides) == {"optim.peak_lr", "model.vit.heads", "remat"}
    assert arms[0].name == "peak_lr-0.001_heads-2_remat-none"


def test_a_zip_moves_fields_together():
    arms = grid.zipped("data.seq_len=144,256;data.image_slots=4,16")
    assert [list(arm.overrides.values()) for arm in arms] == [[144, 4], [256, 16]]
    axes = [arms, *grid.grid("seed_free=true,false")]
    assert names(axes)[:2] == [
        "seq_len-144_image_slots-4_seed_free-true",
        "seq_len-144_image_slots-4_seed_free-false",
    ]
    assert grid.product(axes)[0].overrides["seed_free"] is True


def test_values_with_commas_are_a_json_list():
    arms = grid.grid('optim.trainable=["(vit|adapter)/.*", "adapter/.{1,9}"]')[0]
    assert [arm.overrides["optim.trainable"] for arm in arms] == [
        "(vit|adapter)/.*",
        "adapter/.{1,9}",
    ]
    assert all("/" not in arm.name and " " not in arm.name for arm in arms)


def test_names_tell_arms_apart():
    """Two arms in one folder would resume each other's checkpoints."""
    assert names(grid.grid("vit.heads=2;adapter.heads=2")) == ["vit.heads-2_adapter.heads-2"]
    assert len(set(names(grid.grid('x=["a/b", "a:b", "a-b", "-1"]')))) == 4
    long = grid.product(grid.grid(";".join(f"a.field_number_{i}=1,2" for i in range(9))))
    assert len({arm.name for arm in long}) == 512
    assert max(len(arm.name) for arm in long) <= grid.LONGEST_NAME
    again = grid.product(grid.grid(";".join(f"a.field_number_{i}=1,2" for i in range(9))))
    assert [arm.name for arm in again] == [arm.name for arm in long]


def test_a_file_names_its_arms(tmp_path):
    path = tmp_path / "arms.py"
    path.write_text("def get_arms(variant):\n    return {'few' + variant: {'a.b': 4}}\n")
    assert grid.from_file(f"{path}:er") == [grid.Arm("fewer", {"a.b": 4})]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: grid.grid("a.b"), "'a.b' is not FIELD=VALUE"),
        (lambda p: grid.grid(" ; "), "--grid is empty"),
        (lambda p: grid.grid("a=1,,2"), "an empty value"),
        (lambda p: grid.grid("a=[1,"), "no JSON list"),
        (lambda p: grid.grid("a=1;a=2"), "a is given twice"),
        (lambda p: grid.zipped("a=1,2;b=1"), "different lengths: {'a': 2, 'b': 1}"),
        (lambda p: grid.product([*grid.grid("a=1"), grid.zipped("a=2")]), "config.a is set by two"),
        (lambda p: grid.from_file(p), "is no Python file"),
        (lambda p: grid.from_file(_file(p, "x = 1")), "has no function get_arms"),
        (lambda p: grid.from_file(_file(p, "def get_arms(v):\n  return [1]")), "must return"),
    ],
)
def test_mistakes_are_named(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        make(str(tmp_path))


def _file(folder: str, text: str) -> str:
    path = f"{folder}/arms.py"
    with open(path, "w") as out:
        out.write(text)
    return path
