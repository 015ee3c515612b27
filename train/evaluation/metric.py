"""The challenge's metric of a submission and a label table; the formula: ``runtime.core.metric``.

Both tables are sorted by study before anything is added up, so that the order of their rows does
not change the last bit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.label_table import grade_table, study_ids
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.metric import GradedAnswers, MetricResult, score_answers
from rsna_lumbar.train.evaluation.submission import read_answers


def score(
    submission: pd.DataFrame, labels: pd.DataFrame, groups: Collection[Group] = GROUPS
) -> MetricResult:
    """Score a submission against a label table. Rows pair up by id; neither table is changed.

    Args:
        submission: row_id, normal_mild, moderate, severe; for every study of ``labels`` all rows
            of each group that it answers.
        labels: in the layout of train.csv, empty cells allowed.
        groups: the groups to score; rows of other groups are ignored.

    Raises:
        SubmissionError: bad rows, found by ``submission.read_answers``.
        DataError: a column is missing, the label table contains a word that the challenge does not
            use or a study twice, or a group has no row, or no graded row.
    """
    answers = pair(submission, labels)
    for group in groups:
        if group not in answers.groups:
            raise DataError(f"the submission holds no {group.name} row: there is nothing to score")
    return score_answers(replace(answers, groups=tuple(groups)))


def pair(
    submission: pd.DataFrame, labels: pd.DataFrame, studies: Collection[str] | None = None
) -> GradedAnswers:
    """Bring labels and answers together, sorted by study.

    Args: submission and labels as for :func:`score`.
        studies: the studies of ``labels`` to score; rows of the others are ignored. None: all.

    Returns:
        Labels and answers of the groups that the submission answers.

    Raises: as :func:`score`, except for groups without a row or grade.
    """
    known = sorted(study_ids(labels))
    chosen = known if studies is None else sorted(set(studies).intersection(known))
    answers = read_answers(submission, chosen, set(known).difference(chosen))
    epsilon = np.finfo(answers.probability.dtype).eps
    return GradedAnswers(
        studies=tuple(chosen),
        grade=grade_table(labels, chosen),
        probability=np.clip(answers.probability, epsilon, 1 - epsilon).astype(np.float64),
        ignored=answers.ignored,
        groups=answers.groups,
    )
