"""Bringing a model into the cache: one process at a time, from the first source that delivers, right or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from assistant.errors import ViableError
from assistant.store import paths
from assistant.store.catalogue import Model
from assistant.store.report import Console, Reporter, size_text
from assistant.store.slot import Slot, State
from assistant.store.sources import Source, SourceFailed, length


class NotFetched(ViableError):
    """The model is not here, and the network is off or nobody there delivers it."""


_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_SPARE = 1 << 20
"""Bytes for the notices and the file system's own needs."""


def pull(model: Model, *, offline: bool = False, report: Reporter | None = None) -> Path:
    """Where the model is, fetched first where it is not there yet.

    Work of an earlier, interrupted pull is used. `offline`, or `VIABLE_OFFLINE=1`, forbids fetching. Raises
    ViableError where no source delivers or the disk is full; Ctrl-C leaves a part to go on from.
    """
    report = report or Console()
    slot = Slot(model)
    if _is_right(slot, report):
        return slot.file
    offline = offline or paths.offline()
    if offline and slot.state() in (State.ABSENT, State.PARTIAL):
        raise NotFetched(
            f"{model.name} is not in {slot.folder} and fetching is off (--offline or {paths.OFFLINE}); "
            f"run `viable models pull {model.name}` while online, or name a model file"
        )
    with slot.lock(report):
        if _is_right(slot, report):
            return slot.file
        if slot.state() in (State.DAMAGED, State.UNVERIFIED):
            aside = slot.set_aside()
            report.note(f"{slot.file}: wrong size or sha256; moved to {aside.name}")
            if offline:
                raise ViableError(f"{model.name} is damaged and fetching is off; it was moved to {aside}")
        try:
            _fetch(slot, report)
        except KeyboardInterrupt:
            report.note(_kept(slot))
            raise
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise ViableError(f"disk full in {slot.folder}; {_kept(slot)}") from error
    return slot.file


def _is_right(slot: Slot, report: Reporter) -> bool:
    state = slot.state()
    return state is State.READY or (state is State.UNVERIFIED and slot.check(report) is None)


def _fetch(slot: Slot, report: Reporter) -> None:
    model = slot.model
    slot.folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for number, source in enumerate(model.sources, 1):
        _make_sure_of_room(slot, source)
        try:
            _fetch_from(source, slot, report)
        except SourceFailed as failure:
            failures.append(f"{source.label}: {failure}")
            if number < len(model.sources):
                report.note(f"{failures[-1]}; going on with {model.sources[number].label}")
        else:
            return
    raise NotFetched(f"cannot fetch {model.name}: {'; '.join(failures)}")


def _fetch_from(source: Source, slot: Slot, report: Reporter) -> None:
    """Complete the part, check it and install it. Raises SourceFailed, and leaves no wrong part behind."""
    resumed = length(slot.part) > 0
    source.fetch(slot.part, slot.model.size, report, slot.model.name)
    digest = slot.digest(slot.part, report)
    if digest == slot.model.sha256:
        slot.install()
        return
    slot.part.unlink()
    problem = f"{slot.model.file} arrived with the sha256 {digest}, not {slot.model.sha256}; deleted"
    if not resumed:
        raise SourceFailed(problem)
    # The fault may lie in what was there before: that deserves one clean start.
    report.note(f"{source.label}: {problem}; starting anew")
    _fetch_from(source, slot, report)


def _make_sure_of_room(slot: Slot, source: Source) -> None:
    needed = slot.model.size - length(slot.part) + source.room() + _SPARE
    free = shutil.disk_usage(slot.folder).free
    if free < needed:
        raise ViableError(
            f"not enough room in {slot.folder}: {size_text(needed)} needed, {size_text(free)} free; "
            f"make room, or set {paths.HOME} to a folder on another disk"
        )


def _kept(slot: Slot) -> str:
    done, size = size_text(length(slot.part)), size_text(slot.model.size)
    if not length(slot.part):
        return "nothing had arrived yet"
    return f"{done} of {size} are kept; `viable models pull {slot.model.name}` goes on from there"
