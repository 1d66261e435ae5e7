"""The results browser: what a concluded job's owner sees of its canonical result, file by file.

1. Who: the job's owner; when: once the job is concluded and the canonical replica's result may be shown (`selectors`, by
   jobs/evidence/disclosure.py).
2. Strangers wrote the bytes, and they are read in the web process. `archive_index` finds a file by jumping from header to header, and
   gives at most as many bytes as were asked for; nothing is unpacked to disk. Each viewer has a limit of bytes, of rows, nodes or atoms.
3. `kinds` says which ways there are to look at a file; `texts`, `tables`, `plots`, `trees`, `structures` with `drawings`, `arrays` and
   `images` are these ways. Pure: bytes in, what a template shows out; whatever the bytes are, the only error is VerificationError.
4. Markup is never served as what it is: it is shown as text and downloaded (`downloads`). Images are served after a look at their
   first bytes. Templates escape all that comes from a file, names of files and columns among it.
"""
