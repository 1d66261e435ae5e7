"""Joining a coordinator: from a one-time token to a node home. What a user must be told is a HomeError, PortalError or JoinRefusedError."""

from __future__ import annotations

from workers.home import NodeHome, NodeIdentity, portal_origin_parse
from workers.home_errors import KeyAbsentError
from workers.home_place import place_of
from workers.keystore.choice import KeyStorageChoice, storage_open
from workers.keystore.interface import KeyPlace, KeyStorage
from workers.portal import PortalClient, PortalProtocolError
from workers.protocol.errors import VerificationError
from workers.protocol.join_tokens import JoinTokenContent
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.joining import CoordinatorInfo, RegistrationAnswer, RegistrationRequest
from workers.protocol.messages.machine import NodeProfile
from workers.protocol.succession import keys_of
from workers.versions import protocol_gap


class JoinRefusedError(Exception):
    """This host will not join: the portal is not the one that the token was made by, or speaks another protocol."""


def coordinator_key_check(info: CoordinatorInfo, *, fingerprint: str) -> PublicKey:
    """The coordinator's key, if it is the one that the token names, or follows from it by signed successions. Raises JoinRefusedError."""
    try:
        key = PublicKey.from_base64(info.public_key)
        known = keys_of(info.predecessors, present=key, origin=info.origin)
    except VerificationError as error:
        raise JoinRefusedError(f"The portal's keys can't be read: {error}") from error
    # The id that the portal claims is worth nothing: fingerprints are taken from the keys themselves.
    if fingerprint not in {one.key_id for one in known}:
        raise JoinRefusedError(
            f"The token expects the coordinator {fingerprint}, but {info.origin} has the key {key.key_id}. "
            "Do not go on: the portal was replaced, or someone is between you and it. Ask its operator for a new token."
        )
    if gap := protocol_gap(info.protocol_versions):
        raise JoinRefusedError(str(gap))
    return key


def coordinator_check(token: JoinTokenContent) -> PublicKey:
    """Ask the token's portal for its key and check it. Raises HomeError, PortalError, JoinRefusedError."""
    portal = PortalClient(portal_origin_parse(token.portal), None)
    try:
        return coordinator_key_check(portal.coordinator(), fingerprint=token.coordinator)
    finally:
        portal.close()


def node_join(
    home: NodeHome,
    *,
    token: JoinTokenContent,
    coordinator: PublicKey,
    name: str | None,
    profile: NodeProfile,
    key_storage: KeyStorageChoice | None = None,
) -> RegistrationAnswer:
    """Register this machine and write its home. Called again after a lost answer, it registers the same key.

    `name` None: as the owner chose with the token; without that, as the machine calls itself.
    `key_storage` None: a file. A key that is there already is taken: of a join whose answer was lost, or a credential made beforehand.

    Raises HomeError, PortalError, JoinRefusedError.
    """
    home.free_check()
    origin = portal_origin_parse(token.portal)
    key_storage = key_storage or KeyStorageChoice()
    place = place_of(home.folder)
    # Kept before it is registered: the answer may get lost, and the token works for one key only.
    key = _key_kept(storage_open(key_storage, folder=home.folder, new=True))
    portal = PortalClient(origin, key)
    try:
        answer = portal.register(
            RegistrationRequest(
                protocol_version=PROTOCOL_VERSION,
                join_token=token.secret,
                name=name,
                public_key=key.public.to_base64(),
                profile=profile,
            )
        )
    finally:
        portal.close()
    if answer.key_id != key.public.key_id:
        raise PortalProtocolError(f"Expected the registration of {key.public.key_id}; the portal answered about {answer.key_id}.")
    if answer.coordinator_key != coordinator.to_base64():
        raise JoinRefusedError("The portal named another coordinator key when it registered this node than before. Nothing was joined.")
    identity = NodeIdentity(
        portal=origin,
        node_id=answer.node_id,
        key_id=answer.key_id,
        coordinator_key=answer.coordinator_key,
        tier=answer.tier,
        queues=answer.queues,
        name=answer.name,
        owner=answer.owner,
        place=place,
        key_storage=key_storage,
    )
    home.write(identity=identity, profile=profile)
    return answer


def _key_kept(storage: KeyStorage) -> PrivateKey:
    try:
        return storage.read(KeyPlace.CURRENT)
    except KeyAbsentError:
        key = PrivateKey.generate()
        storage.write(KeyPlace.CURRENT, key)
        return key
