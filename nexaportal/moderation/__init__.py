"""The admin as moderators have it: one site, and the desk that it opens with."""
