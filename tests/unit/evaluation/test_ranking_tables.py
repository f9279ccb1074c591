import numpy as np

from models.evaluation import ranking
from models.evaluation.tables import breakdown_table, plot_ranking, ranking_table
from models.scorer.sequences import Interactions


def report():
    item = np.array([0, 1, 2, 2, 1, 0, 1, 2])
    data = Interactions(("a", "b", "c"), ("x", "y", "z"), np.array([0, 3, 6, 8]), item)
    task = ranking.Task.test(data)
    good = ranking.evaluate(task, lambda users: np.eye(3, dtype=np.float32)[task.target[users]])
    bad = ranking.evaluate(task, lambda users: -np.eye(3, dtype=np.float32)[task.target[users]], "keep")
    good.extra["cpu_minutes"] = 5.02
    return ranking.report(task, {"model": good, "contrary": bad}, "model")


def test_the_table_states_protocol_figures_errors_and_minutes():
    table = ranking_table(report())
    assert "3 users, 3 items; leave-one-out" in table
    row = next(line for line in table.splitlines() if line.startswith("| Impulse"))
    assert "1.0000 ± 0.0000" in row
    assert row.endswith("| 5.0 |")


def test_a_lead_of_less_than_two_errors_is_marked_by_the_table():
    told = report()
    told["baselines"]["contrary"]["difference"] = {
        "hr@10": 0.01, "ndcg@10": 0.03, "standard_errors": {"hr@10": 0.006, "ndcg@10": 0.006},
        "significant": {"hr@10": False, "ndcg@10": True},
    }  # fmt: skip
    row = next(line for line in ranking_table(told).splitlines() if line.startswith("| contrary"))
    assert "| +0.0100 ± 0.0060 n.s. |" in row
    assert "| +0.0300 ± 0.0060 |" in row


def test_rows_with_and_without_the_item_graph_say_so():
    told = report()
    told["baselines"] = dict.fromkeys(("without_graph", "sasrec_with_graph"), told["baselines"]["contrary"])
    table = ranking_table(told)
    assert "| Impulse, first stage without the item graph |" in table
    assert "| SASRec-style with the item graph |" in table


def test_a_model_that_is_told_when_the_target_came_says_so():
    told = report()
    told["target_time"] = True
    told["baselines"]["without_time"] = told["baselines"]["contrary"]
    names = [line.split("|")[1].strip() for line in ranking_table(told).splitlines() if "±" in line]
    assert names == ["contrary", "Impulse, not told the target's time", "Impulse, told the target's time"]


def test_the_best_row_stands_last():
    names = [line.split("|")[1].strip() for line in ranking_table(report()).splitlines() if "±" in line]
    assert names == ["contrary", "Impulse"]


def test_every_row_has_as_many_cells_as_the_head():
    for table in (ranking_table(report()), breakdown_table(report(), "by_history_length")):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) == 1


def test_a_breakdown_counts_its_users():
    table = breakdown_table(report(), "by_target_training_count")
    users = next(line for line in table.splitlines() if line.startswith("| users"))
    assert sum(int(cell) for cell in users.split("|")[2:-1]) == 3


def test_a_breakdown_shows_errors_beside_its_figures():
    row = next(
        line
        for line in breakdown_table(report(), "by_history_length").splitlines()
        if line.startswith("| Impulse")
    )
    assert row == "| Impulse | 1.000 ± 0.000 |"


def test_the_plot_is_written(tmp_path):
    plot_ranking(report(), tmp_path / "ranking.svg")
    assert "ndcg@10" in (tmp_path / "ranking.svg").read_text()
