"""The version of this software, as hosts and portals tell each other. Not the protocol's: that is messages.base.PROTOCOL_VERSION."""

from typing import Final

SOFTWARE_VERSION: Final = "0.1.0"
