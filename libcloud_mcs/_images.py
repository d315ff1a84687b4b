"""Images that are created from nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from libcloud.compute.base import NodeImage

from libcloud_mcs._convert import to_true
from libcloud_mcs._reconciling import reconcile
from libcloud_mcs.errors import MCSError

if TYPE_CHECKING:
    from libcloud_mcs.connection import MCSConnection

__all__ = ["create"]

#: The longest delay in seconds between two queries.
_MAX_DELAY = 5.0


def create(
    connection: MCSConnection, params: Mapping[str, str], list_all: Callable[[], list[NodeImage]]
) -> NodeImage:
    """
    Create an image (``CreateTemplate``), and return the image as soon as it is listed.

    The response has no ID. The new image is the image of that name that did not exist before.

    :param params: The parameters of the action.
    :param list_all: The function that lists all images.
    :raises MCSError: If the image was not created, or was accepted and not listed in time.
    :raises OutcomeUnknownError: If the image may have been created, but is not listed.
    """
    name = params["Name"]
    before = {image.id for image in list_all()}

    def created() -> NodeImage | None:
        return next(
            (image for image in list_all() if image.name == name and image.id not in before), None
        )

    def send() -> NodeImage | None:
        connection.call("CreateTemplate", params, to_true)
        return None

    image = reconcile(connection, send, snapshot=lambda: before, confirm=lambda _: created())
    return image or _listed(connection, name, created)


def _listed(
    connection: MCSConnection, name: str, query: Callable[[], NodeImage | None]
) -> NodeImage:
    """Return an accepted image as soon as it is listed, within the deadline of a call."""
    accepted = f"the image {name!r} was accepted, but "
    end = time.monotonic() + connection.deadline
    tries = 0
    while True:
        tries += 1
        try:
            with connection.until(end):
                if image := query():
                    return image
        except MCSError as error:
            reason = f"the images could not be listed: {error}"
            raise _error(connection, accepted + reason) from error
        delay = min(connection.backoff_delay(tries), _MAX_DELAY)
        if time.monotonic() + delay >= end:
            raise _error(
                connection,
                f"{accepted}was not listed within {connection.deadline:g} s; list_images() may list"
                " it later",
            )
        time.sleep(delay)


def _error(connection: MCSConnection, message: str) -> MCSError:
    return MCSError(message, action="CreateTemplate", driver=connection.driver)
