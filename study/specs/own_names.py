"""Names of what is a user's own: ``my_package.my_module:function``."""

import re

_OWN_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_own_name(name: str) -> bool:
    """Tell whether a name is that of something that is imported: ``my_package.my_module:function``.

    Example:
        >>> is_own_name("lion_pytorch:Lion"), is_own_name("lion")
        (True, False)
    """
    return _OWN_NAME.fullmatch(name) is not None
