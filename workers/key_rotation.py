"""Another key for this node, made here, confirmed by the portal; and another storage for the key that it has.

Rotation, in an order in which any step may be the last before a power cut:

1. The new key is stored beside the old one. It is the one of an earlier try, if there was one.
2. The portal is asked, with a request that the old key signs and a proof that the new one does. The same again gives the same answer.
3. `node.json` names the new key, and where the home now is. From here on it is the node's: `NodeHome.key` finishes what is left.
4. The new key takes the old one's place.

Reports that are signed already are handed in under the new key. What has no receipt yet could only be signed by the old key: such leases
are reported first, by a worker, or given up.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from workers.home import NodeHome, NodeIdentity
from workers.home_errors import HomeError, KeyAbsentError, KeyStorageUnavailableError
from workers.home_place import place_of
from workers.journal import Fact, Journal
from workers.keystore.choice import KeyStorageChoice, storage_open
from workers.keystore.interface import KeyPlace, KeyStorage, KeyStorageKind
from workers.portal import PortalClient, PortalProtocolError
from workers.protocol.key_rotation import KeyRotation, rotation_prove
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.joining import KeyRotationRequest
from workers.protocol.plurals import counted


class LeasesUnreportedError(HomeError):
    """Leases have no receipt yet, and only the old key could sign one."""


def key_rotate(home: NodeHome, journal: Journal, *, give_up: bool = False) -> PrivateKey:
    """The node's new key. The caller holds the home's lock. `give_up`: leases without a receipt are dropped; they run out at the portal.

    Raises HomeError, JournalError, PortalError. After any of them, calling again goes on.
    """
    identity, storage = home.identity(), home.key_storage()
    if storage.kind is KeyStorageKind.SYSTEMD:
        raise KeyStorageUnavailableError(
            "A systemd credential can't be written from here. Move the key to a file first (`nexa key protect file`), rotate, and make the "
            "credential anew (docs/host-keys.md)."
        )
    new = _pending(storage)
    if new is not None and new.public.key_id == identity.key_id:
        return home.key(storage)  # the last step alone was missing
    old = home.key(storage) if new is None else storage.read(KeyPlace.CURRENT)
    unsigned = _leases_unsigned(journal, give_up=give_up)
    new = new or _made(storage)
    _register(identity, old=old, new=new)
    for lease_id in unsigned:
        journal.lease_ended(lease_id, "given up: key rotated")
    # Orders of an exchange whose answer was lost are for the old key: a new request doesn't bring them again.
    journal.fact_note(Fact.REQUEST_ID, str(uuid4()))
    home.identity_write(identity.model_copy(update={"key_id": new.public.key_id, "place": place_of(home.folder)}))
    return home.key(storage)


def key_protect(home: NodeHome, choice: KeyStorageChoice) -> None:
    """Move the key to another storage. The caller holds the home's lock. The old copy goes last, when the new one has been read back.

    Raises HomeError. Calling again after a crash removes what was left.
    """
    identity, source = home.identity(), home.key_storage()
    key = home.key(source)
    target = storage_open(choice, folder=home.folder, new=True)
    if target.kind is not KeyStorageKind.SYSTEMD:  # it was put there by the operator
        target.write(KeyPlace.CURRENT, key)
    found = target.read(KeyPlace.CURRENT)
    if found.public.key_id != identity.key_id:
        raise KeyStorageUnavailableError(
            f"Expected the key {identity.key_id} in the storage {target.kind}; found the key {found.public.key_id}. Nothing was changed."
        )
    home.identity_write(identity.model_copy(update={"key_storage": choice}))
    leftovers = [storage_open(KeyStorageChoice(kind), folder=home.folder) for kind in (KeyStorageKind.FILE, KeyStorageKind.SEALED)]
    for storage in (source, *leftovers):
        if storage.kind is not target.kind:
            storage.remove(KeyPlace.CURRENT)


def _pending(storage: KeyStorage) -> PrivateKey | None:
    try:
        return storage.read(KeyPlace.PENDING)
    except KeyAbsentError:
        return None


def _made(storage: KeyStorage) -> PrivateKey:
    key = PrivateKey.generate()
    storage.write(KeyPlace.PENDING, key)
    return key


def _register(identity: NodeIdentity, *, old: PrivateKey, new: PrivateKey) -> None:
    rotation = KeyRotation(origin=identity.portal, node_id=identity.node_id, old_key_id=old.public.key_id)
    proof = rotation_prove(rotation, new_key=new)
    portal = PortalClient(identity.portal, old)
    try:
        answer = portal.key_rotate(KeyRotationRequest(protocol_version=PROTOCOL_VERSION, public_key=new.public.to_base64(), proof=proof))
    finally:
        portal.close()
    if (answer.node_id, answer.key_id) != (identity.node_id, new.public.key_id):
        raise PortalProtocolError(f"Expected the portal to confirm the key {new.public.key_id}; it named {answer.key_id}.")


def _leases_unsigned(journal: Journal, *, give_up: bool) -> list[UUID]:
    """Leases that nobody could sign for any more. Raises LeasesUnreportedError unless they are to be given up."""
    unsigned = [row.lease_id for row in journal.leases_open() if row.receipt is None]
    if unsigned and not give_up:
        raise LeasesUnreportedError(
            f"{counted(len(unsigned), 'lease')} of this node without a receipt, and only the present key can sign one. "
            "Start `nexa worker` and stop it again, which reports them; or give them up with `--give-up`."
        )
    return unsigned
