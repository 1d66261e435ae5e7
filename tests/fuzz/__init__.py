"""Fuzzing of every parser that reads strangers' bytes: `python -m tests.fuzz --minutes N`, or `make fuzz ARGS="--minutes 60"`.

`targets` lists the parsers with valid seeds and the errors that each declares; `mutation` changes bytes; `campaign` runs, counts and keeps
what went wrong.
"""
