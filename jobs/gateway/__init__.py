"""The host-facing half of the coordinator: exchange, uploads, downloads, receipts. Plain async views over short database functions."""
