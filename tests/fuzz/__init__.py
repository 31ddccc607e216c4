"""Fuzzing of every reader of foreign text: no traceback, at most two seconds, at most 200 MB.

``python -m tests.fuzz --minutes 60`` searches; ``--door NAME`` looks at one reader; ``--seed N`` repeats a search.
A failing input is written to the folder that ``--keep`` names.
"""
