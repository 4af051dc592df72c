"""Networks and training settings from nntrainer's INI files: text -> sections -> layers -> torch.

Read in this order: text (lines), keys (kinds of values), tables (every key), recipe (how it
trains), graph (which layer reads which), layers (what each computes), network (the module),
weights (nntrainer's .bin files).
"""
