"""Where every parameter lives: path -> logical axes -> mesh axes, one table each.

decoder/blocks/mlp/up/kernel   (L, D, F)   ->   (None, embed, mlp)   ->   (None, fsdp, tensor)
"""

import difflib

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qwenvl_jax import trees

# Which mesh axis splits a logical axis. Two logical axes of one parameter must not share a mesh
# axis.
MESH_AXES = {"embed": "fsdp", "heads": "tensor", "mlp": "tensor", "vocab": "tensor", None: None}

NORM = r"(ln_\w+)/(scale|bias)"
PARAMETER_AXES = (
    (r"vit/patch/kernel", (None, None, None, "embed")),
    (r"vit/positions", (None, "embed")),
    (rf"(vit|adapter|decoder)/{NORM}", (None,)),
    (rf"(vit|decoder)/blocks/{NORM}", (None, None)),
    (r"(vit|decoder)/blocks/attn/qkv/kernel", (None, "embed", None, "heads", None)),
    (r"(vit|decoder)/blocks/attn/qkv/bias", (None, None, "heads", None)),
    (r"(vit|decoder)/blocks/attn/out/kernel", (None, "heads", None, "embed")),
    (r"(vit|decoder)/blocks/mlp/(gate|up)/kernel", (None, "embed", "mlp")),
    (r"vit/blocks/mlp/up/bias", (None, "mlp")),
    (r"(vit|decoder)/blocks/mlp/down/kernel", (None, "mlp", "embed")),
    (r"vit/blocks/(attn/out|mlp/down)/bias", (None, None)),
    (r"adapter/query", (None, "embed")),
    (r"adapter/(kv_proj|proj)/kernel", (None, "embed")),
    (r"adapter/attn/(q|k|v)/kernel", ("embed", "heads", None)),
    (r"adapter/attn/(q|k|v)/bias", ("heads", None)),
    (r"adapter/attn/out/kernel", ("heads", None, "embed")),
    (r"adapter/attn/out/bias", (None,)),
    (r"decoder/embedding", (None, "embed")),
    (r"decoder/head/kernel", ("embed", "vocab")),
)


def spec_of(path: str, mesh_axes=None) -> PartitionSpec:
    """The PartitionSpec of the parameter at `path`.

    Raises:
      ValueError: not exactly one rule matches, or two of its dims would be split by one mesh axis.
    """
    axes = trees.match_one(path, PARAMETER_AXES, what="sharding rules")
    table = MESH_AXES if mesh_axes is None else mesh_axes
    names = [table[axis] for axis in axes]
    used = [name for name in names if name is not None]
    if len(set(used)) != len(used):
        raise ValueError(f"sharding rules: {path!r} {axes} would use a mesh axis twice: {names}")
    return PartitionSpec(*names)


def parameter_shardings(mesh: Mesh, shapes: trees.Tree) -> trees.Tree:
    """NamedShardings for a tree of parameters (arrays or ShapeDtypeStructs).

    Raises:
      ValueError: a dim does not divide by its mesh axis; names path, dim, axis and the nearest axis
      sizes that work.
    """

    def place(path: str, leaf) -> NamedSharding:
        spec = spec_of(path)
        assert len(spec) == len(leaf.shape), (path, spec, leaf.shape)
        for dim, axis in enumerate(spec):
            if axis is not None and leaf.shape[dim] % mesh.shape[axis]:
                size = leaf.shape[dim]
                fits = [n for n in range(1, size + 1) if size % n == 0]
                near = sorted(fits, key=lambda n: abs(n - mesh.shape[axis]))[:3]
                raise ValueError(
                    f"config.mesh.{axis}={mesh.shape[axis]} does not divide dim {dim} (size {size})"
                    f" of {path} {tuple(leaf.shape)}; nearest sizes that do: {sorted(near)}"
                )
        return NamedSharding(mesh, spec)

    return trees.map_with_path(place, shapes)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch are split over data and fsdp together."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def unmatched_hint(pattern: str, paths: list[str]) -> str:
    """For an error about a path pattern that matches nothing: the paths that look most like it."""
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
    return f"; parameters are called for example {', '.join(near)}"


def shape_tree(tree: trees.Tree) -> trees.Tree:
    """Arrays -> ShapeDtypeStructs."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
