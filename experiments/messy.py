"""Tables as people have them, generated: missing values, dates, ids, rare classes, text, codes.

Each is a function of a generator to a frame of text and numbers and the name of its target. The
targets depend on their columns smoothly, by thresholds and by interactions, with noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
WORDS = "nice quiet sunny garden near the station with view of a lake and a new kitchen".split()


def clinic(rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """150 patients, three outcomes of which one is rare; dates by day first, ids."""
    n = 150
    age, bmi = rng.integers(18, 90, n).astype(float), rng.normal(27, 5, n)
    smoker = rng.choice(["yes", "no"], n, p=[0.3, 0.7])
    pressure = rng.normal(125, 15, n) + 0.3 * (age - 50)
    risk = (
        0.04 * (age - 50)
        + 0.06 * (bmi - 27)
        + 0.8 * (smoker == "yes")
        + 0.02 * (pressure - 125)
        + rng.logistic(0, 0.7, n)
    )
    frame = pd.DataFrame(
        {
            "patient_id": [f"P{100000 + k}" for k in rng.permutation(n)],
            "admitted": _days(rng, "2021-01-04", 900, n).strftime("%d.%m.%Y"),
            "age": age,
            "bmi": bmi.round(1),
            "smoker": smoker,
            "ward": rng.choice(["north", "south", "east"], n),
            "pressure": pressure.round(),
            "outcome": np.select([risk > 2.2, risk > 0.2], ["severe", "mild"], "none"),
        }
    )
    return _holed(rng, frame, bmi=0.15, pressure=0.1, smoker=0.08), "outcome"


def houses(rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """1,500 sales: skewed prices, 120 postcodes, remarks in words, question marks for unknown."""
    n = 1500
    area = rng.gamma(6, 20, n).round()
    rooms = np.clip((area / 28 + rng.normal(0, 0.8, n)).round(), 1, 9)
    built = rng.integers(1900, 2023, n)
    codes = np.array([f"Z{code:05d}" for code in 10000 + rng.choice(89999, 120, replace=False)])
    place, at = rng.normal(0, 0.25, 120), rng.zipf(1.5, n) % 120
    sold = _days(rng, "2015-01-01", 3000, n)
    heating = rng.choice(
        ["gas", "oil", "heat pump", "district", "stove"], n, p=[0.45, 0.25, 0.15, 0.14, 0.01]
    )
    years = (sold - pd.Timestamp("2015-01-01")).days.to_numpy() / 365
    logarithm = (
        7.6
        + 0.85 * np.log(area)
        + 0.05 * rooms
        + place[at]
        + 0.06 * years
        + 0.1 * (built < 1945)
        - 0.002 * np.abs(built - 1985)
        + 0.12 * (heating == "heat pump")
        + rng.normal(0, 0.12, n)
    )
    frame = pd.DataFrame(
        {
            "id": np.arange(1, n + 1),
            "sold": sold.strftime("%Y-%m-%d"),
            "area": area,
            "rooms": rooms,
            "built": built.astype(str).astype(object),
            "postcode": codes[at],
            "heating": heating,
            "remark": [" ".join(rng.choice(WORDS, 8)) for _ in range(n)],
            "price": np.exp(logarithm).round(-2),
        }
    )
    frame.loc[rng.random(n) < 0.08, "built"] = "?"
    return _holed(rng, frame, rooms=0.05, heating=0.1), "price"


def churn(rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """5,000 customers, a tenth of whom left: dates by month first, 60 agents, a constant."""
    n = 5000
    months = rng.exponential(24, n).round()
    contract = rng.choice(["monthly", "yearly", "two years"], n, p=[0.55, 0.3, 0.15])
    fee = rng.normal(60, 20, n).clip(15)
    calls = rng.poisson(1.2, n)
    payment = rng.choice(["card", "transfer", "cheque", "mandate"], n)
    since = pd.Timestamp("2023-06-30") - pd.to_timedelta((months * 30.4).astype(int), unit="D")
    score = (
        -2.6
        + 1.1 * (contract == "monthly")
        - 0.03 * months
        + 0.015 * (fee - 60)
        + 0.5 * (calls >= 3)
        + 0.6 * ((payment == "cheque") & (fee > 70))
        + 0.4 * (months < 3)
    )
    left = rng.random(n) < 1 / (1 + np.exp(-score))
    frame = pd.DataFrame(
        {
            "customer": [f"{code:08x}" for code in rng.choice(2**31, n, replace=False)],
            "since": since.strftime("%m/%d/%Y"),
            "months": months,
            "contract": contract,
            "fee": fee.round(2),
            "calls": calls.astype(float),
            "payment": payment,
            "agent": rng.choice([f"agent {k}" for k in range(60)], n),
            "country": "CH",
            "churned": np.where(left, "yes", "no"),
        }
    )
    return _holed(rng, frame, fee=0.12, payment=0.07, churned=0.01), "churned"


def sensors(rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """20,000 measurements of a year: times to the minute, daily, weekly and yearly rhythms."""
    n = 20_000
    minutes = np.sort(rng.integers(0, 365 * 24 * 60, n))
    when = pd.Timestamp("2022-01-01") + pd.to_timedelta(minutes, unit="min")
    station = rng.integers(0, 12, n)
    hour = when.hour.to_numpy() + when.minute.to_numpy() / 60
    day = when.day_of_year.to_numpy()
    temperature = (
        10
        - 10 * np.cos(2 * np.pi * (day - 20) / 365)
        - 4 * np.cos(2 * np.pi * (hour - 3) / 24)
        + rng.normal(0, 2.5, n)
    )
    wind = rng.weibull(1.8, n) * 4
    humidity = np.clip(95 - 2 * temperature + rng.normal(0, 12, n), 10, 100)
    peaks = 0.3 + np.exp(-((hour - 8) ** 2) / 4) + 1.1 * np.exp(-((hour - 17.5) ** 2) / 6)
    traffic = np.where(when.day_of_week < 5, 1, 0.55) * peaks
    no2 = (
        12
        + 25 * traffic / (1 + 0.35 * wind)
        + 0.45 * np.maximum(0, -temperature)
        + rng.normal(0, 2, 12)[station]
        + 0.05 * humidity
        + rng.normal(0, 2.5, n)
    )
    frame = pd.DataFrame(
        {
            "time": when.strftime("%Y-%m-%d %H:%M"),
            "station": [f"S{k}" for k in station],
            "temperature": temperature.round(1),
            "wind": wind.round(2),
            "humidity": humidity.round(),
            "serial": rng.permutation(n) + 7_000_000,
            "no2": no2.round(2),
        }
    )
    return _holed(rng, frame, temperature=0.05, wind=0.1, humidity=0.15), "no2"


def claims(rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """100,000 claims, four decisions of which one is rare, 40 brands, skewed amounts."""
    n = 100_000
    brands = [f"brand {k}" for k in range(40)]
    age, prior = rng.integers(18, 90, n), rng.poisson(0.6, n)
    amount, km = rng.lognormal(7, 1.1, n).round(2), rng.gamma(2, 8000, n).round()
    brand = rng.choice(40, n, p=rng.dirichlet(np.ones(40)))
    kind = rng.choice(
        ["collision", "theft", "glass", "fire", "hail"], n, p=[0.5, 0.15, 0.25, 0.05, 0.05]
    )
    date = _days(rng, "2018-01-01", 2000, n)
    score = (
        0.8 * (np.log(amount) - 7)
        + 0.5 * (prior >= 2)
        + rng.normal(0, 0.5, 40)[brand]
        + 0.9 * ((kind == "theft") & (amount > 2000))
        - 0.6 * (kind == "glass")
        + 0.015 * np.abs(age - 45)
        + 0.3 * (km > 25000)
        + 0.3 * np.isin(date.month, [12, 1, 2])
    )
    fraud = 1.3 * score - 6.8 + 1.2 * (kind == "fire")
    logits = np.column_stack([np.full(n, 0.8), score, 0.7 * score - 0.4, fraud])
    decision = (logits + rng.gumbel(size=(n, 4))).argmax(1)
    frame = pd.DataFrame(
        {
            "claim": [f"C-{k}" for k in rng.permutation(n) + 10**6],
            "date": date.strftime("%Y-%m-%d"),
            "age": age.astype(float),
            "amount": amount,
            "km": km,
            "brand": np.array(brands, dtype=object)[brand],
            "kind": kind,
            "prior": prior,
            "decision": np.array(["paid", "reduced", "court", "fraud"], dtype=object)[decision],
        }
    )
    return _holed(rng, frame, age=0.05, km=0.2, brand=0.03), "decision"


TABLES: dict[str, Callable[[np.random.Generator], tuple[pd.DataFrame, str]]] = {
    "clinic": clinic,
    "houses": houses,
    "churn": churn,
    "sensors": sensors,
    "claims": claims,
}


def _days(rng: np.random.Generator, first: str, span: int, n: int) -> pd.DatetimeIndex:
    return pd.Timestamp(first) + pd.to_timedelta(rng.integers(0, span, n), unit="D")


def _holed(rng: np.random.Generator, frame: pd.DataFrame, **shares: float) -> pd.DataFrame:
    """The frame with values missing at random in these shares of the columns."""
    for name, share in shares.items():
        frame.loc[rng.random(len(frame)) < share, name] = None
    return frame
