"""What a stage needs on TPUs or GPUs, without any.

    python launch/compile.py --config=configs/stage1.py --topology=v5e:16x16 --config.mesh.fsdp=128

compiles the very step that `launch/run.py` runs and prints memory a chip by kind, matmul FLOPs,
collectives, a roofline of the step and the price of the stage; `--out=DIR` gets the same as
`plan.json`, `plan.txt` and `plan.png`. The exit status is 0 where it fits within 90 % of the chip's
memory, 1 where it does not, 2 for a mistake in the config. Needs the chips' compiler (`pip install
'.[tpu]'` or `'.[cuda-compiler]'`), no chip, no data and no vocabulary.
"""

import dataclasses
import gzip
import json
import math
import os
import sys
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch.plan.chips import Topology, get_topology


def plan(
    config: ConfigDict,
    topology: Topology,
    *,
    sample_tokens: int,
    labelled_tokens: int,
    out: Path | None = None,
):
    """Compile a stage's step for a topology; see `launch.plan.report.Plan`.

    Args:
      sample_tokens, labelled_tokens: of a mean sample, for the ideal count.
      out: a folder that gets the compiled program as text.

    Raises:
      ValueError: the config's sizes do not fit each other or the mesh; names the keys.
      MemoryError: the compiler gave up; says what needs the memory.
    """
    import jax

    from launch import stage
    from launch.plan import collectives, hlo, matmuls, memory, report, traffic
    from launch.plan.analytic import hardware_flops, kernel_on
    from launch.plan.serial import serial
    from qwenvl_jax.model import windows
    from qwenvl_jax.parallel import mesh as mesh_lib
    from qwenvl_jax.parallel import rules
    from qwenvl_jax.train import flops, program

    training, stream, _ = stage.read(config)
    shapes = stream.batch_shapes()
    mesh = mesh_lib.make_mesh(training.mesh, topology.devices)
    state_shapes, shardings = program.layout(training, mesh)
    known = memory.known_bytes(state_shapes, shardings, shapes, rules.batch_sharding(mesh))
    try:
        prepared = program.prepare(
            training,
            shapes,
            num_sources=len(stream.sources),
            group_slots=stream.group_slots,
            devices=topology.devices,
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        table = "\n".join(f"  {kind:<18} {n / 2**30:7.2f} GiB" for kind, n in known.items())
        raise MemoryError(f"{str(error).splitlines()[0]}\na chip holds:\n{table}") from None
    # The only branch of a step is that of windowed and global layers, the only loop without a
    # constant limit that over the chunks of a microbatch's labelled positions.
    sees_all = windows.global_layers(training.model.vit)
    taken = None if sees_all is None else float(sees_all.mean())
    sizes = dict(mesh.shape)
    rows, images = stream.global_rows, stream.batch_slots
    labelled = rows * stream.seq_len / sample_tokens * labelled_tokens
    parts = sizes["data"] * sizes["fsdp"] * training.optim.accumulation
    rounds = math.ceil(labelled / parts / training.loss_chunk)
    text = prepared.train_step.as_text()
    if out:
        (out / "program.hlo.gz").write_bytes(gzip.compress(text.encode()))
    compiled = hlo.parse(text, taken=taken, rounds=rounds)
    towers = {path.split("/")[0] for path in training_paths(prepared)}
    return report.make_plan(
        topology,
        mesh=sizes,
        remat=training.model.remat,
        accumulation=training.optim.accumulation,
        memory=memory.by_kind(prepared, known, compiled),
        hardware=matmuls.flops(compiled),
        analytic=hardware_flops(
            training.model,
            towers,
            rows=rows,
            length=stream.seq_len,
            images=images,
            head_positions=rounds * training.loss_chunk * parts,
            kernel=kernel_on(topology.platform),
        ),
        ideal=flops.ideal_step_flops(
            training.model,
            towers,
            images=images,
            tokens=rows * stream.seq_len,
            labelled=labelled,
            context=sample_tokens / 2,
        ),
        traffic=traffic.memory_bytes(compiled),
        found=collectives.find(compiled, sizes),
        serial=serial(compiled, topology, sizes) if topology.platform == "gpu" else None,
        images=images,
        steps=training.optim.steps,
    )


def find(config: ConfigDict, topology: Topology, arguments: list[str], out: Path, **about: int):
    """The best of meshes, microbatches and remat policies; see `launch.plan.search`.

    Args:
      arguments: of this program, but for what is searched.
      about: `sample_tokens`, `labelled_tokens`, `at_most`.

    Returns:
      (what was compiled, best first; how many candidates there were).
    """
    import jax

    from launch import stage
    from launch.plan import estimate, runs, search
    from launch.plan.analytic import kernel_on
    from qwenvl_jax.model import qwenvl

    training, stream, _ = stage.read(config)
    samples = stream.global_rows * stream.seq_len / about["sample_tokens"]
    sizes = estimate.Batch(
        rows=stream.global_rows,
        length=stream.seq_len,
        images=stream.batch_slots,
        unit=stream.group_rows,
        turns=stream.slot_turns,
        labelled=samples * about["labelled_tokens"],
    )
    given = dict(config=training, batch=sizes)
    given["shapes"] = jax.eval_shape(lambda r: qwenvl.init(training.model, r), jax.random.key(0))
    given["slices"] = topology.slices
    known = estimate.candidates(chips=len(topology.devices), **given)
    within = tuple(
        range(len(topology.devices) // topology.slices)
    )  # what `fsdp` and `tensor` may go over
    given["chip"] = topology.chip._replace(link_rate=topology.rate(within))
    given["kernel"] = kernel_on(topology.platform)
    guesses = {c: estimate.estimate(c, **given) for c in known}

    def compile_one(candidate: estimate.Candidate):
        overrides = [f"--config.{key}={value}" for key, value in candidate.overrides.items()]
        return runs.compiled([*arguments, *overrides], out / candidate.name)

    limit, at_most = topology.chip.hbm, about["at_most"]
    return search.search(guesses, compile_one, limit=limit, at_most=at_most), len(known)


def training_paths(prepared) -> list[str]:
    """Paths of the trainable parameters."""
    from qwenvl_jax import trees

    return list(trees.flatten(prepared.shapes[0].params))


def main(_) -> None:
    values = flags.FLAGS
    from launch import logs
    from launch.plan import report, search
    from qwenvl_jax import command_line

    logs.start()
    about = dict(sample_tokens=values.sample_tokens, labelled_tokens=values.labelled_tokens)
    out = Path(values.out) if values.out else None
    if out:
        command_line.writable(out, "--out")
    topology = get_topology(values.topology, slices=values.slices)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    if values.search:
        if not out:
            raise ValueError("--search keeps what it compiled: name a folder with --out")
        mine = ("--search", "--out", "--at_most")
        arguments = [a for a in sys.argv[1:] if not a.startswith(mine)]
        found, considered = find(
            values.config, topology, arguments, out, at_most=values.at_most, **about
        )
        search.write(found, out)
        print(search.text(found, considered=considered))
        sys.exit(0 if found and found[0].fits else 1)
    logging.info("compiling for %d chips; this takes minutes", len(topology.devices))
    made = plan(values.config, topology, out=out, **about)
    print(report.text(made))
    if out:
        (out / "plan.json").write_text(json.dumps(dataclasses.asdict(made), indent=1))
        (out / "plan.txt").write_text(report.text(made) + "\n")
        report.draw(made, out / "plan.png")
    sys.exit(0 if made.fits else 1)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"  # the topology's devices are there to compile for only
    from launch import pages
    from qwenvl_jax import command_line

    pages.define_flag()
    flags.DEFINE_string("topology", None, "CHIP:SHAPE, as v5e:16x16 or h100:4x8.")
    positive = dict(lower_bound=1)
    flags.DEFINE_integer("slices", 1, "So many, joined by their hosts' network.", **positive)
    flags.DEFINE_string("out", "", "Folder for plan.json, plan.txt and plan.png.")
    flags.DEFINE_integer("sample_tokens", 298, "Of a mean sample; stage 1: 298.", **positive)
    flags.DEFINE_integer("labelled_tokens", 32, "Of these, those with a loss.", **positive)
    flags.DEFINE_bool("search", False, "Try meshes, microbatches and remat policies instead.")
    flags.DEFINE_integer("at_most", 6, "So many of them are compiled.", **positive)
    command_line.start(main, required=["config", "topology"])
