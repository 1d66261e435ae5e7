"""A developer's look at the portal, with the scene of scene.py in it.

python -m tests.browser look                                       serves it till Ctrl-C and prints who may sign in
python -m tests.browser shoot [PATH...] [--as NAME] [--out FOLDER]  saves pages, light and dark, narrow and wide (`make screenshots`: all)
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.browser.pages import PAGES, PageShown
from tests.services import services_start


class _Unblocked:
    """Stands where pytest-django's blocker stands in tests: here nothing is blocked."""

    def unblock(self) -> Any:
        return contextlib.nullcontext()


@contextlib.contextmanager
def scene_serving() -> Iterator[tuple[Any, Any]]:
    """The running portal and its scene, on services of its own that end with the block."""
    with services_start() as (_, folder):
        import django  # noqa: PLC0415  its settings are read from what services_start put into the environment

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        from tests.browser.scene import scene_make  # noqa: PLC0415
        from tests.client.live_portal import LivePortal  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        call_command("database_roles", verbosity=0)
        portal = LivePortal(_Unblocked())
        try:
            portal.start(folder / "uvicorn.log")
            with portal.database():
                scene = scene_make()
            yield portal, scene
        finally:
            portal.stop()


def look() -> None:
    with scene_serving() as (portal, scene):
        from tests.browser.scene import PASSWORD  # noqa: PLC0415  after django.setup
        from tests.factories.people import SECOND_FACTOR_SECRET  # noqa: PLC0415

        print(f"{portal.origin}   {', '.join(user.username for user in scene.people)}   password {PASSWORD}", flush=True)
        print(f"{scene.moderator.username}'s authenticator app has the secret {SECOND_FACTOR_SECRET}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


def shoot(shown: Sequence[PageShown], *, out: Path) -> None:
    """Saves each page in light and dark at each width; says what is wider than the screen, and what the console said."""
    out.mkdir(parents=True, exist_ok=True)
    with scene_serving() as (portal, scene), contextlib.ExitStack() as stack:
        from tests.browser.looking import SCHEMES, WIDTHS, Complaints, browser_open, context_open, page_load, session_cookie  # noqa: PLC0415  after django.setup

        browser = stack.enter_context(browser_open())
        for one in shown:
            cookie = ""
            if one.name:
                with portal.database():
                    cookie = session_cookie(scene.person(one.name))
            for width, scheme in itertools.product(WIDTHS, SCHEMES):
                context = context_open(browser, portal.origin, cookie=cookie, width=width, scheme=scheme)
                page = context.new_page()
                complaints = Complaints(page)
                page_load(page, scene.path(one.path), complaints)
                name = re.sub(r"[^a-z0-9]+", "-", f"{one.path} {one.name}".lower()).strip("-") or "home"
                file = out / f"{name}-{width}-{scheme}.png"
                page.screenshot(path=file, full_page=True)
                over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                print(file, *([f"wider than the screen by {over} px"] if over > 0 else []), *complaints.found, sep="\n  ", flush=True)
                context.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("look")
    shooting = commands.add_parser("shoot")
    shooting.add_argument("paths", nargs="*", help="as in pages.py, with {completed}, {node} and so on; all pages if none is given")
    shooting.add_argument("--as", dest="name", default="", help="who is signed in; nobody if not given")
    shooting.add_argument("--out", type=Path, default=Path("var/screenshots"))
    asked = parser.parse_args()
    if asked.command == "look":
        look()
    else:
        shoot([PageShown(path, asked.name) for path in asked.paths] or PAGES, out=asked.out)


if __name__ == "__main__":
    main()
