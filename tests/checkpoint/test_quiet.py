"""A log ends with what the run says, not with the insides of a library."""

import orbax.checkpoint as ocp

import qwenvl_jax.checkpoint  # noqa: F401  what is tested is its filter


def test_orbax_does_not_print_its_objects(tmp_path, caplog):
    """Closing a manager dumps its metadata store at INFO, other lines stay."""
    caplog.set_level("INFO", logger="absl")
    ocp.CheckpointManager(tmp_path / "steps").close()
    assert caplog.records
    assert "_write_futures" not in caplog.text
