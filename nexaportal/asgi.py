"""The ASGI application: HTTP by Django, WebSockets by Channels."""

import os

os.environ.setdefault("NEXA_ROLE", "server")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexaportal.settings")

import django

django.setup(set_prefix=False)

from channels.auth import AuthMiddlewareStack  # noqa: E402  needs the apps that the line above has loaded
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from jobs.consumers import websocket_urlpatterns  # noqa: E402
from jobs.gateway.liveness import liveness_start  # noqa: E402
from nexaportal import urls  # noqa: E402, F401  all views, for which the first request would wait otherwise
from nexaportal.collecting import loaded_keep  # noqa: E402
from nexaportal.handling import PortalHandler  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": PortalHandler(),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),  # type: ignore[arg-type]  # the stubs want wrapped patterns
    }
)

liveness_start()
loaded_keep()
