"""Draw every picture of the embedded corpus from formulas and coordinates.

`python -m tools.draw_corpus` writes the pictures, `--check` compares them with the committed
ones. One module per field of science holds pure functions `draw_xxx() -> bytes` and a table
`PICTURES` of file names. The same library versions give the same bytes.
"""
