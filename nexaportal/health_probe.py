"""`python -S -m nexaportal.health_probe`: status 0 if the web process of this container answers.

Standard library only, so that it is quick.
"""

from __future__ import annotations

import http.client
import os
import sys
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 3.0


def is_alive(port: int, hostname: str) -> bool:
    """Whether `GET /healthz` on the loopback interface, for a portal of this name, is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Host": hostname})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_alive(8000, urlsplit(os.environ["NEXA_ORIGIN"]).hostname or "localhost") else 1)
