"""Small file operations, answered at once."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from schemas.fields import Absent, Count, Flag, Presence, Refusal, Text, Upload, because, harmless, saying
from schemas.operation import Operation, operation


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

    target_path: Text = Field(description="Path of the directory; a relative one starts at the home directory")
    show_hidden: Flag = Field(False, alias="showhidden", description="Show entries starting with '.'")
    numeric_uid: Flag = Field(False, description="Show UID and GID instead of names")
    recursive: Flag = Field(False, description="List directories recursively; names are relative to targetPath")
    follow_links: Flag = Field(False, description="Show what links point to instead of the links")
    unsorted: Flag = Field(False, description="Do not sort; show all entries, '.' and '..' too")
    not_listing: Flag = Field(False, description="Do not ask for the attributes of entries; with unsorted, show names only")
    page_size: str = Field("", description="Entries on a page; used with pageNumber")
    page_number: str = Field("", description="Page to show, from 1; used with pageSize")


class Part(Operation):
    """A part of a file, counted in lines or in bytes."""

    target_path: Text = Field(description="Path of the file")
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

    skip_ending: Flag = Field(False, alias="skip_ending", description="Show all but the last lines or bytes")


@operation("GET /utilities/whoami", str | Groups, says="User information")
class Whoami(Operation):
    """Show who the caller is on the system."""

    groups: Flag = Field(False, description="Show user, group and all groups with their ids")


@operation("GET /utilities/download", bytes, fails="Error on fsize operation")
class Download(Operation):
    """Download a file up to UTILITIES_MAX_FILE_SIZE."""

    source_path: Text = Field(description="Path of the file")


@operation("POST /utilities/upload", str, says="File upload successful", fails="Error on upload operation", status=201)
class UploadFile(Operation):
    """Upload a file up to UTILITIES_MAX_FILE_SIZE."""

    target_path: Text = Field(description="Directory to put the file in")
    file: Annotated[Upload, Refusal("Failed to upload file", "No file in query")] = Field(description="The file; its name is kept")

    @field_validator("file")
    @classmethod
    def _named(cls, file: Upload) -> Upload:
        try:
            harmless(file.name)
        except ValueError as refused:
            raise saying(f"Filename {refused}") from None
        return file


@operation("POST /utilities/mkdir", str, says="Success to mkdir file.", status=201)
class Mkdir(Operation):
    """Create a directory."""

    target_path: Text = Field(description="Path of the new directory")
    parents: Presence = Field(False, alias="p", description="Create missing parents; no error if it exists. Any value sets it")


@operation("DELETE /utilities/rm", None, status=204)
class Rm(Operation):
    """Delete a file or a directory with all it holds."""

    target_path: Text = Field(description="Path of the file or directory")
