"""Every failure that a client may be told about: the class is the kind, its data the HTTP face.

An error crosses the broker as the name of its class and its three texts (`error_to_wire`, `error_from_wire`).
"""

import re
from typing import Any, ClassVar, Self

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\xff]")
_LONGEST_VALUE = 500


class FirecrestError(Exception):
    """A failure in the words of the FirecREST v1 contract.

    `text` becomes `error` in the body (left out when empty), `says` replaces the value of the class's header,
    `description` replaces the description that the operation gives to its failures ("": none is sent). What is `transient` may go well
    when tried again.
    """

    status: ClassVar[int] = 400
    header: ClassVar[str | None] = None
    value: ClassVar[str | None] = None
    transient: ClassVar[bool] = False

    def __init__(self, text: str = "", *, says: str | None = None, description: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.says = says
        self.description = description

    def headers(self) -> dict[str, str]:
        """The header that tells clients the kind; its value is one line of Latin-1."""
        if self.header is None:
            return {}
        lines = (self.says or self.value or self.text).splitlines() or [""]
        return {self.header: _UNPRINTABLE.sub("?", lines[0][:_LONGEST_VALUE])}

    def body(self, description: str) -> dict[str, Any]:
        """The JSON body, `description` being what the operation says of its failures."""
        shown = self.description if self.description is not None else description
        return {name: text for name, text in (("description", shown), ("error", self.text)) if text}

    def swapped_body(self, fails: str) -> dict[str, Any]:
        """The JSON body where `error` is what the operation says of its failures, and `description` what no header tells."""
        if self.description is not None:
            return self.body(fails)
        told = self.header is not None and self.header.startswith("X-")
        return {"error": fails, **({"description": self.text} if self.text and not told else {})}

    def told_by_header(self, error: str = "") -> Self:
        """The same failure, with these words as `error` or without any."""
        return type(self)(error, says=self.says or self.value or self.text, description=self.description)


class CommandFailed(FirecrestError):
    """A command on the system failed in a way that no other class names."""

    header = "X-Error"


class CommandRefused(FirecrestError):
    """The system's wrapper does not allow the command."""

    header = "X-Error"
    value = "Command execution is not allowed in machine"


class StillUnderWay(CommandFailed):
    """Another attempt at the same is not over yet."""

    transient = True


class MachineNotAvailable(FirecrestError):
    """The system cannot be reached."""

    transient = True
    header = "X-Machine-Not-Available"
    value = "Machine is not available"


class MachineDoesNotExist(FirecrestError):
    """The client named a system that this deployment does not have."""

    header = "X-Machine-Does-Not-Exist"
    value = "Machine does not exist"

    def headers(self) -> dict[str, str]:
        """Both spellings that FirecREST v1 services send."""
        return super().headers() | {"X-Machine-Does-Not-Exists": "Machine does not exists"}


class NoMachine(FirecrestError):
    """The client named no system."""


class AccessDenied(FirecrestError):
    """The system, or the delegation, does not let the user in."""

    header = "X-Permission-Denied"
    value = "User does not have permissions to access machine"


class AccessHidden(AccessDenied):
    """`AccessDenied` as compute, storage and reservations tell it."""

    status = 404
    value = "User does not have permissions to access machine or path"


class PermissionDenied(FirecrestError):
    """The user may not do this to the path."""

    header = "X-Permission-Denied"
    value = "User does not have permissions to access path"


class TimedOut(FirecrestError):
    """A command took longer than it may."""

    transient = True
    header = "X-Timeout"
    value = "Command has finished with timeout signal"


class InvalidPath(FirecrestError):
    """A path does not lead anywhere."""

    header = "X-Invalid-Path"
    value = "path is an invalid path"


class NotFound(FirecrestError):
    """The source of an operation is not there."""

    header = "X-Not-Found"
    value = "sourcePath not found"


class PatternNotFound(FirecrestError):
    """No line matches."""

    status = 404
    header = "X-Not-Found"
    value = "pattern not found"


class Exists(FirecrestError):
    """The target is there already."""

    header = "X-Exists"
    value = "targetPath already exists"


class NotADirectory(FirecrestError):
    """A directory is needed."""

    header = "X-Not-A-Directory"
    value = "targetPath is not a directory"


class ADirectory(FirecrestError):
    """A file is needed."""

    header = "X-A-Directory"
    value = "path is a directory, can't checksum directories"


class InvalidMode(FirecrestError):
    """Not a file mode."""

    header = "X-Invalid-Mode"
    value = "mode is an invalid mode"


class InvalidOwner(FirecrestError):
    """Not a user of the system."""

    header = "X-Invalid-Owner"
    value = "owner is an invalid user"


class InvalidGroup(FirecrestError):
    """Not a group of the system."""

    header = "X-Invalid-Group"
    value = "group is an invalid group"


class SizeLimit(FirecrestError):
    """The file is larger than utilities carry."""

    header = "X-Size-Limit"
    value = "File exceeds size limit"


class StagedLimit(FirecrestError):
    """The user has too much in the object store."""

    header = "X-Size-Limit"
    value = "Staged files exceed size limit"


class InvalidParameter(FirecrestError):
    """A parameter of the call is missing or malformed."""


class InvalidEnvironment(FirecrestError):
    """The `env` of a job is not a JSON object of texts."""

    status = 404


class Unauthorized(FirecrestError):
    """The caller did not prove who they are."""

    status = 401


class Forbidden(FirecrestError):
    """The caller's token does not allow this kind of operation."""

    status = 403
    header = "X-Permission-Denied"
    value = "User does not have permissions to access machine or path"


class ReservationFailed(FirecrestError):
    """The system does not do as told with a reservation."""


class ForeignTask(FirecrestError):
    """The task belongs to somebody else."""

    status = 403


class UnknownResource(FirecrestError):
    """There is no such task, service, system or page."""

    status = 404


class UnknownService(UnknownResource):
    """There is no such service."""

    def body(self, description: str) -> dict[str, Any]:
        """The JSON body, with the status once more, as the contract has it (1.8)."""
        return {**super().body(description), "status_code": self.status}


class UnknownFilesystems(UnknownResource):
    """There is no such system whose file systems could be told."""

    def body(self, description: str) -> dict[str, Any]:
        """The JSON body, with the text where the file systems would be (contract, 1.8)."""
        return {"description": description, "out": self.text}


class NotCancellable(FirecrestError):
    """The task is over, or has begun what cannot be stopped."""


class Stopped(FirecrestError):
    """The task is no longer the worker's, which was told to stop."""


class TooLarge(FirecrestError):
    """The request carries more than it may."""

    status = 413


class TooManyRequests(FirecrestError):
    """The user has too much under way; `says` is the number of seconds to wait."""

    status = 429
    header = "Retry-After"
    value = "1"


class StorageNotAvailable(FirecrestError):
    """The object store cannot be reached, or cannot work just now."""

    transient = True


class StorageRefused(FirecrestError):
    """The object store does not do what the service asks of it: its keys or its settings are wrong."""


class NotStaged(FirecrestError):
    """The object store does not hold a file, or all of its parts."""


class LinkExpired(FirecrestError):
    """No file came by a link while it was valid."""


class CopyCutOff(FirecrestError):
    """A file has not come through whole."""

    transient = True


class ServiceUnavailable(FirecrestError):
    """The service itself cannot work just now; nothing was started."""

    transient = True

    status = 503
    header = "Retry-After"
    value = "2"


def kinds(root: type[FirecrestError] = FirecrestError) -> dict[str, type[FirecrestError]]:
    """Every kind of failure by its name."""
    found = {root.__name__: root}
    for kind in root.__subclasses__():
        found |= kinds(kind)
    return found


def error_to_wire(error: FirecrestError) -> dict[str, str | None]:
    """An error as JSON."""
    return {"kind": type(error).__name__, "text": error.text, "says": error.says, "description": error.description}


def error_from_wire(wire: dict[str, Any]) -> FirecrestError:
    """The error that `error_to_wire` wrote."""
    return kinds()[wire["kind"]](wire["text"], says=wire["says"], description=wire["description"])
