"""Disputes as a moderator meets them: the page of the admin, and all that there is to rule on."""
