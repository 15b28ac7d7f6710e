"""Rows of what was done to a run, what was to follow, and what did."""

import dataclasses
from collections import Counter


@dataclasses.dataclass
class Row:
    """Many trials of one fault."""

    fault: str
    expected: str
    seen: Counter = dataclasses.field(default_factory=Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def add(self, outcome: str, *, right: bool, about: str = "") -> None:
        """Count a trial; `about` tells a wrong one from the others."""
        self.seen[outcome] += 1
        if not right:
            self.wrong.append(f"{outcome}: {about}" if about else outcome)

    def text(self) -> str:
        counts = ", ".join(f"{outcome} {n}" for outcome, n in self.seen.most_common())
        verdict = "yes" if self.seen and not self.wrong else "**no**"
        return f"| {self.fault} | {self.expected} | {counts or 'not tried'} | {verdict} |"


def markdown(rows: list[Row]) -> str:
    """The table, with every wrong trial below it."""
    head = ["| fault | expected | seen, times | as expected |", "|---|---|---|---|"]
    wrong = [f"* {row.fault}: {about}" for row in rows for about in row.wrong]
    return "\n".join([*head, *(row.text() for row in rows), *([""] if wrong else []), *wrong])
