"""The vocabulary of the nano problems: people, themes, and sentences that do not matter."""

from __future__ import annotations

from dataclasses import dataclass

NAMES = (
    "Anna", "Ben", "Cara", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jack",
    "Kate", "Leo", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Will",
)  # fmt: skip


@dataclass(frozen=True)
class Theme:
    """What people do in a story: "Anna picked 12 apples", "filled 4 baskets"."""

    did: str
    do: str
    items: tuple[str, ...]
    filled: str
    groups: tuple[str, ...]
    place: str


THEMES = (
    Theme("picked", "pick", ("apples", "plums", "pears"), "filled", ("baskets", "crates"), "orchard"),
    Theme("baked", "bake", ("cookies", "muffins", "rolls"), "filled", ("trays", "boxes"), "bakery"),
    Theme("sold", "sell", ("tickets", "books", "pens"), "sold", ("packs", "boxes"), "school"),
    Theme("planted", "plant", ("tulips", "trees", "beans"), "planted", ("rows", "beds"), "garden"),
    Theme("packed", "pack", ("toys", "cups", "shirts"), "filled", ("boxes", "bags"), "shop"),
    Theme("found", "find", ("shells", "stones", "coins"), "filled", ("bags", "jars"), "beach"),
    Theme("painted", "paint", ("eggs", "tiles", "cards"), "filled", ("trays", "packs"), "studio"),
    Theme("counted", "count", ("birds", "ducks", "sheep"), "saw", ("flocks", "groups"), "farm"),
)

OPENINGS = (
    "It was a busy week at the {place}.",
    "Some friends met at the {place}.",
    "The {place} was open all day.",
)

DISTRACTORS = (
    "{name} is {small} years old.",
    "The walk to the {place} took {small} minutes.",
    "There were {small} chairs at the {place}.",
    "{name} also bought {small} drinks for ${tiny} each.",
    "The {place} opens at {tiny} in the morning.",
    "{name} has been there {tiny} times before.",
)

MULTIPLES = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times",
             7: "seven times", 8: "eight times", 9: "nine times"}  # fmt: skip
FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
