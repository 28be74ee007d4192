"""What can go wrong in the operator.

    OperatorError
    ├── SettingsError         the environment is not usable; names variables and remedies
    ├── InvalidObjectError    an object breaks rules; carries every fault with field and remedy
    ├── ScopeNotAllowedError  an ApiKey asks for more than its namespace may have
    ├── KeyMissingError       a Secret that an ApiKey adopted has no key
    ├── NameTakenError        an object that we would make exists and belongs to somebody else
    ├── PredecessorError      ... to an endpoint of the same name that was deleted
    ├── RenderError           a template and its values make no object: a fault of the operator
    ├── ReferenceNotFoundError  what an object refers to does not exist
    ├── OwnerGoneError        an object was deleted while we worked for it
    ├── MissingKindError      the cluster lacks one of our custom resource definitions
    ├── RootKeyError          the root key Secret holds no usable key
    └── LeadershipLostError   another operator may lead: nothing may be written any more

Policy: what a user can mend becomes a condition in the object's status and is not retried until
something changes; what the API server may mend (kube_api's errors) is retried by the queue with
growing pauses; what only an administrator can mend ends the process with one line that says how;
so does lost leadership, and the next start stands by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OperatorError(Exception):
    """Base of every error of the operator."""


class SettingsError(OperatorError):
    """The environment is incomplete or wrong."""


@dataclass(frozen=True)
class Fault:
    """One broken rule: the path of the field (``spec.gpu.count``) and what to do about it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidObjectError(OperatorError):
    """An object breaks at least one rule; ``faults`` has all of them, in the order of fields."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class ScopeNotAllowedError(OperatorError):
    """An ApiKey asks for endpoints that keys of its namespace may not have."""


class KeyMissingError(OperatorError):
    """A Secret that is somebody's and was given to an ApiKey has no key; the message names it."""


class NameTakenError(OperatorError):
    """Objects with names that we need exist already and are not ours; the message names them."""


class PredecessorError(OperatorError):
    """Objects of a deleted endpoint are still there; the garbage collector deletes them."""


class ReferenceNotFoundError(OperatorError):
    """A spec refers to something that does not exist; the message names field and remedy."""


class RenderError(OperatorError):
    """A template and its values make no object; the message names the template."""

    def __str__(self) -> str:
        return f"{super().__str__()}; please report this"


class OwnerGoneError(OperatorError):
    """The object that we work for was deleted meanwhile; there is nothing left to do."""


class MissingKindError(OperatorError):
    """The cluster does not know one of our kinds; the message says what to install."""


class RootKeyError(OperatorError):
    """The Secret with the root key exists, but its content is not a key."""


class LeadershipLostError(OperatorError):
    """The Lease is not certainly ours (any more)."""
