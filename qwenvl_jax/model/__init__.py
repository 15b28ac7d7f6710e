"""Qwen-VL in Flax. Shape letters, as suffixes of array names:

B batch rows    T, S text positions (queries, keys)    M images    P patches    Q queries of the
adapter
N heads         H head width    D width    F MLP width    V vocabulary    L layers    R image side
in pixels    C colour
"""
