"""A part of a batch, for one of several machines that do not communicate."""

from __future__ import annotations

from dataclasses import dataclass

from medrestore.errors import ConfigError

WHOLE = "whole"


@dataclass(frozen=True)
class Shard:
    """One of `count` parts, by number from 1.

    Which cases are in a part depends on their ids alone: not on other cases of the folder, nor their order.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/8``.

        Raises:
            ConfigError: The text is not of that form.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ConfigError(f"--shard is {text!r}; expected its number and how many there are, such as 2/8")
        return cls(int(number), int(count))

    def has(self, case: str) -> bool:
        """Whether the case with this id belongs to the part."""
        return int(case, 16) % self.count == self.number - 1

    def overlaps(self, name: str) -> bool:
        """Whether a part with this name may share cases with this part, as the number of parts differs."""
        count = "1" if name == WHOLE else name.rpartition("-of-")[2]
        return count.isdecimal() and int(count) != self.count

    @property
    def name(self) -> str:
        """The name of its ledger and of its lock."""
        return WHOLE if self.count == 1 else f"{self.number}-of-{self.count}"
