"""A service for planners: the lines of an order file, overrides of them, what these have saved.

The Sunday run writes ``orders_<day>.csv`` by :func:`write_orders`. Planners override its lines
until one of them sends it: then ``orders_<day>.sent`` is what the supplier gets, written once.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> line = dict(zip(COLUMNS, ("S01", "meat-01", 10, 4, 40, "model")))
>>> write_orders(Path(folder.name) / "orders_2025-01-05.csv", pd.DataFrame([line]))
>>> service = Service(Path(folder.name), Prices(short=5, over=2), {hashed("a key"): "anna"})
>>> wish = b'''{"run": "orders_2025-01-05", "line": "S01 meat-01", "units": 60, "after": 0,
...             "reason": "a street fair"}'''
>>> service.override(wish, "a key")["model"]
40
>>> service.orders("orders_2025-01-05")["lines"][0]["units"]
60
>>> service.send(b'{"run": "orders_2025-01-05"}', "a key")["lines"]
1
>>> service.desk.log.close(), folder.cleanup()
(None, None)
"""

from __future__ import annotations

import csv
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from casebook.project import write_whole
from casebook.serving.api_keys import hashed
from casebook.serving.app import Problem, bare_app, body_of, parsed, reply, serve_calls
from casebook.serving.log import Log, LogFailed
from casebook.serving.overrides import TABLES, Desk, Prices

#: Cases of a line, units of a case, bytes of a body.
MOST, PACK, BYTES = 60, 48, 2_000
COLUMNS = ("store", "product", "cases", "pack", "units", "source")
LOG = "overrides.db"
#: Who may bill overrides, and do nothing else.
LEDGER = "ledger"
Lines = dict[str, dict[str, Any]]


# Order files ---------------------------------------------------------------------------------


def is_run(name: str) -> bool:
    """Say whether this is the name of a run: ``orders_`` and a day.

    >>> is_run("orders_2025-01-05"), is_run("orders_2025-13-05"), is_run("orders_test")
    (True, False, False)
    """
    try:
        return name == f"orders_{date.fromisoformat(name[7:])}"
    except ValueError:
        return False


def read_orders(content: bytes, most: int = MOST) -> Lines:
    """Return the lines of an order file (CSV in UTF-8 with ``COLUMNS``), by store and product.

    Raises
    ------
    ValueError
        With what is wrong and in which line, for a file that nobody may send: an empty one, one
        with a line twice, of more than ``most`` cases, or whose units are not cases times pack.
    """
    try:
        text = io.StringIO(content.decode("utf-8"), newline="")
        head, *rows = list(csv.reader(text, strict=True)) or [[]]
    except csv.Error as error:
        raise ValueError(f"no CSV: {error}") from None
    if tuple(head) != COLUMNS or not rows:
        what = f"{len(rows)} lines with the columns {', '.join(head)[:80]!r}"
        raise ValueError(f"{what}: one or more, with {', '.join(COLUMNS)}")
    lines: Lines = {}
    for place, row in enumerate(rows, 2):
        names, numbers = row[:2], row[2:5]
        good = len(row) == len(COLUMNS) and all(t.isprintable() and t.strip() for t in row)
        good &= not any(" " in text for text in names)
        if good and all(t.isascii() and t.isdigit() and len(t) < 7 for t in numbers):
            cases, pack, units = map(int, numbers)
            good = cases <= most and 1 <= pack <= PACK and units == cases * pack
            one = dict(zip(COLUMNS, (*names, cases, pack, units, row[5]), strict=True))
            if good and lines.setdefault(" ".join(names), one) is one:
                continue
        raise ValueError(
            f"line {place}, {','.join(row)[:60]!r}: once for store and product, at most {most} "
            f"cases of 1 to {PACK}, units are cases times pack"
        )
    return lines


def _as_text(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, columns=list(COLUMNS), lineterminator="\n").encode()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other threads and processes out of a folder's orders for a block."""
    handle = os.open(folder / "orders.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(ImportError):  # where the system has no such locks
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)  # freed with the handle
        yield
    finally:
        os.close(handle)


def write_orders(
    path: Path, lines: pd.DataFrame, notes: Iterable[str] = (), most: int = MOST
) -> None:
    """Write the order file of a run, and its notes beside it; the same one again is no change.

    Parameters
    ----------
    path : Path
        ``orders_<day>.csv``; its folder is made if need be.
    lines : DataFrame
        With ``COLUMNS``, at most ``most`` cases each.
    notes : iterable of str
        What planners must know of the run, such as lines that were cut.

    Raises
    ------
    ValueError
        When the orders were sent, when planners have overridden lines of a file that is there and
        another, or for lines that nobody may send. What is there stays as it is.
    """
    run, content = path.stem, _as_text(lines)
    if not is_run(run) or path.suffix != ".csv":
        raise ValueError(f"{path.name} is no order file: call it orders_2025-01-05.csv, by day.")
    read_orders(content, most)
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone_in(path.parent):
        if path.with_suffix(".sent").exists():
            raise ValueError(f"the orders of {run} have been sent: nothing is written.")
        if path.exists() and path.read_bytes() != content and _overridden(path):
            what = f"planners have overridden lines of {run}: nothing is written"
            raise ValueError(f"{what}. Take the file away, and they must confirm each of them.")
        told = "".join(" ".join(note.split()) + "\n" for note in notes)
        write_whole(path.with_suffix(".notes"), told.encode())
        write_whole(path, content)


def _overridden(path: Path) -> bool:
    """Say whether lines of a run have been overridden; the desk may be at work."""
    with suppress(FileNotFoundError), Log(path.parent / LOG, TABLES, read_only=True) as log:
        return bool(log.find("override", run=path.stem))
    return False


# The service ---------------------------------------------------------------------------------


class Sending(BaseModel):
    """Which run is sent."""

    model_config = ConfigDict(extra="forbid", strict=True)
    run: str


class Wish(Sending):
    """What a planner sends; ``after`` is the ``sequence`` that the line had when it was read."""

    line: str
    units: float
    reason: str
    after: int


class Wanted(Sending):
    """What was wanted of a line: units, and whether they are an estimate."""

    line: str
    wanted: float
    sold_out: bool


class Service:
    """Answers about the orders of the last run; a file ``<run>.sent`` beside them closes it.

    Parameters
    ----------
    folder : Path
        Of the order files and the log of overrides.
    prices : Prices
    planners : mapping of str to str
        From the hash of a key (:func:`casebook.serving.api_keys.hashed`) to a planner's name, or
        to ``LEDGER``. Without any, orders can only be read.
    packs : mapping of str to int
        Units of a case of each line that may be ordered, by store and product: a planner may add
        lines that the run left out.
    check : callable, optional
        Raises ``ValueError`` for a table with ``COLUMNS`` that the supplier may not get, such as
        one beyond the budget; asked for each override, and again for what is sent.
    by_line : callable, optional
        Prices of a line in place of ``prices``.
    most : int
        Cases of a line.

    Raises
    ------
    FileNotFoundError
        Without the folder.
    """

    def __init__(
        self,
        folder: Path,
        prices: Prices,
        planners: Mapping[str, str] | None = None,
        packs: Mapping[str, int] | None = None,
        check: Callable[[pd.DataFrame], None] | None = None,
        by_line: Callable[[str], Prices] | None = None,
        most: int = MOST,
    ) -> None:
        self.folder, self.most, self.check = Path(folder), most, check
        if not self.folder.is_dir():
            raise FileNotFoundError(f"There is no folder {self.folder}: the Sunday run makes it.")
        self.planners, self.packs = dict(planners or {}), dict(packs or {})
        self.by_line = by_line or (lambda line: prices)
        self.desk = Desk(self.folder / LOG, prices, most * PACK, self._open)

    def orders(self, run: str) -> Mapping[str, Any]:
        """Return the lines of a run, the planners' units where there are some.

        ``confirm`` has the overrides that were made of another file than the one that is there:
        they do not hold until a planner sends them again, ``after`` their ``sequence``.
        """
        lines, confirm = self._made(run)
        holding, notes = self.desk.holding(run), self.folder / f"{run}.notes"
        said = notes.read_text("utf-8", "replace").splitlines() if notes.exists() else None
        told = [{"line": line, "sequence": holding[line]["sequence"] if line in holding else 0}
                | row for line, row in lines.items()]  # fmt: skip
        again = [{name: holding[line][name] for name in ("line", "sequence", "planner", "units")}
                 for line in confirm]  # fmt: skip
        return {"run": run, "open": self._open(run), "notes": said, "confirm": again,
                "lines": told}  # fmt: skip

    def value(self) -> Mapping[str, Any]:
        """Return what overrides have saved, by planner."""
        rows = self.desk.added_value().to_dict("records")
        return {"planners": [{name: None if value != value else value
                              for name, value in row.items()} for row in rows]}  # fmt: skip

    def _runs(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("orders_*.csv") if is_run(p.stem))

    def _sent(self, run: str) -> Path:
        return self.folder / f"{run}.sent"

    def _open(self, run: str) -> bool:
        return self._runs()[-1:] == [run] and not self._sent(run).exists()

    def _file(self, run: str) -> Lines:
        """Return what was sent of a run, or else what the run wrote."""
        if run not in (runs := self._runs()):
            what = f"There are no orders {run[:40]!r}."
            raise Problem(404, "unknown run", what, f"Ask for {max(runs, default='a Sunday')}.")
        path = self._sent(run) if self._sent(run).exists() else self.folder / f"{run}.csv"
        try:
            return read_orders(path.read_bytes(), self.most)
        except (ValueError, OSError) as error:
            do = "Run the Sunday batch again: it writes the file anew."
            raise Problem(500, "order file broken", f"{path.name}: {error}.", do) from None

    def _made(self, run: str) -> tuple[Lines, list[str]]:
        """Return the lines of a run with the overrides that hold, and those to be confirmed."""
        lines, confirm = self._file(run), []
        if self._sent(run).exists():
            return lines, confirm
        for line, row in self.desk.holding(run).items():
            model, pack = self._line(lines, line)
            if model != row["model"] or (row["units"] and (not pack or row["units"] % pack)):
                confirm.append(line)
            elif row["units"] != model:
                lines[line] = _planned(line, int(row["units"]), pack)
        return lines, confirm

    def _line(self, lines: Lines, line: str) -> tuple[int, int]:
        """Return units and pack of a line; 0 for what is not known."""
        if line in lines:
            return lines[line]["units"], lines[line]["pack"]
        return 0, self.packs.get(line, 0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others out for a look and what depends on it."""
        with self.desk.log.alone(), alone_in(self.folder):
            yield

    def override(self, raw: bytes, key: str) -> Mapping[str, Any]:
        """Take an override of the last run; the answer has its place in the log."""
        planner, wish = self._planner(key), parsed(Wish, raw)
        with self._alone():
            self._need_open(wish.run)
            model, pack = self._line(self._file(wish.run), wish.line)
            back = not wish.units and wish.line in self.desk.holding(wish.run)
            if not (pack or back):
                what = f"{wish.run} has no line {wish.line[:40]!r}."
                raise Problem(404, "unknown line", what, "Send store and product of the orders.")
            if not (0 <= wish.units <= self.most * pack) or (wish.units and wish.units % pack):
                what = f"{wish.units:g} units are not 0 to {self.most} whole cases of {pack}."
                raise Problem(422, "units", what, "Send the units of whole cases.")
            lines, _ = self._made(wish.run)
            if pack:
                self._check(lines | {wish.line: _planned(wish.line, int(wish.units), pack)}, 422)
            given = wish.line, planner, model, wish.units, wish.reason, wish.after
            row = self.desk.place(wish.run, *given)
        return {"run": wish.run, "line": wish.line, "sequence": row["sequence"], "model": model}

    def send(self, raw: bytes, key: str) -> Mapping[str, Any]:
        """Close the last run: what goes to the supplier is written once and never again.

        Lines that planners took to 0 are left out.
        """
        planner, run = self._planner(key), parsed(Sending, raw).run
        with self._alone():
            self._need_open(run)
            lines, confirm = self._made(run)
            if confirm:
                what = f"{run} was made anew after {len(confirm)} overrides: {confirm[:5]}."
                do = "Override these lines again, or to what the run now says, then send."
                raise Problem(409, "run changed", what, do)
            table = self._check(lines, 409)
            if table.empty:
                raise Problem(409, "empty", f"All lines of {run} are 0.", "Call the supplier.")
            self._write_sent(run, _as_text(table))
        return {"run": run, "lines": len(table), "planner": planner}

    def settle(self, raw: bytes, key: str) -> Mapping[str, Any]:
        """Bill an override of a run that was sent; None where there is none to bill."""
        if self.planners.get(hashed(key)) != LEDGER:
            raise Problem(403, "not the ledger", "Planners bill nobody.", "Leave it to the ledger.")
        given = parsed(Wanted, raw)
        if not self._sent(given.run).exists() or given.run not in self._runs():
            what = f"No orders {given.run[:40]!r} have been sent."
            raise Problem(409, "too early", what, "Bill what was sent.")
        price = self.by_line(given.line)
        saved = self.desk.settle(given.run, given.line, given.wanted, given.sold_out, price)
        return {"run": given.run, "line": given.line, "saved": saved}

    def _planner(self, key: str) -> str:
        name = self.planners.get(hashed(key), LEDGER)
        if name == LEDGER:
            what, do = "This key is no planner's.", "Send Authorization: Bearer and your key."
            raise Problem(401, "unknown planner", what, do)
        return name

    def _need_open(self, run: str) -> None:
        self._file(run)
        if self._sent(run).exists():
            what = f"The orders of {run} have been sent."
            raise Problem(409, "too late", what, "Read them; the next run is on Sunday.")
        if not self._open(run):
            what = f"{run} is not the last run: that is {self._runs()[-1]}."
            raise Problem(409, "another run", what, "Read the last one before you change it.")

    def _check(self, lines: Lines, status: int) -> pd.DataFrame:
        """Return the lines with cases as a table that the supplier may get."""
        rows = [row for row in lines.values() if row["cases"]]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table = table.astype({"store": object, "product": object, "source": object})
        try:
            if self.check is not None and rows:
                self.check(table)
        except ValueError as error:
            do = "Change the lines that are named, or run the Sunday batch again."
            raise Problem(status, "contract", str(error)[:500], do) from None
        return table

    def _write_sent(self, run: str, content: bytes) -> None:
        """Put a whole file in its place, where there is none."""
        part = self.folder / f".{run}.{uuid.uuid4().hex}.part"
        try:
            write_whole(part, content)
            os.link(part, self._sent(run))
        except FileExistsError:
            what = f"The orders of {run} have been sent."
            raise Problem(409, "too late", what, "Read them.") from None
        except OSError as error:
            what = f"The orders of {run} were not written, nothing was sent: {error.strerror}."
            raise Problem(507, "not written", what, "Free space on the disk, send again.") from None
        finally:
            part.unlink(missing_ok=True)


def _planned(line: str, units: int, pack: int) -> dict[str, Any]:
    """Return the line of an order file that a planner wants."""
    store, _, product = line.partition(" ")
    return dict(zip(COLUMNS, (store, product, units // pack, pack, units, "planner"), strict=True))


# HTTP ----------------------------------------------------------------------------------------


def _posted(call: Callable[[bytes, str], Mapping[str, Any]]):
    """Return a handler that hands a body and the key of ``Authorization: Bearer`` to a call."""
    from starlette.concurrency import run_in_threadpool

    async def handle(request):
        raw = await body_of(request, BYTES)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            return reply(await run_in_threadpool(call, raw, key))
        except LogFailed as failed:
            do = "If its disk is full free some space; then send the same again."
            raise Problem(503, "log not written", str(failed), do) from None

    return handle


def app_of(service: Service):
    """Return the application of a service."""
    app = bare_app("orders")
    serve_calls(app, {}, {"/orders/{run}": service.orders, "/value": service.value}, BYTES)
    for route in ("override", "send", "settle"):
        path = "/overrides" if route == "override" else f"/{route}"
        app.add_route(path, _posted(getattr(service, route)), methods=["POST"])
    return app


def app_from(folder: str, short: float, over: float, planners: Mapping[str, str] | None = None):
    """Return the application over a folder of order files; planners as of :class:`Service`."""
    return app_of(Service(Path(folder), Prices(short, over), planners))
