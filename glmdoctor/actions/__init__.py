"""What a repair may do to a machine: a closed set of actions, each with its way back, and the disk that they change."""

from glmdoctor.actions.change import Action, Change, Changes, Inverse, change_of, missing_folders
from glmdoctor.actions.fetching import FetchFile
from glmdoctor.actions.files import (
    LINKER_CACHE,
    LINKER_SCRATCH,
    MakeFolder,
    PlaceLink,
    RefreshLinkerCache,
    WriteFile,
    digest,
)
from glmdoctor.actions.packages import InstallPackages

# All of them: what a plan may hold, and what a journal can name.
ACTIONS = (MakeFolder, PlaceLink, RefreshLinkerCache, WriteFile, InstallPackages, FetchFile)

__all__ = [
    "ACTIONS",
    "LINKER_CACHE",
    "LINKER_SCRATCH",
    "Action",
    "Change",
    "Changes",
    "FetchFile",
    "InstallPackages",
    "Inverse",
    "MakeFolder",
    "PlaceLink",
    "RefreshLinkerCache",
    "WriteFile",
    "change_of",
    "digest",
    "missing_folders",
]
