"""What moderators do: the acts, the trail that keeps them, and the pages on which they are done."""
