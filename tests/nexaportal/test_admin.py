"""The admin as a whole: what its pages are called."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from tests.factories.people import user_make

pytestmark = pytest.mark.django_db


def test_index_names_every_table_as_people_do_and_every_table_opens(client: Client) -> None:
    client.force_login(user_make(is_staff=True, is_superuser=True))
    index = client.get(reverse("admin:index")).content.decode()
    for model in admin.site._registry:
        options = model._meta
        path = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
        assert f'href="{path}"' in index
        assert client.get(path).status_code == 200
    assert ">Entries</a>" in index
    assert ">API tokens</a>" in index
    assert "Entrys" not in index
