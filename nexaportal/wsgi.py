"""The WSGI application, for a split of short requests from long ones behind one proxy."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("NEXA_ROLE", "server")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexaportal.settings")
application = get_wsgi_application()
