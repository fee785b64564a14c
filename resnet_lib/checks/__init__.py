"""Instant checks for the exercises: what was expected, what came, the likely misconception, where to look again.

One module a topic, one function an exercise, named after it. Each takes the reader's answer (a number, a set, or a
function that the reader wrote), prints its verdict and returns nothing. An exercise that is still `...` gets a
friendly "not yet".
"""
