"""Transfers between clients and systems by way of the object store, answered through a task."""

import posixpath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, model_validator

from schemas.fields import Absent, Count, Flag, Path, Refusal, Text, because, saying
from schemas.operation import Course, Operation, internal, operation
from schemas.places import NotOnSystem, Place
from schemas.rights import Right

_DOWNLOADERS = frozenset({Right.READ, Right.WRITE})
_UPLOAD = "Failed to upload file"
_DOWNLOAD = "Failed to download file"
ARCHIVE = ".tar"  # what ends the names of directories' archives
_LONGEST_PATH = 4096  # bytes, as Linux has it; it is kept in the task several times


class Progress(BaseModel):
    """How far the system has come in moving a file; `rate` is in bytes per second, over all the time so far."""

    bytes: int
    total: int
    rate: int


@internal("storage", None, fails=_UPLOAD, error="'targetPath' directory not allowed", open_to=frozenset({Right.WRITE}))
class Writable(Operation):
    """Check that a directory, or the one that would hold the file, can be written to."""

    target_path: Path


@internal("storage", None, fails="sourcePath error", open_to=frozenset({Right.READ}))
class ReadableSource(Operation):
    """Check that a file, or a directory, is there and can be read."""

    source_path: Path
    directory: bool = False


@internal("storage", None, fails=_DOWNLOAD, open_to=_DOWNLOADERS)
class Unstage(Operation):
    """Remove what a download has put into the object store."""

    task_id: str
    source_path: Annotated[str, NotOnSystem("it names a file in the object store")]


def _names_a_file(path: str) -> str:
    if posixpath.basename(path) in ("", ".", ".."):
        raise because("is not the name of a file")
    if len(path.encode(errors="surrogatepass")) > _LONGEST_PATH:
        raise because("is too long")
    return path


_FilePath = Annotated[Text, AfterValidator(_names_a_file), NotOnSystem("it is on the client's machine")]


@operation(
    "POST /storage/xfer-external/upload",
    dict[str, Any],
    says="Task created",
    fails=_UPLOAD,
    status=201,
    course=Course.DEFERRED,
    steps=True,
    probe=lambda op: Writable(target_path=op.target_path),
)
class StageIn(Operation):
    """Upload a file to a system by way of the object store."""

    target_path: Path = Field(description="Directory on the system, or path of the file there")
    source_path: _FilePath = Field(description="Path of the file on the client's machine")
    size: Annotated[Count | None, Absent] = Field(None, description="Size of the file in bytes; no other is taken then")
    directory: Flag = Field(
        False, description="Whether the file is a tar archive of a directory, which appears at the target whole or not at all"
    )
    multipart: Flag = Field(
        False, description="Whether to send the file in parts and then complete it, as it must be when it is too large for one request"
    )

    def staged_bytes(self) -> int:
        """The size of the file, if it is given."""
        return self.size or 0

    def places(self) -> tuple[Place, ...]:
        """What arrives, too, under its own name."""
        return (*super().places(), Place(posixpath.join(self.target_path, self.arriving_name())))

    def arriving_name(self) -> str:
        """What the file is called in a directory; a directory: as its archive without `.tar`, if that leaves a name."""
        name = posixpath.basename(self.source_path)
        stem = name.removesuffix(ARCHIVE)
        return stem if self.directory and stem not in ("", ".", "..") else name

    @model_validator(mode="after")
    def _parts_of_something(self) -> Self:
        if self.multipart and self.size is None:
            raise saying("'size' not specified")
        return self


def _names_what_it_is(path: str, info: ValidationInfo) -> str:
    return _names_a_file(path.rstrip("/") if info.data.get("directory") else path)


_SourcePath = Annotated[Path, AfterValidator(_names_what_it_is)]


@operation(
    "POST /storage/xfer-external/download",
    dict[str, Any],
    says="Task created",
    fails=_DOWNLOAD,
    status=201,
    course=Course.DEFERRED,
    steps=True,
    open_to=frozenset({Right.READ}),
    probe=lambda op: ReadableSource(source_path=op.source_path, directory=op.directory),
)
class StageOut(Operation):
    """Download a file from a system by way of the object store."""

    directory: Flag = Field(False, description="Whether it is a directory, which comes as one tar archive")
    source_path: _SourcePath = Field(description="Path of the file, or directory, on the system")


def _alphanumeric(text: str) -> str:
    if not text.isalnum():
        raise saying("Header X-Task-Id is not alphanumeric")
    return text


@operation(
    "POST /storage/xfer-external/invalidate",
    str,
    fails="Failed to invalidate URL",
    status=201,
    course=Course.LOCAL,
    envelope="success",
    on_system=False,
    open_to=_DOWNLOADERS,
)
class Invalidate(Operation):
    """Remove a downloaded file from the object store, with the link to it."""

    in_header = frozenset({"X-Task-Id"})

    task_id: Annotated[str, AfterValidator(_alphanumeric), Refusal(missing="Header X-Task-Id missing")] = Field(
        alias="X-Task-Id", description="Id of the download's task"
    )
