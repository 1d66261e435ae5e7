"""Pages of jobs. What is another's is answered like what isn't there, as in the API."""
