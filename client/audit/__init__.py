"""The auditor: a ledger's log, downloaded and judged from outside. Begin with auditing.py; knows no database of the portal's."""
