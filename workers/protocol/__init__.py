"""What host, server and auditor must agree on to the byte: messages, digests, signatures, envelopes and proofs.

Pure code: no I/O, no framework, no clock (times are passed in). Whatever arrives from outside is untrusted until a
function of this package has returned it, and the only thing that such a function raises for bad bytes is a
`VerificationError` (see `errors.py`), each kind with a stable code.

    errors            the tree of errors and their codes
    strict_base64     base64 with exactly one spelling for each value
    digests           SHA-256 digests as written in messages, and Content-Digest (RFC 9530)
    canonical         canonical JSON (RFC 8785) out, careful JSON in
    keys              Ed25519 keys and their ids
    dsse              signed envelopes around orders and receipts
    statements        in-toto statements, the payload of receipts
    http_signatures   signed requests (RFC 9421)
    merkle            the ledger's tree, its proofs and their verifiers (RFC 9162)
    signed_note       signed checkpoints of that tree (C2SP signed-note, tlog-checkpoint)
    messages          the wire messages themselves
"""
