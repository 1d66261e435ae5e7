"""Do two results agree? Pure: bytes in, a comparison with the worst deviation out. Strangers wrote the bytes.

`results.results_compare` takes two sets of output files and the descriptor's rules; `numeric` reads tables and JSON trees; `tolerance` is
the rule for two numbers. Everything here is symmetric (the replicas' order does not matter) and reflexive (a file agrees with itself).
"""

from jobs.comparison.numeric import FILE_BYTES_MAX, FileUnreadableError
from jobs.comparison.results import results_compare, rules_of

__all__ = ["FILE_BYTES_MAX", "FileUnreadableError", "results_compare", "rules_of"]
