"""What can go wrong, in few kinds: each message says what is wrong, what was received, and what to do."""


class HeadstartError(Exception):
    """A problem that the user can fix; `exit_status` is what the command line leaves with."""

    exit_status = 1


class DataError(HeadstartError):
    """The pictures, their folders or their manifest cannot be trained on or read."""


class BackboneError(HeadstartError):
    """A backbone is unknown, unsuitable, or its weights cannot be found."""


class ModelError(HeadstartError):
    """A model folder is missing, damaged, or of a format that this version does not know."""


class StorageError(HeadstartError):
    """A file cannot be written: no space, no permission, or something else stands in its place."""


class ExportError(HeadstartError):
    """An export does not answer as its model does, or cannot be made here."""


class UsageError(HeadstartError):
    """An option has a value that is not allowed."""

    exit_status = 2
