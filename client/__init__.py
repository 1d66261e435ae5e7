"""At the researcher's desk: the `nexa` command, a small portal client, and the offline verifier. Knows no server framework."""
