"""Jobs: what is computed. Descriptors, submission, matching, the gateway to hosts, verification, results."""
