"""The checks of verification: strangers' bytes are read in a child process that can do nothing else, and become evidence rows.

    claims     the dispatcher's half: which jobs are checked now, in which batches and slices, for how long they are claimed
    making     a header's work: documents out of the database, through a child, into evidence
    reading    rows -> documents, a few queries for many jobs           evidence   findings -> rows, one statement for many
    children   the verify worker's side of its children                 pieces     what is left to do of a job when a child has died
    child      the child: a server that forks one for each slice        confinement   what it gives up first
    wire       what the two say to each other
    checks     the four checks of one replica      pairs   the comparison of two      codes   what failed checks are called, whose fault

`child`, `checks`, `pairs` and what they import know neither Django nor a database.
"""
