"""NVIDIA GPUs that are not there, by XLA's compiler for CUDA; it needs no CUDA library."""

import os
from typing import Any

NAMES = {"h100": "NVIDIA H100 80GB HBM3", "h200": "NVIDIA H200 141GB HBM3e"}
_CUDNN = (9, 12, 0)  # the least that JAX's wheels ask for


def devices(name: str, hosts: int, per_host: int, *, memory: int, rate: float) -> list[Any]:
    """Those of `h100:4x8`; needs the compiler (the extra `cuda`, or `cuda-compiler` alone).

    Args:
      memory, rate: of a GPU, bytes and bytes a second.

    Raises:
      ValueError: no GPU at all, or the compiler is not installed.
    """
    if not hosts * per_host:
        raise ValueError(f"--topology={name}: no GPU; at least h100:1")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # that no driver was found
    # Its tiles are chosen by trying them out on a GPU; cuBLAS, which needs none, is what large
    # products mostly end with there.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_enable_triton_gemm=false"
    from jax.experimental import topologies  # reads the environment

    try:
        found = topologies.get_topology_desc(
            platform="cuda",
            topology=f"1x{hosts}x{per_host}",
            target_config=_description(name.partition(":")[0], memory, rate),
        )
    except NotImplementedError as error:
        raise ValueError(
            f"--topology={name}: XLA's compiler for CUDA is not installed"
            " (the extra cuda-compiler has it, 130 MB)"
        ) from error
    _answer_for_cudnn()
    return list(found.devices)


def _description(family: str, memory: int, rate: float) -> str:
    """Hopper, as XLA's `GpuTargetConfigProto` wants it (compute capability 9.0)."""
    major, minor, patch = _CUDNN
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(rate)}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: {major} minor: {minor} patch: {patch} }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{NAMES[family]}"
"""


def _answer_for_cudnn() -> None:
    """JAX asks the machine that it runs on for its cuDNN and GPU, before it lowers attention."""
    from jax._src.cudnn import fused_attention_stablehlo as library

    major, minor, patch = _CUDNN
    library.check_cudnn_version = lambda: major * 10_000 + minor * 100 + patch
    library.check_compute_capability = lambda least: float(least) <= 9.0
    library.is_cuda_compute_capability_equal = lambda asked: float(asked) == 9.0
