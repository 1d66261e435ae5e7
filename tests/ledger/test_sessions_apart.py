"""What one session of the database can do to what another has not committed."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection, transaction

from ledger.services import treasury_account
from tests.factories.ledger import account_make


def test_nobody_adds_to_an_entry_that_is_not_committed(own_database: str) -> None:
    """Else its item, which was checked before, would not say what the entry is."""
    accounts = [treasury_account().pk, account_make().pk]
    parameters = connection.get_connection_params()
    named = {name: parameters[name] for name in ("dbname", "host", "port", "user")}
    with transaction.atomic(), connection.cursor() as cursor, psycopg.connect(**named) as other:
        cursor.execute(
            "INSERT INTO ledger_entry (item_id, kind, idempotency_key, evidence, created_at)"
            " VALUES (nextval('ledger_logitem_id_seq'), 'grant', 'k', '{}', now()) RETURNING item_id"
        )
        (number,) = cursor.fetchone()
        add = "INSERT INTO ledger_posting (entry_id, account_id, amount_micro) VALUES (%s, %s, -1), (%s, %s, 1)"
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="an entry comes before its postings"):
            other.execute(add, [number, accounts[0], number, accounts[1]])
        transaction.set_rollback(True)
