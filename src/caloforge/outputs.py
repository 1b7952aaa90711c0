"""Where results go: what caloforge did not write is never replaced, and no output is an input.

A folder of results holds :data:`RECORD`, which says what kind of result it is and which files caloforge wrote
there, with their checksums. By it a later result of the same kind may take its place; a file that somebody else put
there, or has changed since, may not be touched.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from caloforge.alone import alone
from caloforge.errors import InputError
from caloforge.files import digest, read_json, sha256, write_json
from caloforge.names import relative_name
from caloforge.result_kinds import ResultKind, with_article
from caloforge.space import NoSpace, for_want_of_space, space_told
from caloforge.temporary import OLD, is_temporary, let_read, scratch_folder, temporary_beside

RECORD = ".caloforge-results.json"
"""File in a folder of results that says what was put there."""

STANDARD_OUTPUT = Path("-")

_CANNOT_RENAME = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.ENOTEMPTY)
"""Mount points, and folders whose parent is not ours to write to."""

_OF_A_DISK = frozenset({"lost+found", ".snapshot", ".Trash-0"})
"""What a file system has in its uppermost folder."""


class Written:
    """What caloforge wrote into a folder, as its record says.

    Attributes:
        folder: the folder.
        kind: name of its kind of result; empty: there is no record.
        run: identifier of the run on Kubeflow that it is of; empty: none.
        laid: each file or folder that was written, by its name in the folder, and the digests it may have.
    """

    def __init__(self, folder: Path) -> None:
        """Read the record, if there is one.

        Raises:
            InputError: it is damaged.
        """
        self.folder = folder
        path = folder / RECORD
        found: Any = read_json(path) if path.is_file() and not path.is_symlink() else {}
        if not isinstance(found, dict) or not _is_laid(found.get("laid", {})):
            raise InputError(f"{path}: damaged; remove it, and what caloforge wrote there, or choose another folder")
        self.run = str(found.get("run", ""))
        self.kind = str(found.get("kind", "run" if found else ""))
        try:
            self.laid: dict[str, list[str]] = {
                relative_name(name): sums for name, sums in found.get("laid", {}).items()
            }
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None

    def is_others(self, name: str) -> bool:
        """Return whether something is there that caloforge did not write, or that was changed since."""
        path = self.folder / name
        if path.is_symlink() or any(one.is_symlink() or one.is_file() for one in self._above(path)):
            return True  # we write no links, and no files where folders belong
        if not path.exists():
            return False
        if name not in self.laid or not (path.is_dir() or path.is_file()):
            return True
        return digest(path)[0] not in self.laid[name]

    def others(self) -> Iterator[str]:
        """Yield the files in the folder that are not ours, by name; folders without files do not count."""
        for top, folders, files in os.walk(self.folder):
            if top == str(self.folder):
                passed_over = _OF_A_DISK if os.path.ismount(self.folder) else frozenset[str]()
                folders[:] = [name for name in folders if name not in passed_over and not is_temporary(name)]
                files = [name for name in files if name != RECORD]
            folders.sort()
            links = [name for name in folders if Path(top, name).is_symlink()]
            for file in sorted([*files, *links]):
                name = Path(top, file).relative_to(self.folder).as_posix()
                if self.is_others(name):
                    yield name

    def in_the_way(self, kind: ResultKind) -> str:
        """Return the name of something that is not ours and lies where a file of a kind goes; empty: there is none."""
        # A folder without files is in the way, too.
        taken = (name for name in kind.files if "*" not in name and self.is_others(name))
        return next(taken, "") or next((name for name in self.others() if kind.has(name)), "")

    def note(self, kind: ResultKind, laid: Mapping[str, list[str]], *, run: str = "") -> None:
        """Write the record anew."""
        self.kind, self.run, self.laid = kind.name, run, dict(laid)
        write_json(self.folder / RECORD, {"kind": kind.name, "run": run, "laid": self.laid})

    def begin(self, fresh: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the record for while things are being replaced: a run that is killed then knows its own again."""
        return {**self.laid, **{name: [*self.laid.get(name, []), sha256] for name, sha256 in fresh.items()}}

    def _above(self, path: Path) -> Iterator[Path]:
        while path.parent != self.folder and self.folder in path.parents:
            path = path.parent
            yield path


def check_folder(path: Path, kind: ResultKind, *, inputs: Iterable[Path] = (), overwrite: bool = False) -> Path:
    """Make sure, before any work, that results may go into a folder in place of what is there.

    Args:
        path: the folder; links are followed.
        kind: of result.
        inputs: files and folders that the results are made of.
        overwrite: what is there may be of another kind, and files of others may lie beside; they stay.

    Returns:
        The folder that the path leads to.

    Raises:
        InputError: it holds what caloforge did not write (with ``overwrite``, where this kind has a file), it is,
            holds or lies in an input, or it cannot be written.
    """
    target = _folder(path)
    refuse_inputs(path, inputs)
    if target.is_dir():
        written = Written(target)
        if written.kind not in ("", kind.name) and not overwrite:
            example = f" ({next(iter(written.laid))})" if written.laid else ""
            raise InputError(
                f"{path}: holds {with_article(written.kind)}{example}, not {with_article(kind.name)}; choose another folder, or "
                "give --overwrite"
            )
        if not overwrite:
            _refuse_others(path, written)
        elif name := written.in_the_way(kind):
            raise _changed(path, name)
    return target


@contextmanager
def result_folder(
    path: Path, kind: ResultKind, *, inputs: Iterable[Path] = (), overwrite: bool = False
) -> Iterator[Path]:
    """Yield a temporary folder whose files are put at ``path`` when the block ends well; see :func:`check_folder`.

    The folder is exchanged as a whole where that can be; into a mount point the files are put one by one, each whole
    or not at all.

    Raises:
        InputError: see :func:`check_folder`.
        NoSpace: the disk is full.
    """
    inputs = list(inputs)
    target = check_folder(path, kind, inputs=inputs, overwrite=overwrite)
    with ExitStack() as stack:
        with _refusals_told(path):
            within = _must_be_within(target)
            if not within:
                target.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(temporary_beside(target, folder=True, within=within, alone=True))
        mode = temporary.stat().st_mode
        yield temporary
        let_read(temporary, mode)
        check_folder(path, kind, inputs=inputs, overwrite=overwrite)  # the work may have taken hours
        fresh = {name: sha256(temporary / name) for name in _files(temporary)}
        with _refusals_told(path):
            if within or not _exchange(temporary, target, kind, fresh):
                _pour(temporary, target, kind, fresh)


def outside(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Return those of some paths that are not in a folder: a work may stand on what it has put there itself."""
    return [path for path in paths if folder.resolve() not in path.resolve().parents]


@contextmanager
def own_folder(path: Path, kind: ResultKind, *, inputs: Iterable[Path] = (), overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder that a work goes on in when it is called again, marked as that work's.

    What others put beside later is left alone.

    Args:
        path: the folder, made if it is not there; links are followed.
        kind: of work.
        inputs: files and folders that the results are made of.
        overwrite: it may hold files of others, as long as they have none of our names.

    Raises:
        InputError: it holds what caloforge did not write, or the work of another kind, it is, holds or lies in an
            input, another command is at work there, or it cannot be written.
        NoSpace: the disk is full.
    """
    inputs = list(inputs)
    target = check_claim(path, kind, inputs=inputs, overwrite=overwrite)
    with ExitStack() as stack:
        with _refusals_told(path):
            stack.enter_context(alone(target, shown=path))
        claim_folder(path, kind, inputs=inputs, overwrite=overwrite)
        stack.enter_context(space_told(target))
        yield target


def claim_folder(path: Path, kind: ResultKind, *, inputs: Iterable[Path] = (), overwrite: bool = False) -> Path:
    """Make and mark a folder; see :func:`own_folder`."""
    target = check_claim(path, kind, inputs=inputs, overwrite=overwrite)
    written = Written(target)
    if written.kind != kind.name:
        with _refusals_told(path):
            target.mkdir(parents=True, exist_ok=True)
            written.note(kind, written.begin({}))
    return target


def check_claim(path: Path, kind: ResultKind, *, inputs: Iterable[Path] = (), overwrite: bool = False) -> Path:
    """Make sure that a folder may be claimed, and leave it as it is; see :func:`own_folder`."""
    target = _folder(path)
    refuse_inputs(path, inputs)
    written = Written(target)
    if written.kind != kind.name:
        if written.kind and not overwrite:
            raise InputError(
                f"{path}: holds {with_article(written.kind)}, not {with_article(kind.name)}; choose another folder"
            )
        if not overwrite:
            _refuse_others(path, written)
        taken = sorted(name for name in kind.uppermost if os.path.lexists(target / name) and name not in written.laid)
        if taken:
            text = f"{path}: {taken[0]}: there already, and not of caloforge; move it away"
            raise InputError(f"{text} or choose another folder")
    return target


@contextmanager
def put_files(path: Path, kind: ResultKind, *, known: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """Yield a temporary folder whose files are put into the folder ``path``, beside what is there.

    Args:
        path: the folder, made if it is not there; links are followed.
        kind: of result, for the record.
        known: says of a file that the record does not know whether it is ours all the same.

    Raises:
        InputError: a file of the same name is there already, and not as caloforge left it.
        NoSpace: the disk is full.
    """
    target = _folder(path)
    with ExitStack() as stack:
        with _refusals_told(path):
            target.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(temporary_beside(target / "files", folder=True))
        mode = temporary.stat().st_mode
        yield temporary
        let_read(temporary, mode)
        with _refusals_told(path):
            _put(temporary, target, kind, {name: sha256(temporary / name) for name in _files(temporary)}, known)


def refuse_changed(path: Path, names: Iterable[str]) -> None:
    """Refuse before the work what :func:`put_files` would refuse after it."""
    written = Written(path)
    if in_the_way := [name for name in names if written.is_others(name)]:
        raise _changed(path, in_the_way[0])


def _changed(path: Path, name: str) -> InputError:
    text = f"{path}: {name}: there already, and not as caloforge left it"
    return InputError(f"{text}; move it away or choose another folder")


def check_file(path: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Make sure, before any work, that a file may be written; see :func:`result_file`."""
    if path == STANDARD_OUTPUT:
        return
    refuse_address(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise _cannot_write(path, error) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; give the name of a file")
    if mode is not None and (stat.S_ISBLK(mode) or stat.S_ISSOCK(mode)):
        raise InputError(f"{path}: is a disk or a socket; give the name of a file")
    target = Path(os.path.realpath(path))
    refuse_inputs(path, inputs, folder=False)
    if mode is None or stat.S_ISREG(mode):
        _check_parent(path, target)


@contextmanager
def result_file(path: Path, *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends well.

    Links are followed; devices and pipes are written to; ``-`` is standard output.

    Args:
        path: where the file goes.
        inputs: files and folders that it is made of.

    Raises:
        InputError: it is or would replace an input, is a folder, or cannot be written.
        NoSpace: the disk is full.
    """
    check_file(path, inputs=inputs)
    target = Path(os.path.realpath(path))
    sent = _is_stream(path) or _only_itself(target)
    with ExitStack() as stack:
        with _refusals_told(path):
            if sent:
                # Opened before the work: who reads a pipe waits for its writer, and need not for longer.
                stream = stack.enter_context(_opened(path))
                temporary = stack.enter_context(scratch_folder()) / "output"
                temporary.touch()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = stack.enter_context(temporary_beside(target, folder=False, alone=True))
        mode = temporary.stat().st_mode
        yield temporary
        let_read(temporary, mode)
        with _refusals_told(path):
            if sent:
                _send(temporary, stream, path)
            else:
                with temporary.open("rb") as handle:
                    os.fsync(handle.fileno())
                _replace(temporary, target)


class OutputEnded(RuntimeError):
    """A pipe was closed at its other end."""


def is_standard_output(path: Path) -> bool:
    """Return whether a result goes to standard output, so that nothing else may."""
    if path == STANDARD_OUTPUT:
        return True
    with suppress(AttributeError, OSError, ValueError):  # what kfp.local puts in its place has no descriptor
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno())) and not path.is_dir()
    return False


def _is_stream(path: Path) -> bool:
    with suppress(OSError):
        return is_standard_output(path) or not stat.S_ISREG(path.stat().st_mode)
    return is_standard_output(path)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a stream, or a file that cannot be replaced; what it holds stays until it is written to."""
    if is_standard_output(path):
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    with os.fdopen(os.open(path, os.O_WRONLY), "wb") as stream:
        yield stream


def _send(source: Path, stream: BinaryIO, path: Path) -> None:
    """Write a finished file to a stream, or in the place of what a file holds."""
    with _space_told_of(path), source.open("rb") as file:
        if not is_standard_output(path) and stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            stream.truncate(0)
        shutil.copyfileobj(file, stream)
        stream.flush()


@contextmanager
def _space_told_of(path: Path) -> Iterator[None]:
    """Name what was written to, not a folder, in :class:`NoSpace`."""
    try:
        with space_told(path):
            yield
    except NoSpace as error:
        raise NoSpace("standard output" if path == STANDARD_OUTPUT else path) from error


def _only_itself(target: Path) -> bool:
    """Return whether a file can be written although its folder cannot."""
    return target.is_file() and not os.access(target.parent, os.W_OK | os.X_OK) and os.access(target, os.W_OK)


def _replace(temporary: Path, target: Path) -> None:
    try:
        with suppress(PermissionError):  # it belongs to somebody else, and the folder to us
            _keep_access(target, temporary)
        temporary.replace(target)
    except OSError as error:
        if error.errno not in _CANNOT_RENAME or not target.is_file():
            raise
        with _opened(target) as stream:  # a single file that is mounted
            _send(temporary, stream, target)


def _folder(path: Path) -> Path:
    """Return the folder that a path leads to, which need not be there."""
    if path == STANDARD_OUTPUT:
        raise InputError("-: a folder cannot go to standard output; give its name")
    refuse_address(path)
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not target.is_dir():
        raise InputError(f"{path}: is a file; give the name of a folder")
    _check_parent(path, target)
    return target


def refuse_address(path: Path) -> None:
    """Refuse ``s3://bucket/name``, which would become folders called ``s3:`` and ``bucket``.

    Raises:
        InputError: results cannot go there.
    """
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(path)):
        raise InputError(f"{match[1]}://...: results go to this machine; give a path, and copy them from there")


def _check_parent(path: Path, target: Path) -> None:
    """Refuse what could not be made after all the work."""
    if os.path.lexists(target) and os.access(target, os.W_OK):
        return
    above = target.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise InputError(f"{path}: cannot write here ({above} is a file); choose another output folder")
    if not os.access(above, os.W_OK | os.X_OK) or (os.path.lexists(target) and target.is_dir()):
        read_only = os.statvfs(above).f_flag & os.ST_RDONLY
        why = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise InputError(f"{path}: cannot write here ({why}); choose another output folder")


def refuse_inputs(path: Path, inputs: Iterable[Path], *, folder: bool = True) -> None:
    """Refuse an output that is, holds or replaces a part of an input.

    Args:
        path: the output.
        inputs: files and folders that it is made of.
        folder: it is a folder, which may not lie in an input either.

    Raises:
        InputError: it is one.
    """
    target = Path(os.path.realpath(path))
    for one in inputs:
        source = Path(os.path.realpath(one))
        if _same(target, source):
            raise InputError(f"{path}: is the input {one}; give another output")
        if any(_same(target, above) for above in source.parents):
            raise InputError(f"{path}: holds the input {one}; give another output")
        if folder and source.is_dir() and any(_same(source, above) for above in target.parents):
            raise InputError(f"{path}: lies in the input {one}; give another output")
        if source.is_dir() and target.is_file() and any(_same(target, file) for file in source.rglob("*")):
            raise InputError(f"{path}: is a file of the input {one}; give another output")


def _same(one: Path, other: Path) -> bool:
    if one == other:
        return True
    with suppress(OSError):
        return one.samefile(other)
    return False


def _must_be_within(target: Path) -> bool:
    """Return whether a folder itself must stay: mount points, and where nothing can be put beside it."""
    return target.is_dir() and (
        os.path.ismount(target) or _same(target, Path.cwd()) or not os.access(target.parent, os.W_OK | os.X_OK)
    )


def _exchange(temporary: Path, target: Path, kind: ResultKind, fresh: Mapping[str, str]) -> bool:
    """Put a whole folder in the place of an older one, if all of that is ours; return whether it was done."""
    if target.is_dir() and (next(Written(target).others(), None) is not None or _holds_temporaries(target)):
        return False
    Written(temporary).note(kind, {name: [sha256] for name, sha256 in fresh.items()})
    old = temporary.with_name(temporary.name + OLD)
    try:
        _keep_access(target, temporary)
        if not target.exists() or not any(target.iterdir()):
            temporary.replace(target)
            return True
        target.replace(old)
    except OSError as error:
        if error.errno not in _CANNOT_RENAME:
            raise
        return False
    try:
        temporary.replace(target)
    except BaseException:
        if not os.path.lexists(target):
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return True


def _holds_temporaries(folder: Path) -> bool:
    """Return whether something here looks like a temporary: it may be in use, or somebody's who names things so."""
    return any(is_temporary(path.name) for path in folder.iterdir())


def _keep_access(target: Path, temporary: Path) -> None:
    """Let those, and only those, at a file or folder who could get at the one that it replaces.

    Raises:
        OSError: it belongs to somebody else, and cannot be given to them.
    """
    with suppress(FileNotFoundError):
        state, mine = target.stat(), temporary.stat()
        if (state.st_uid, state.st_gid) != (mine.st_uid, mine.st_gid):
            os.chown(temporary, state.st_uid, state.st_gid)
        temporary.chmod(stat.S_IMODE(state.st_mode))


def _pour(temporary: Path, target: Path, kind: ResultKind, fresh: Mapping[str, str]) -> None:
    """Put files into a folder one by one, and take away what an older result of ours had besides."""
    written = Written(target)
    gone = [name for name in written.laid if name not in fresh and not written.is_others(name)]
    _put(temporary, target, kind, fresh)
    for name in gone:
        shutil.rmtree(target / name) if (target / name).is_dir() else (target / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            (target / name).parent.rmdir()
    written.note(kind, {name: [sha256] for name, sha256 in fresh.items()})


def _put(
    temporary: Path,
    target: Path,
    kind: ResultKind,
    fresh: Mapping[str, str],
    known: Callable[[Path], bool] = lambda _: False,
) -> None:
    """Put files into a folder one by one."""
    written = Written(target)
    refuse_changed(target, (name for name in fresh if not _is_known(target / name, fresh[name], known)))
    written.note(kind, written.begin(fresh))
    for name in fresh:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (temporary / name).replace(target / name)
        except OSError as error:
            if error.errno not in _CANNOT_RENAME:
                raise
            with temporary_beside(target / name, folder=False) as copy:
                shutil.copyfile(temporary / name, copy)
                copy.replace(target / name)
    written.note(kind, {**written.laid, **{name: [sha256] for name, sha256 in fresh.items()}})


def _is_laid(found: object) -> bool:
    """Return whether this is what a record says of the files."""
    return isinstance(found, dict) and all(isinstance(sums, list) for sums in found.values())


def _is_known(path: Path, checksum: str, known: Callable[[Path], bool]) -> bool:
    """Return whether a file that may not be in the record may be replaced: it is the same, or known as ours."""
    return path.is_file() and not path.is_symlink() and (sha256(path) == checksum or known(path))


def _files(folder: Path) -> list[str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [name for path in paths if (name := path.relative_to(folder).as_posix()) != RECORD]


def _refuse_others(path: Path, written: Written) -> None:
    other = next(written.others(), None)
    if other is not None:
        changed = " as it is now" if other in written.laid else ""
        text = f"{path}: holds {other}, which caloforge did not write{changed}; choose another folder"
        raise InputError(f"{text} (--overwrite keeps such files and writes beside them)")


@contextmanager
def _refusals_told(path: Path) -> Iterator[None]:
    """Tell what the system says to making or placing a result."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputEnded(f"{path}: who reads it has gone") from error
    except OSError as error:
        if for_want_of_space(error):
            raise NoSpace(path.parent) from error
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot write here ({error.strerror or error}); choose another output folder")
