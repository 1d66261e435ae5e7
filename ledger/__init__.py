"""Ledger: who is owed. Accounts, balanced entries, the Merkle log over them and its signed checkpoints."""
