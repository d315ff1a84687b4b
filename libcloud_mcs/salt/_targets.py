"""The machines that a command targets, where several providers list machines of the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from libcloud.compute.base import Node

from libcloud_mcs.salt import _machines as machines
from libcloud_mcs.salt import _settings as settings

__all__ = ["Targets"]

#: The name of the driver in Salt's configuration.
_DRIVER = "mcs"
#: The options that pass a map to a command.
_MAP_OPTIONS = ("map", "map_data", "map_pillar")


class Targets:
    """
    The machines that a command targets.

    A profile or a map names machines of certain providers, but Salt destroys every machine of such
    a name, at every provider.

    :param opts: Salt's configuration with the options of the command.
    :param read_map: A function that renders the map of the command.
    """

    def __init__(self, opts: Mapping[str, Any], read_map: Callable[[], Mapping[str, Any]]) -> None:
        self._opts = opts
        self._read_map = read_map

    def preferred_providers(self) -> set[str]:
        """Return the names of the providers that the command's profile and hard map use."""
        preferred = {self._provider_of(str(self._opts.get("profile")))}
        if self._opts.get("hard"):
            preferred |= {provider for provider, _ in self._mapped()}
        return preferred

    def reason_to_keep(self, node: Node) -> str | None:
        """
        Check whether the command targets a machine that Salt is about to destroy.

        :param node: The machine.
        :return: The reason why the machine is to be kept; ``None`` for a target.
        """
        profile = self._opts.get("profile")
        has_map = any(map(self._opts.get, _MAP_OPTIONS))
        destroy = self._opts.get("destroy")
        if destroy and has_map:
            return None if self._is_mapped(node) else "the map does not name the machine"
        if destroy and profile:
            if self._lists(self._provider_of(profile), node):
                return None
            return f"'{profile}' is for another account"
        if has_map and self._opts.get("hard") and self._is_mapped(node):
            return "the map names the machine"
        return None

    def _is_mapped(self, node: Node) -> bool:
        return any(
            name == node.name and self._lists(provider, node) for provider, name in self._mapped()
        )

    def _mapped(self) -> set[tuple[str, str]]:
        """Return the provider and the name of each machine in the map."""
        profiles = self._opts["profiles"]
        return {
            (str(machine.get("provider") or profiles[profile]["provider"]).split(":")[0], name)
            for profile, machines_by_name in self._read_map().items()
            if profile in profiles
            for name, machine in machines_by_name.items()
        }

    def _provider_of(self, profile: str) -> str:
        return str(self._opts["profiles"].get(profile, {}).get("provider", "")).split(":")[0]

    def _lists(self, provider: str, node: Node) -> bool:
        """Check whether a provider lists a machine; a provider of another cloud never does."""
        config = self._opts["providers"].get(provider, {}).get(_DRIVER)
        return config is not None and machines.exists(settings.driver_of(config), node)
