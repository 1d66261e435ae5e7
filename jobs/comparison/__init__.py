"""Do two results agree? Pure: bytes in, a comparison with the worst deviation out. Strangers wrote the bytes.

1. `results` compares two sets of output files by a descriptor's rules; `comparators` has, for each format, the function that compares two
   versions of one file into a `report.Tally`. A new format is a file with such a function and a line there.
2. Readers (`delimited`, `text_tables`, `npy`, `npz`, `pdb`, `mmcif`) turn bytes into tables, arrays and structures; `tables`, `trees`,
   `arrays` and `structures` compare these; `scalars` says when two numbers agree.
3. Every comparison is symmetric: the replicas' order changes neither the verdict nor the largest difference. It is reflexive: a file agrees
   with itself, unless it holds NaN where the rules refuse it.
4. Whatever the bytes are, the only error is FileUnreadableError. Time and memory are bounded by the size of the two files.

Imports no framework: a child process in a sandbox runs this.
"""

from jobs.comparison.reading import FILE_BYTES_MAX, FileUnreadableError
from jobs.comparison.results import results_compare, rules_of

__all__ = ["FILE_BYTES_MAX", "FileUnreadableError", "results_compare", "rules_of"]
