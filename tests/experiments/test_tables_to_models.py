import numpy as np
import pytest
from rich.console import Console

from experiments.messy import TABLES
from experiments.tables_to_models import Cell, report
from fisherbo.tuning.tables.columns import examine

LEFT_OUT = {
    "clinic": {"patient_id"},
    "houses": {"id", "remark"},
    "churn": {"customer", "country"},
    "sensors": {"serial"},
    "claims": {"claim"},
}
DATES = {"clinic": "admitted", "houses": "sold", "churn": "since", "sensors": "time"}


@pytest.mark.parametrize("name", list(DATES))
def test_columns_are_read_as_people_mean_them(name, tmp_path):
    from fisherbo.tuning.data import load

    frame, target = TABLES[name](np.random.default_rng(0))
    frame.to_csv(tmp_path / "data.csv", index=False)
    columns = examine(load(str(tmp_path / "data.csv"), target).inputs)
    assert {c.name for c in columns if c.kind == "left out"} == LEFT_OUT[name]
    assert [c.name for c in columns if c.kind == "date"] == [DATES[name]]
    assert not {"age", "bmi", "area", "built", "fee", "wind"} & {
        c.name for c in columns if c.kind == "category"
    }


def test_the_report_counts_tables_that_are_as_good():
    def scores(value):
        return {"R²": {"value": value, "low": value - 0.1, "high": value + 0.1}}

    def row(own, ridge, boosting, width):
        gap = own - ridge
        return {
            "rows": 1500,
            "network": "kfac network",
            "seconds": 9,
            "same": True,
            "difference": [gap, gap - width, gap + width],
            "scores": {
                "kfac network": scores(own),
                "mean": scores(0.0),
                "ridge": scores(ridge),
                "gradient boosting": scores(boosting),
            },
        }

    console = Console(record=True, width=150)
    report(
        {
            Cell("a", 1, 0): row(0.8, 0.7, 0.81, width=0.05),
            Cell("b", 1, 0): row(0.6, 0.7, 0.9, width=0.2),
        },
        console,
    )
    text = " ".join(console.export_text().split())
    assert "at least logistic or ridge on 1 of 2 tables (least difference -0.100)" in text
    assert "below it beyond chance on 0 and above on 1" in text
    assert "within 0.02 of gradient boosting or above on 1 (least difference -0.300)" in text
