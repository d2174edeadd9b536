"""Readers: one function for each public data set, from its file to a tidy frame."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd


def tourism(path: Path) -> pd.DataFrame:
    """Read Australian domestic overnight trips, 1998Q1 to 2017Q4.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("tourism")``: the R data file of the package tsibble.

    Returns
    -------
    DataFrame, 24,320 rows
        ``unique_id`` (``region/purpose``), ``state``, ``region``, ``purpose``, ``ds`` (first
        day of the quarter) and ``y`` (thousand overnight trips); 304 series of 80 quarters.

    Raises
    ------
    ValueError
        If the file does not hold the 304 complete series.

    References
    ----------
    Tourism Research Australia, in the R package tsibble (``tsibble::tourism``).
    """
    import rdata

    with warnings.catch_warnings():
        # The R classes of the table and of the quarter (days since 1970) have no
        # Python counterpart; the numbers below them are what is read here.
        warnings.filterwarnings("ignore", message="Missing constructor for R class")
        table = rdata.read_rda(path)["tourism"]
    frame = pd.DataFrame(
        {
            "unique_id": [
                f"{region}/{purpose}"
                for region, purpose in zip(table["Region"], table["Purpose"], strict=True)
            ],
            "state": table["State"].astype(str).to_numpy(),
            "region": table["Region"].astype(str).to_numpy(),
            "purpose": table["Purpose"].astype(str).to_numpy(),
            "ds": pd.to_datetime(table["Quarter"].to_numpy(), unit="D").as_unit("ns"),
            "y": table["Trips"].to_numpy(float),
        }
    )
    series, quarters = frame["unique_id"].nunique(), frame["ds"].nunique()
    if (series, quarters, len(frame)) != (304, 80, 304 * 80):
        raise ValueError(
            f"{path} holds {series} series, {quarters} quarters and {len(frame)} rows; "
            "expected 304, 80 and 24,320."
        )
    return frame.sort_values(["unique_id", "ds"], ignore_index=True)


#: Rossmann's columns by the names of the course.
ROSSMANN_COLUMNS = {
    "Store": "store",
    "Date": "ds",
    "Sales": "y",
    "Promo": "promotion",
    "StoreType": "type",
    "Assortment": "assortment",
    "CompetitionDistance": "distance",
}


def rossmann(path: Path) -> pd.DataFrame:
    """Read daily sales of 1,115 German drug stores, 2013-01-01 to 2015-07-31.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("rossmann")``: the training data of the Kaggle competition of 2015,
        joined with the stores. Only days on which a store was open and sold something have a row.

    Returns
    -------
    DataFrame, 844,338 rows
        ``store`` (1 to 1115), ``ds``, ``y`` (sales, euro), ``promotion`` (0 or 1), ``type`` (a to
        d), ``assortment`` (a to c), ``distance`` (metres to the next competitor; three stores have
        none), by store and day.

    Raises
    ------
    ValueError
        If columns are missing, a store and day is repeated, or it is not the whole set.

    References
    ----------
    Guo & Berkhahn (2016), *Entity Embeddings of Categorical Variables*, arXiv:1604.06737.
    """
    table = pd.read_parquet(path)
    if missing := sorted(set(ROSSMANN_COLUMNS) - set(table)):
        raise ValueError(f"{path} has no column {missing}: it is not Rossmann's table.")
    frame = table[list(ROSSMANN_COLUMNS)].rename(columns=ROSSMANN_COLUMNS)
    frame["ds"] = frame["ds"].dt.as_unit("ns")
    stores, twice = frame["store"].nunique(), int(frame.duplicated(["store", "ds"]).sum())
    closed = int((frame["y"] <= 0).sum())
    if (stores, len(frame), twice, closed) != (1115, 844_338, 0, 0):
        raise ValueError(
            f"{path} holds {stores} stores, {len(frame):,} rows, {twice} repeated days and "
            f"{closed} days without sales; expected 1,115, 844,338, 0 and 0."
        )
    return frame.sort_values(["store", "ds"], ignore_index=True)


#: The Fraud Handbook's columns by the names of the course.
HANDBOOK_COLUMNS = {
    "TRANSACTION_ID": "transaction",
    "TX_DATETIME": "time",
    "CUSTOMER_ID": "customer",
    "TERMINAL_ID": "terminal",
    "TX_AMOUNT": "amount",
    "TX_FRAUD": "is_fraud",
    "TX_FRAUD_SCENARIO": "scenario",
}


def fraud_handbook(path: Path) -> pd.DataFrame:
    """Read simulated card transactions of the Fraud Detection Handbook, 66 days of them.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("fraud_handbook")``: the Handbook's daily files from 2018-06-10 to
        2018-08-14 in one table.

    Returns
    -------
    DataFrame, 632,496 rows
        ``transaction``, ``time``, ``customer``, ``terminal``, ``amount``, ``is_fraud`` (0 or 1),
        ``scenario`` (0 genuine, 1 amounts over 220, 2 compromised terminals, 3 compromised
        customers), in order of time. The data are simulated, by others.

    Raises
    ------
    ValueError
        If columns are missing, values are missing or doubled, or it is not all 66 days.

    References
    ----------
    Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card
    Fraud Detection: Practical Handbook*, Université Libre de Bruxelles, chapter 3.
    """
    table = pd.read_parquet(path)
    if missing := sorted(set(HANDBOOK_COLUMNS) - set(table)):
        raise ValueError(f"{path} has no column {missing}: it is not the Handbook's table.")
    frame = table[list(HANDBOOK_COLUMNS)].rename(columns=HANDBOOK_COLUMNS)
    frame["time"] = frame["time"].dt.as_unit("ns")
    days = frame["time"].dt.normalize().nunique()
    gaps, doubled = int(frame.isna().sum().sum()), int(frame["transaction"].duplicated().sum())
    if (days, len(frame), gaps, doubled) != (66, 632_496, 0, 0):
        raise ValueError(
            f"{path} holds {days} days, {len(frame):,} rows, {gaps} missing values and {doubled} "
            "repeated transactions; expected 66, 632,496, 0 and 0."
        )
    if not frame["is_fraud"].eq(frame["scenario"] > 0).all():
        raise ValueError(f"{path}: is_fraud and scenario contradict each other.")
    frame = frame.astype({"is_fraud": int, "scenario": int})
    return frame.sort_values(["time", "transaction"], ignore_index=True)


#: Types of all columns of the Handbook's daily files, as the one table has them.
_HANDBOOK_TYPES = {
    "TRANSACTION_ID": "int32",
    "TX_DATETIME": "datetime64[ns]",
    "CUSTOMER_ID": "int32",
    "TERMINAL_ID": "int32",
    "TX_AMOUNT": "float64",
    "TX_TIME_SECONDS": "int32",
    "TX_TIME_DAYS": "int32",
    "TX_FRAUD": "int8",
    "TX_FRAUD_SCENARIO": "int8",
}


def handbook_days(files: Sequence[bytes]) -> pd.DataFrame:
    """Put the Fraud Handbook's daily files together in one table.

    Parameters
    ----------
    files : sequence of bytes
        Pickled frames, one a day. Unpickling runs what a file says: these must be the very bytes
        whose hash has been checked (:func:`casebook.data.fetch.assemble`).

    Returns
    -------
    DataFrame
        The columns of the daily files in one form, in order of ``TRANSACTION_ID``.

    Raises
    ------
    ValueError
        If a file lacks a column.
    """
    days = [pd.read_pickle(io.BytesIO(content)) for content in files]
    for number, day in enumerate(days, 1):
        if missing := sorted(set(_HANDBOOK_TYPES) - set(day)):
            raise ValueError(f"daily file {number} of {len(days)} has no column {missing}")
    return _handbook_form(pd.concat(days))


def _handbook_form(table: pd.DataFrame) -> pd.DataFrame:
    table = table[list(_HANDBOOK_TYPES)].astype(_HANDBOOK_TYPES)
    return table.sort_values("TRANSACTION_ID", ignore_index=True)


def ulb(path: Path) -> pd.DataFrame:
    """Read a subset of the ULB card transactions: all 492 frauds and some of the genuine rows.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("ulb_1230")`` or ``real("ulb_4800")``: two subsets that other people
        drew from the 284,807 transactions of two days in September 2013.

    Returns
    -------
    DataFrame
        ``time`` (seconds after the first of all transactions), ``V1`` to ``V28`` (principal
        components of what may not be published), ``amount`` (euro), ``is_fraud`` (0 or 1), in
        order of time. 1,722 or 5,292 rows; rows that are doubled stay, as in the original.

    Raises
    ------
    ValueError
        If columns or values are missing, or there are not 492 frauds and rows beside them.

    References
    ----------
    Dal Pozzolo, Caelen, Johnson & Bontempi (2015), *Calibrating Probability with Undersampling
    for Unbalanced Classification*, IEEE Symposium Series on Computational Intelligence.
    """
    table = pd.read_csv(path)
    components = [f"V{i}" for i in range(1, 29)]
    wanted = ["Time", *components, "Amount", "Class"]
    if missing := [name for name in wanted if name not in table]:
        raise ValueError(f"{path} has no column {missing}: it is no subset of the ULB data.")
    names = {"Time": "time", "Amount": "amount", "Class": "is_fraud"}
    frame = table[wanted].rename(columns=names)
    frauds, gaps = int((frame["is_fraud"] == 1).sum()), int(frame.isna().sum().sum())
    genuine = int((frame["is_fraud"] == 0).sum())
    if frauds != 492 or gaps or not genuine or frauds + genuine != len(frame):
        raise ValueError(
            f"{path} holds {frauds} frauds and {genuine} genuine rows of {len(frame)}, and {gaps} "
            "missing values; expected 492 frauds, some genuine rows and no others."
        )
    frame["is_fraud"] = frame["is_fraud"].astype(int)
    return frame.sort_values("time", kind="stable", ignore_index=True)


COOKIE_ARMS = {"gate_30": "control", "gate_40": "treatment"}
COOKIE_RETENTION = ("retention_1", "retention_7")


def cookie_cats(path: Path) -> pd.DataFrame:
    """Read the players of Cookie Cats, a test of two levels for the first gate.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("cookie_cats")``.

    Returns
    -------
    DataFrame, 90,189 rows
        ``user``, ``arm`` (control: gate at level 30), ``rounds`` (played in 14 days),
        ``retention_1``, ``retention_7`` (came back a day, a week after the installation; 0 or 1).

    Raises
    ------
    ValueError
        If the file does not hold these players.
    """
    table = pd.read_csv(path)
    columns = ["userid", "version", "sum_gamerounds", *COOKIE_RETENTION]
    if list(table) != columns or len(table) != 90_189 or {*table["version"]} != {*COOKIE_ARMS}:
        raise ValueError(f"{path} does not hold the 90,189 players of Cookie Cats.")
    names = {"userid": "user", "version": "arm", "sum_gamerounds": "rounds"}
    table = table.rename(columns=names).replace({"arm": COOKIE_ARMS})
    return table.astype(dict.fromkeys(COOKIE_RETENTION, int))


def telco(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the telephone customers.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("telco")``.

    Returns
    -------
    features : DataFrame
        7,043 rows; numbers, and a column of 0 and 1 for each answer.
    churned : ndarray of bool

    Raises
    ------
    ValueError
        If columns are missing or the counts are not those of the published file.

    Notes
    -----
    Eleven customers have no ``TotalCharges``: all of them have joined this month (tenure 0), so it
    is 0.
    """
    table = pd.read_csv(path)
    wanted = {"customerID", "tenure", "Contract", "MonthlyCharges", "TotalCharges", "Churn"}
    if missing := sorted(wanted - {*table}):
        raise ValueError(f"{path} has no column {missing}: it is not the telephone customers.")
    total = pd.to_numeric(table["TotalCharges"], errors="coerce")
    blank = total.isna()
    if len(table) != 7_043 or blank.sum() != 11 or table.loc[blank, "tenure"].ne(0).any():
        raise ValueError(f"{path}: {len(table)} rows, {blank.sum()} blank: 7,043 and 11 expected.")
    rest = table.drop(columns=["customerID", "Churn"]).assign(TotalCharges=total.fillna(0))
    return pd.get_dummies(rest, dtype=float), table["Churn"].eq("Yes").to_numpy()


#: Hillstrom's two mails, and what the customers without one have in their place.
MAILS = {"womens": "Womens E-Mail", "mens": "Mens E-Mail"}
NO_MAIL = "No E-Mail"


def hillstrom(path: Path, mail: str = "womens") -> pd.DataFrame:
    """Read one mail of the experiment and the customers without one.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("hillstrom")``.
    mail : str
        ``"womens"`` or ``"mens"``.

    Returns
    -------
    DataFrame
        Numeric features, ``drawn`` (got the mail), ``visit``, ``spend``.

    Raises
    ------
    ValueError
        If the file has other columns or not 64,000 customers.
    """
    table = pd.read_csv(path)
    wanted = {"recency", "history", "mens", "womens", "zip_code", "newbie", "channel", "segment"}
    if missing := sorted((wanted | {"visit", "spend"}) - {*table}):
        raise ValueError(f"{path} has no column {missing}: it is not Hillstrom's experiment.")
    if len(table) != 64_000:
        raise ValueError(f"{path} has {len(table)} rows: Hillstrom's experiment has 64,000.")
    own = table[table["segment"].isin([MAILS[mail], NO_MAIL])].reset_index(drop=True)
    codes = pd.get_dummies(own[["zip_code", "channel"]], dtype=float)
    numbers = own[["recency", "history", "mens", "womens", "newbie"]].astype(float)
    outcome = own[["visit", "spend"]].assign(drawn=own["segment"] == MAILS[mail])
    return pd.concat([numbers, codes, outcome], axis=1)


def movielens(path: Path) -> pd.DataFrame:
    """Read the ratings of MovieLens latest-small.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("movielens")``.

    Returns
    -------
    DataFrame, 100,836 rows
        ``user``, ``item`` (numbers of the data set), ``rating`` (0.5 to 5 stars), ``at`` (UTC), in
        order of time.

    Raises
    ------
    ValueError
        If the file does not hold these ratings.

    References
    ----------
    Harper & Konstan (2015), *The MovieLens datasets: history and context*, ACM TiiS 5.
    """
    table = pd.read_csv(path)
    # The public copy names its column of films Id.
    table = table.rename(columns={"userId": "user", "movieId": "item", "Id": "item"})
    if [*table] != ["user", "item", "rating", "timestamp"] or len(table) != 100_836:
        raise ValueError(f"{path} does not hold the 100,836 ratings of MovieLens latest-small.")
    if table.duplicated(["user", "item"]).any() or not table["rating"].between(0.5, 5).all():
        raise ValueError(f"{path}: a film is rated twice by one user, or off the scale.")
    table["at"] = pd.to_datetime(table.pop("timestamp"), unit="s")
    return table.sort_values(["at", "user", "item"], ignore_index=True)


def bike_hours(path: Path) -> pd.DataFrame:
    """Read the hourly hires of Capital Bikeshare.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("bike_hours")``.

    Returns
    -------
    DataFrame, 17,379 rows
        ``day`` (0 is 2011-01-01), ``date``, ``hour``, ``weekday``, ``workingday``, ``holiday``,
        ``weather`` (1 clear to 4 storm), ``temperature``, ``humidity``, ``wind`` (all scaled to 0
        to 1) and ``hires``.

    Raises
    ------
    ValueError
        If the file does not hold these hours.
    """
    table = pd.read_csv(path)
    if not {"dteday", "hr", "cnt"} <= {*table} or len(table) != 17_379:
        raise ValueError(f"{path} does not hold the 17,379 hours of Capital Bikeshare.")
    names = {"hr": "hour", "weathersit": "weather", "temp": "temperature", "hum": "humidity"}
    table = table.rename(columns={**names, "windspeed": "wind", "cnt": "hires"})
    table["date"] = pd.to_datetime(table["dteday"])
    table["day"] = (table["date"] - table["date"].min()).dt.days
    kept = ["day", "date", "hour", "weekday", "workingday", "holiday", "weather"]
    return table[[*kept, "temperature", "humidity", "wind", "hires"]]


def elec2(path: Path) -> pd.DataFrame:
    """Read the half hours of the New South Wales electricity market.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("elec2")``.

    Returns
    -------
    DataFrame, 45,312 rows
        ``day`` (48 half hours each), ``period``, ``nswprice``, ``nswdemand``, ``vicprice``,
        ``vicdemand``, ``transfer`` (all scaled to 0 to 1) and ``up`` (whether the price is above
        its mean of the last day).

    Raises
    ------
    ValueError
        If the file does not hold these half hours.
    """
    table = pd.read_csv(path)
    if "nswprice" not in table or len(table) != 45_312:
        raise ValueError(f"{path} does not hold the 45,312 half hours of Elec2.")
    table.insert(0, "day", np.arange(len(table)) // 48)
    return table.rename(columns={"class": "up"})
