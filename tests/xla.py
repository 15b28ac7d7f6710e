"""How XLA compiles for the tests."""


def xla_flags(devices: int) -> str:
    """Of a process with so many CPU devices.

    Each test compiles programs that it runs once: LLVM's optimisations took half of the suite's
    time.
    """
    return f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
