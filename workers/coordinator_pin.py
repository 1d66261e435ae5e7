"""The coordinator's key as this node believes it: pinned when it joined, and moved along a signed succession when an order shows a new key.

Orders are believed under the pinned key alone. One that names another key makes the node ask the portal for the keys that it had
(workers/protocol/succession.py). If these lead from the pinned key to the order's, the node pins the order's key, in `node.json`; else the
order is dropped, as before. A key that was pinned before opens nothing new: only orders that the journal holds already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from workers.home import NodeHome, NodeIdentity
from workers.orders import OpenedOrder, order_open
from workers.portal import PortalClient
from workers.protocol.dsse import envelope_encode, envelope_key_id
from workers.protocol.errors import KeyWrongError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.succession import keys_of

log = logging.getLogger(__name__)


class CoordinatorPin:
    """Shared by the threads of a worker, which holds the home's lock: it alone writes `node.json`."""

    def __init__(self, home: NodeHome, identity: NodeIdentity) -> None:
        self._home = home
        self._origin = identity.portal
        self._lock = threading.Lock()
        self._key = PublicKey.from_base64(identity.coordinator_key)
        self._predecessors = tuple(PublicKey.from_base64(one) for one in identity.coordinator_predecessors)

    @property
    def key(self) -> PublicKey:
        """The pinned key."""
        with self._lock:
            return self._key

    def order_open(self, envelope: Mapping[str, Any], *, portal: PortalClient) -> OpenedOrder:
        """The order in `envelope`, which has just come from the portal.

        Raises VerificationError; PortalError if it names a new key and the portal can't be asked for the way there; OSError if a new pin
        can't be kept.
        """
        try:
            return order_open(envelope, coordinator=self.key)
        except KeyWrongError:
            if not self._follow(envelope, portal):
                raise
        return order_open(envelope, coordinator=self.key)

    def order_reopen(self, envelope: bytes) -> OpenedOrder:
        """The order in `envelope`, which the journal has held since it was opened. Raises VerificationError."""
        with self._lock:
            known = {key.key_id: key for key in (*self._predecessors, self._key)}
        return order_open(envelope, coordinator=known.get(envelope_key_id(envelope), self.key))

    def _follow(self, envelope: Mapping[str, Any], portal: PortalClient) -> bool:
        """Whether the key that the envelope names is now the pinned one."""
        try:
            wanted = envelope_key_id(envelope_encode(envelope))
            info = portal.coordinator()
            keys = keys_of(info.predecessors, present=PublicKey.from_base64(info.public_key), origin=self._origin)
        except VerificationError as error:
            log.error("an order names another coordinator key than the pinned one, and the portal's keys can't be had: %s", error)  # noqa: TRY400
            return False
        with self._lock:
            if self._key not in keys or keys[-1].key_id != wanted:
                log.error("an order names the coordinator key %s, and no succession leads there from the pinned one", wanted)
                return False
            self._pin(keys[keys.index(self._key) :])
        log.warning("the coordinator has a new key, %s, which its old one has named: pinned", wanted)
        return True

    def _pin(self, way: tuple[PublicKey, ...]) -> None:
        """`way`: from the pinned key to the one that is to be pinned."""
        predecessors = (*self._predecessors, *way[:-1])
        update = {
            "coordinator_key": way[-1].to_base64(),
            "coordinator_predecessors": tuple(key.to_base64() for key in predecessors),
        }
        self._home.identity_write(self._home.identity().model_copy(update=update))
        self._key, self._predecessors = way[-1], predecessors
