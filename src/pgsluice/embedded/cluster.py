"""A local PostgreSQL cluster that lives as long as a ``with`` block."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self, TypeVar
from urllib.parse import quote

from psycopg import pq

from pgsluice.embedded.binaries import Binaries, are_open, copy_installation, copy_wheel, environment, find_binaries
from pgsluice.errors import EmbeddedError

T = TypeVar("T")

_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "50",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    # a killed server loses nothing by these, only a crashed machine does
    "fsync": "off",
    "full_page_writes": "off",
}
_HBA_LOCAL = "local all all trust\nlocal replication all trust\n"
_HBA_TCP = "host all all 127.0.0.1/32 scram-sha-256\n"
_SETTING_NAME = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)

_SUPERUSER = "postgres"
_UNPRIVILEGED = "nobody"
_SOCKET_PORT = 5432
_SOCKET_BYTES = 102
_POLL_SECONDS = 0.02
_READY_SECONDS = 30
_INITDB_SECONDS = 120
_REMOVE_TRIES = 100
# after SIGQUIT the postmaster itself kills what still hangs, five seconds later
_QUIT = ((signal.SIGQUIT, 8.0), (signal.SIGKILL, 5.0))
_FAST = ((signal.SIGINT, 5.0), *_QUIT)

_PORT_TAKEN = "could not create any TCP/IP sockets"
_STILL_IN_USE = "is still in use"


class Cluster:
    """One PostgreSQL server with a data folder of its own, both gone after the ``with`` block.

    It is reached by a Unix socket that only this user (and, started by root, ``nobody``) can open. SIGTERM
    ends the block as Ctrl-C does, by ``SystemExit(143)``, unless the program has a handler of its own.
    """

    def __init__(
        self,
        major: int = 18,
        *,
        pg_bin: Path | None = None,
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Choose; nothing is started before the ``with`` block.

        Args:
            major: of PostgreSQL, 18.
            pg_bin: a folder of binaries instead of those found.
            tcp: listen at 127.0.0.1 too, on a free port and with a random password.
            settings: of postgresql.conf, in addition to ours or instead of them.
        """
        self.major = major
        self._pg_bin = pg_bin
        self._tcp = tcp
        self._settings = {**_SETTINGS, **(settings or {})}
        self._password = ""
        self._port = _SOCKET_PORT
        self._home: Path | None = None
        self._binaries: Binaries | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        """Return major, state and folder; never the password."""
        state = f"running in {self._home}" if self._process else "not running"
        return f"<Cluster {self.major}, {state}>"

    def __enter__(self) -> Self:
        """Make the data folder and start the server.

        Returns:
            The cluster, answering.

        Raises:
            EmbeddedError: no binaries of that major, or the server does not start, with the end of its log.
        """
        _join(self)
        try:
            self._create()
            self.start()
        except OSError as error:
            self.close()
            raise EmbeddedError(f"PostgreSQL {self.major} could not be started: {error}.", hint=_hint()) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove its folder."""
        self.close()

    def close(self) -> None:
        """Stop the server and remove its folder, as the end of the block does; once is enough."""
        if self not in _live:  # closed already, or this is a forked child, to whom it does not belong
            return
        self.stop()
        if self._home:
            _remove(self._home)
        self._home = self._binaries = None
        _leave(self)

    @property
    def dsn(self) -> str:
        """The URI of database ``postgres`` as superuser ``postgres``, by the socket."""
        return self.dsn_for("postgres")

    @property
    def tcp_dsn(self) -> str:
        """The same at 127.0.0.1 with the password; an EmbeddedError without ``tcp=True``."""
        if not self._tcp:
            raise EmbeddedError("This cluster has no TCP listener.", hint="Ask with Cluster(tcp=True).")
        return f"postgresql://{_SUPERUSER}:{quote(self._password)}@127.0.0.1:{self.port}/postgres"

    def dsn_for(self, dbname: str, user: str | None = None, password: str | None = None) -> str:
        """Return the URI of a database, by the socket.

        Args:
            dbname: the database.
            user: the role; the superuser ``postgres`` where None.
            password: of that role; the socket asks for none.
        """
        login = quote(user or _SUPERUSER, safe="")
        if password is not None:
            login = f"{login}:{quote(password, safe='')}"
        where = f"host={quote(str(self.socket_dir), safe='')}&port={self.port}"
        return f"postgresql://{login}@/{quote(dbname, safe='')}?{where}"

    @property
    def bin(self) -> Path:
        """The folder with ``postgres`` and ``psql``."""
        return _inside(self._binaries).bin

    @property
    def data(self) -> Path:
        """The data folder."""
        return _inside(self._home) / "data"

    @property
    def socket_dir(self) -> Path:
        """The folder of the Unix socket."""
        return _inside(self._home) / "run"

    @property
    def port(self) -> int:
        """The TCP port, which names the socket too."""
        return self._port

    @property
    def postmaster_pid(self) -> int:
        """The process id of the server; an EmbeddedError while it is stopped."""
        return _inside(self._process).pid

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines the server wrote.

        Args:
            lines: how many at most.
        """
        log = self._log
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def start(self) -> None:
        """Start the server unless it answers; also after it was killed.

        With ``tcp=True`` a port that was taken meanwhile is replaced, so read the connection strings again.

        Raises:
            EmbeddedError: it does not come up within 30 s, with the end of its log.
        """
        if self._answers():
            return
        self.stop(immediate=True)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._try_start(deadline):
            time.sleep(_POLL_SECONDS)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server and keep its data; nothing where it is stopped already.

        Args:
            immediate: as a crash would, without a checkpoint, so that the next start recovers.
        """
        process = self._process
        if process is None:
            return
        for number, seconds in _QUIT if immediate else _FAST:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a server halted by SIGSTOP would never hear the other
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
        self._process = None

    @property
    def _log(self) -> Path:
        return _inside(self._home) / "log"

    def _create(self) -> None:
        binaries = find_binaries(self.major, self._pg_bin)
        self._binaries = _runnable(binaries) if _server_user() else binaries
        with _signals_held():
            self._home = _new_folder()
        self._log.touch(mode=0o600)
        for folder in (self.data, self.socket_dir):
            folder.mkdir(mode=0o700)
            _give_to_server(folder)
        self._port = _free_port() if self._tcp else _SOCKET_PORT
        self._initdb()
        self._configure()

    def _initdb(self) -> None:
        password_file = _inside(self._home) / "password"
        self._password = secrets.token_urlsafe(24)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password, encoding="ascii")
        _give_to_server(password_file)
        options = ["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=trust"]
        login = [f"--username={_SUPERUSER}", f"--pwfile={password_file}"]
        process = self._spawn("initdb", f"--pgdata={self.data}", *options, *login)
        try:
            code = process.wait(_INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failure(f"initdb did not end within {_INITDB_SECONDS} s") from None
        if code != 0:
            raise self._failure(f"initdb failed with code {code}")
        self._process = None
        password_file.unlink()

    def _configure(self) -> None:
        (self.data / "pg_hba.conf").write_text(_HBA_LOCAL + (_HBA_TCP if self._tcp else ""), encoding="ascii")
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(_setting_line(name, value) for name, value in self._settings.items())

    def _try_start(self, deadline: float) -> bool:
        """Return whether the server answers; False is worth another try."""
        before = self._log.stat().st_size
        address = "127.0.0.1" if self._tcp else ""
        where = ["-k", str(self.socket_dir), "-p", str(self.port), "-c", f"listen_addresses={address}"]
        process = self._spawn("postgres", "-D", str(self.data), *where)
        while time.monotonic() < deadline:
            if self._answers():
                return True
            if process.poll() is not None:
                self._process = None
                return self._explain_death(process.returncode, before)
            time.sleep(_POLL_SECONDS)
        self.stop(immediate=True)
        raise self._failure(f"the server did not answer within {_READY_SECONDS} s")

    def _explain_death(self, code: int, before: int) -> bool:
        """Return False where another try can help, the log having been `before` bytes long; else raise."""
        said = self._log.read_bytes()[before:].decode("utf-8", "replace")
        if _PORT_TAKEN in said:
            self._port = _free_port()
        elif _STILL_IN_USE not in said:  # the processes of a killed server go by themselves
            raise self._failure(f"the server ended with code {code}")
        return False

    def _failure(self, what: str) -> EmbeddedError:
        name = f"PostgreSQL {self.major}"
        return EmbeddedError((f"{name} could not be started: {what}. Its log ends:", *self.log_tail().splitlines()))

    def _answers(self) -> bool:
        return pq.PGconn.ping(f"{self.dsn}&connect_timeout=2".encode()) == pq.Ping.OK

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = _server_user()
        with _signals_held(), self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - PostgreSQL's programs with our arguments
                [str(self.bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                env=environment(),
                umask=0o077,
                start_new_session=True,  # Ctrl-C at a terminal goes to a whole group: not to this one
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        return self._process


def _inside(value: T | None) -> T:
    if value is None:
        raise EmbeddedError("The cluster is not running.", hint="Use it inside its with block.")
    return value


def _server_user() -> pwd.struct_passwd | None:
    """Return whom the server runs as where that is not us: PostgreSQL refuses root."""
    return pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None


def _hint() -> str:
    user = _server_user()
    return f"Started by root, it runs as {user.pw_name}, who must be able to run its binaries." if user else ""


def _give_to_server(path: Path) -> None:
    user = _server_user()
    if user:
        os.chown(path, user.pw_uid, user.pw_gid)


def _new_folder() -> Path:
    """Make a folder of ours; the server's user may pass through it but not list it."""
    folder = Path(tempfile.mkdtemp(prefix="pgsluice-", dir=_base_folder()))
    if _server_user():
        folder.chmod(0o711)
    return folder


def _base_folder() -> Path:
    """Return TMPDIR, or /tmp where TMPDIR is too long for a socket or closed to the server's user."""
    base = Path(tempfile.gettempdir()).resolve()
    longest = base / "pgsluice-12345678" / "run" / f".s.PGSQL.{2**16}.lock"
    fits = len(os.fsencode(longest)) <= _SOCKET_BYTES
    reachable = not _server_user() or all(folder.stat().st_mode & 0o001 for folder in (base, *base.parents))
    return base if fits and reachable else Path("/tmp")  # noqa: S108


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _setting_line(name: str, value: str) -> str:
    if not _SETTING_NAME.fullmatch(name):
        raise EmbeddedError(f"{name!r} is no name of a setting.")
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"{name} = '{escaped}'\n"


def _remove(folder: Path) -> None:
    for _ in range(_REMOVE_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_POLL_SECONDS)  # the processes of a killed server may still write for a moment
    shutil.rmtree(folder)


# What is shared by the clusters of one process.

_live: list[Cluster] = []
_copies: dict[Path, tuple[Path, Binaries]] = {}
_lock = threading.RLock()


def _join(cluster: Cluster) -> None:
    with _lock:
        if cluster in _live:
            raise EmbeddedError("The cluster is running already.", hint="Make another one.")
        _live.append(cluster)
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _exit_on_signal)


def _leave(cluster: Cluster) -> None:
    with _lock:
        if _live == [cluster]:
            _remove_copies()
            if _in_main_thread() and signal.getsignal(signal.SIGTERM) is _exit_on_signal:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _live.remove(cluster)


def _runnable(binaries: Binaries) -> Binaries:
    """Return binaries the server's user can run: they may lie in a folder closed to it, as /root is."""
    if not binaries.from_wheel and are_open(binaries):
        return binaries
    with _lock:
        if binaries.bin not in _copies:
            _copies[binaries.bin] = _copied(binaries)
        return _copies[binaries.bin][1]


def _copied(binaries: Binaries) -> tuple[Path, Binaries]:
    folder = _new_folder()
    try:
        return folder, (copy_wheel if binaries.from_wheel else copy_installation)(binaries, folder)
    except BaseException:
        _remove(folder)
        raise


def _remove_copies() -> None:
    while _copies:
        source, (folder, _) = next(iter(_copies.items()))
        _remove(folder)
        del _copies[source]


@atexit.register
def _close_all() -> None:
    with contextlib.ExitStack() as stack:  # each is closed, even where another fails to
        for cluster in _live:
            stack.callback(cluster.close)


def _forget() -> None:
    """Leave in a forked child what is its parent's."""
    _live.clear()
    _copies.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Put SIGINT and SIGTERM off, so that what is made in the block is known to its owner."""
    if not _in_main_thread():
        yield
        return
    arrived: list[int] = []
    found = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    ours = [(number, handler) for number, handler in found if callable(handler)]
    for number, _ in ours:
        signal.signal(number, lambda number, _frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in ours:
            signal.signal(number, handler)
    for came in arrived:
        signal.raise_signal(came)
