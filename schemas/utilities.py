"""Small file operations, answered at once."""

import posixpath
from typing import Annotated, Self

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from schemas.fields import Absent, Count, Entry, Flag, Path, Presence, Refusal, Text, Upload, because, harmless, saying
from schemas.operation import Operation, operation
from schemas.places import Place, Reach
from schemas.rights import EVERY_RIGHT, Right

FORMATS = frozenset({"zip", "tar", "gz", "tgz", "bz2", "xz"})


class File(BaseModel):
    """A directory entry; all values are text, `size` in bytes."""

    name: str
    type: str
    link_target: str
    user: str
    group: str
    permissions: str
    last_modified: str
    size: str


class FileStatus(BaseModel):
    """What `stat` tells of a file; `mode` includes the bits of the file's type, times are seconds since 1970."""

    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int
    ctime: int


class Identity(BaseModel):
    """A user or group of the system."""

    name: str
    id: str


class Groups(BaseModel):
    """A user with all their groups."""

    user: Identity
    group: Identity
    groups: list[Identity]


@operation("GET /utilities/ls", list[File] | list[str], says="List of contents")
class Ls(Operation):
    """List directory contents."""

    target_path: Path = Field(description="Path of the directory; a relative one starts at the home directory")
    show_hidden: Flag = Field(False, alias="showhidden", description="Show entries starting with '.'")
    numeric_uid: Flag = Field(False, description="Show UID and GID instead of names")
    recursive: Flag = Field(False, description="List directories recursively; names are relative to targetPath")
    follow_links: Flag = Field(False, description="Show what links point to instead of the links")
    unsorted: Flag = Field(False, description="Do not sort; show all entries, '.' and '..' too")
    not_listing: Flag = Field(False, description="Do not ask for the attributes of entries; with unsorted, show names only")
    page_size: str = Field("", description="Entries on a page; used with pageNumber")
    page_number: str = Field("", description="Page to show, from 1; used with pageSize")

    def places(self) -> tuple[Place, ...]:
        """What links in the directory point to, too, where they are followed."""
        followed = Reach.TREE if self.recursive else Reach.LINKS
        return (Place(self.target_path, followed if self.follow_links else Reach.PATH),)


@operation("GET /utilities/file", str, says="Success to file file.", fails="Error on file operation")
class FileType(Operation):
    """Show the type of a file."""

    target_path: Path = Field(description="Path of the file")


@operation("GET /utilities/stat", FileStatus, says="Success to stat file.")
class Stat(Operation):
    """Show the status of a file."""

    target_path: Path | None = Field(None, description="Path of the file")
    source_path: Path | None = Field(None, description="Path of the file, when there is no targetPath")
    dereference: Flag = Field(False, description="Show what a link points to instead of the link")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.target_path is None and self.source_path is None:
            raise saying("'sourcePath' not specified")
        return self


@operation("GET /utilities/checksum", str, says="Success to checksum file.")
class Checksum(Operation):
    """Compute the SHA-256 checksum of a file."""

    target_path: Path = Field(description="Path of the file")


class Part(Operation):
    """A part of a file, counted in lines or in bytes."""

    target_path: Path = Field(description="Path of the file")
    line_count: Annotated[Count | None, Absent] = Field(None, alias="lines", description="Number of lines")
    byte_count: Annotated[Count | None, Absent] = Field(None, alias="bytes", description="Number of bytes")
    grep: Annotated[str | None, Absent] = Field(None, description="Show only lines that contain this text")

    @model_validator(mode="after")
    def _exclusive(self) -> Self:
        if self.line_count is not None and self.byte_count is not None:
            raise saying("Can not specify both 'bytes' and 'lines'")
        return self

    @field_validator("grep")
    @classmethod
    def _one_line(cls, text: str | None) -> str | None:
        if text is not None and "\0" in text:
            raise because("has invalid char")
        return text

    def fails(self) -> str:
        """What is said of this call when it fails."""
        return f"{self.route.fails} with grep" if self.grep is not None else self.route.fails


@operation("GET /utilities/head", str, says="Success to head file.")
class Head(Part):
    """Show the beginning of a file."""

    skip_ending: Flag = Field(False, alias="skip_ending", description="Show all but the last lines or bytes")


@operation("GET /utilities/tail", str, says="Success to tail file.")
class Tail(Part):
    """Show the end of a file."""

    skip_beginning: Flag = Field(False, alias="skip_beginning", description="Start with the given line or byte")


@operation("GET /utilities/view", str, says="Success to head file.", fails="Error on fsize operation")
class View(Part):
    """Show a file up to UTILITIES_MAX_FILE_SIZE."""

    target_path: Annotated[Path, Refusal(missing="'sourcePath' not specified")] = Field(description="Path of the file")
    skip_ending: Flag = Field(False, alias="skip_ending", description="Show all but the last lines or bytes")


@operation("GET /utilities/whoami", str | Groups, says="User information", open_to=EVERY_RIGHT)
class Whoami(Operation):
    """Show who the caller is on the system."""

    groups: Flag = Field(False, description="Show user, group and all groups with their ids")


@operation("GET /utilities/download", bytes, fails="Error on fsize operation")
class Download(Operation):
    """Download a file up to UTILITIES_MAX_FILE_SIZE."""

    source_path: Path = Field(description="Path of the file")


@operation("POST /utilities/upload", str, says="File upload successful", fails="Error on upload operation", status=201)
class UploadFile(Operation):
    """Upload a file up to UTILITIES_MAX_FILE_SIZE."""

    target_path: Path = Field(description="Directory to put the file in")
    file: Annotated[Upload, Refusal("Failed to upload file", "No file in query")] = Field(description="The file; its name is kept")

    @field_validator("file")
    @classmethod
    def _named(cls, file: Upload) -> Upload:
        try:
            harmless(file.name)
        except ValueError as refused:
            raise saying(f"Filename {refused}") from None
        return file

    def places(self) -> tuple[Place, ...]:
        """The file, too."""
        return (*super().places(), Place(posixpath.join(self.target_path, self.file.name)))


@operation("POST /utilities/mkdir", str, says="Success to mkdir file.", status=201)
class Mkdir(Operation):
    """Create a directory."""

    target_path: Path = Field(description="Path of the new directory")
    parents: Presence = Field(False, alias="p", description="Create missing parents; no error if it exists. Any value sets it")


@operation("DELETE /utilities/rm", None, status=204)
class Rm(Operation):
    """Delete a file or a directory with all it holds."""

    target_path: Entry = Field(description="Path of the file or directory")


@operation("PUT /utilities/rename", str, says="Success to rename file.")
class Rename(Operation):
    """Rename or move a file or a directory."""

    target_path: Path = Field(description="New path; into it, if it is a directory")
    source_path: Entry = Field(description="Path of the file or directory")


@operation("POST /utilities/copy", str, says="Success to copy file.", status=201)
class Copy(Operation):
    """Copy a file or a directory with all it holds."""

    target_path: Path = Field(description="Path of the copy; into it, if it is a directory")
    source_path: Entry = Field(description="Path of the file or directory")

    def places(self) -> tuple[Place, ...]:
        """What is there where the copy goes, too: files are written through links that it has."""
        return (*super().places(), Place(posixpath.join(self.target_path, last_name(self.source_path)), Reach.TREE))


@operation("PUT /utilities/chmod", str, says="Success to chmod file or directory.")
class Chmod(Operation):
    """Change the mode of a file or a directory."""

    target_path: Path = Field(description="Path of the file or directory")
    mode: Text = Field(description="Mode as chmod takes it, such as 750 or g+w")


_CHOWN_REFUSAL = Refusal("Error in chown operation", "group or owner {reason}")


@operation("PUT /utilities/chown", str, says="Success to chown file or directory.", open_to=frozenset({Right.ADMIN}))
class Chown(Operation):
    """Change owner and group of a file or a directory."""

    target_path: Path = Field(description="Path of the file or directory")
    owner: Annotated[Text | None, Absent, _CHOWN_REFUSAL] = Field(
        None, description="New owner; without group, the group becomes the owner's login group"
    )
    group: Annotated[Text | None, Absent, _CHOWN_REFUSAL] = Field(None, validate_default=True, description="New group")

    @field_validator("group")
    @classmethod
    def _either(cls, group: str | None, info: ValidationInfo) -> str | None:
        if group is None and info.data.get("owner") is None:
            raise saying("group or owner must be set")
        return group


@operation("POST /utilities/symlink", str, says="Success to symlink file.", status=201)
class Symlink(Operation):
    """Create a symbolic link."""

    target_path: Path = Field(description="What the link points to")
    link_path: Annotated[Path, Refusal("Failed to create symlink", "'{field}' value {reason}")] = Field(description="Path of the link")

    def places(self) -> tuple[Place, ...]:
        """What the link will point to: its text starts at the directory that holds the link, which may be the one called so."""
        folders = (posixpath.dirname(self.link_path), self.link_path)
        return (Place(self.link_path), *(Place(posixpath.join(folder, self.target_path)) for folder in folders))


@operation("POST /utilities/compress", str, says="Success to compress file.", status=201)
class Compress(Operation):
    """Pack a file or a directory into a tar archive compressed with gzip."""

    target_path: Path = Field(description="Path of the archive")
    source_path: Path = Field(description="Path of the file or directory")
    dereference: Flag = Field(False, description="Pack what links point to instead of the links")

    def places(self) -> tuple[Place, ...]:
        """What links in the directory point to, too, where they are followed."""
        return (Place(self.target_path), Place(self.source_path, Reach.TREE if self.dereference else Reach.PATH))


@operation("POST /utilities/extract", str, says="Success to extract file.", status=201)
class Extract(Operation):
    """Unpack an archive: zip, or tar as it is or compressed with gzip, bzip2 or xz."""

    target_path: Path = Field(description="Directory to unpack into")
    source_path: Path = Field(description="Path of the archive")
    extension: str = Field("auto", description="Format: .zip, .tar, .gz, .tgz, .bz2 or .xz; auto: by the suffix of sourcePath")
    type: str = Field("auto", validate_default=True, description="Another name of extension, which comes first")

    @field_validator("type")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        source = info.data.get("source_path")
        if source is not None and _format(source, info.data.get("extension", ""), value) not in FORMATS:
            raise saying(f"Unsupported file format in {source}.")
        return value

    def places(self) -> tuple[Place, ...]:
        """What links in the directory point to, too: what is unpacked is written through them."""
        return (Place(self.source_path), Place(self.target_path, Reach.TREE))

    def format(self) -> str:
        """The name of the format, one of FORMATS."""
        return _format(self.source_path, self.extension, self.type)


def last_name(path: str) -> str:
    """What a path is called in the directory that it is copied into; "" when its content is put right there."""
    name = posixpath.basename(path.rstrip("/"))
    return "" if name in (".", "..") else name


def _format(source: str, *names: str) -> str:
    named = (name for name in names if name.lower() not in ("", "auto"))
    return next(named, posixpath.splitext(source)[1]).removeprefix(".").lower()
