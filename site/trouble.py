"""What can go wrong with a site, in words for the person who started it."""


class SiteError(Exception):
    """The site cannot be started, stopped or changed; the message says why."""
