"""Paths and partitions: sharding, freezing and checkpoints all name leaves through these."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl_jax import trees


class Pair(NamedTuple):
    mu: dict
    nu: list


KEYS = st.text("abcdef_0123", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers(), lambda child: st.dictionaries(KEYS, child, min_size=1, max_size=3), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


def leaves_by_hand(tree, path=()):
    """{path tuple: leaf} by plain recursion: shares no line with the code under test."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves_by_hand(value, (*path, key))
        else:
            yield "/".join((*path, key)), value


@given(TREES)
def test_flatten_names_every_leaf(tree):
    """A leaf without a path would escape sharding rules, decay masks and freezing."""
    assert trees.flatten(tree) == dict(leaves_by_hand(tree))
    assert trees.unflatten(trees.flatten(tree)) == tree


@given(TREES, st.sets(KEYS))
def test_partition_loses_nothing_and_merge_undoes_it(tree, wanted):
    """A leaf in neither part would not be trained, saved or restored; in both, it would be kept
    twice.
    """
    kept, rest = trees.partition(tree, lambda path: path.split("/")[0] in wanted)
    assert set(kept) == set(tree) & wanted
    assert set(rest) == set(tree) - wanted
    assert trees.merge(kept, rest) == trees.merge(rest, kept) == tree


def test_merge_refuses_two_leaves_of_one_path():
    """Quietly taking one would mix weights of two checkpoints."""
    with pytest.raises(ValueError, match="'kernel'"):
        trees.merge({"a": {"kernel": 1}}, {"a": {"kernel": 2}})


def test_path_strings_of_sequences_and_named_tuples():
    """Optimiser states nest these; their moments are found by path."""
    state = (({"w": 1},), Pair(mu={"w": 2}, nu=[3]))
    assert trees.flatten(state) == {"0/0/w": 1, "1/mu/w": 2, "1/nu/0": 3}


def test_map_with_path_passes_the_path_and_every_tree():
    got = trees.map_with_path(lambda path, x, y: (path, x + y), {"a": {"b": 1}}, {"a": {"b": 2}})
    assert got == {"a": {"b": ("a/b", 3)}}


def test_match_one_wants_exactly_one_rule_on_the_whole_path():
    """A forgotten parameter, or one that two rules claim, must not get a silent default."""
    rules = [(r"vit/.*", 1), (r"decoder/.*", 2), (r".*/bias", 3)]
    assert trees.match_one("vit/kernel", rules, what="rules") == 1
    with pytest.raises(ValueError, match="no rule for parameter 'x/vit/kernel'"):
        trees.match_one("x/vit/kernel", rules, what="rules")
    with pytest.raises(ValueError, match="2 rules .*'vit/bias'"):
        trees.match_one("vit/bias", rules, what="rules")


def test_shape_errors_list_every_difference():
    """Whoever loads a wrong checkpoint should see all that is wrong in one go."""
    want = {"a": np.zeros((2, 3)), "b": np.zeros(4), "c": np.zeros(1)}
    got = {"a": np.zeros((3, 2)), "c": np.zeros(1), "d": np.zeros(5)}
    with pytest.raises(ValueError) as error:
        trees.check_same_shapes(want, got, what="checkpoint x")
    message = str(error.value)
    for part in ("checkpoint x: 3", "missing    b (4,)", "unexpected d (5,)", "mis-shaped a"):
        assert part in message
    trees.check_same_shapes(want, {k: np.ones_like(v) for k, v in want.items()}, what="same")
