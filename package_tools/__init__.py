"""A model and a dataset to a folder that trains on a device where nothing is installed.

Read in this order: `target`, `interpreter` (its two sources: `distribution`, `archive`), `wheels`,
`libraries`, `trim`, `runtime` (all of these make one `lib` folder), `runtime_cache`, `sums`,
`package`.
"""
