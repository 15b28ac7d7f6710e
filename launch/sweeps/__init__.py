"""Sweeps: arms of a stage, run over seeds, compared fairly.

grid (text -> arms) -> plan (arms x seeds -> checked configs) -> runner (processes, progress) ->
curves, costs (what the runs wrote) -> compare (intervals, which arms differ) -> figures, page.
"""
