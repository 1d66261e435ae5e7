"""The portal's web process, as `tests.faults.server_app.asgi:application`: as it is, and mortal at named moments."""

from nexaportal.asgi import application

__all__ = ["application"]
