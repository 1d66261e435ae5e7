"""The messages between a host and the coordinator, as both sides read and write them; a file for each family.

Every message is a frozen pydantic model that refuses unknown fields; docs/PROTOCOL.md shows each with an example. Times are aware UTC
datetimes (RFC 3339 in JSON), sizes are bytes, digests are ``sha256:`` and 64 hex digits, keys are base64 of 32 raw bytes (Ed25519).
Nothing here does I/O and nothing here trusts its sender: a model that validates is well-formed, not true.
"""
