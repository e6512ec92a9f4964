"""Passwords stay in the URL that was given: they are neither stored nor shown."""

import re

PASSWORD = re.compile(
    r"""(?P<before>://[^\s:/@"']*:)[^\s/@"']+(?=@)|(?P<key>[?&]\w*password=)[^\s&#"']+""", re.IGNORECASE
)


def hidden(text: str) -> str:
    """Return a text with the passwords of the URLs in it as ***."""
    return PASSWORD.sub(lambda found: f"{found['before'] or found['key']}***", text)
