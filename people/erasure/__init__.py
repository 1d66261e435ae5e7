"""Erasing a person: what is personal goes, the row stays as nobody's (docs/adr/0035-erasing-a-person.md)."""
