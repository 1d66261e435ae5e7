"""The app of people: accounts, API tokens, who may submit."""

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "people"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from people import openapi  # noqa: F401, PLC0415  once the apps are there: registers how the bearer token is documented
