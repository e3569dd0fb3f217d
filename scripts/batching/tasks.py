"""A fixed set of questions and answers: edits, extracts and quotes, which copy, and talk that copies nothing."""

from __future__ import annotations

NOTES = (
    "The driver was upgraded by half: files of two versions lie side by side, and the links lead to the one that the "
    "kernel does not run. Programs then say that the version of the library and of the module differ. The repair "
    "points the links to the files of the running module, and the other version's packages are removed afterwards. "
)
CODE = (
    "def tokens_beside(self, rows, seconds):\n    if self.token is None:\n        return LEAST\n"
    "    left = seconds - self.step(rows)\n    return max(LEAST, min(MOST, int(left / self.token)))\n"
)
COPIES = {
    "edit": (CODE + "Rename rows to count.", CODE.replace("rows", "count")),
    "edit text": (NOTES + "Replace links by symbolic links.", NOTES.replace("links", "symbolic links")),
    "extract": (NOTES * 2 + "Which sentence is about the repair?", NOTES[NOTES.index("The repair") :]),
    "quote": ("Quote this: " + NOTES, "> " + NOTES),
}
TALKS = {
    "advice": (
        "How should I spend a rainy Sunday?",
        "Make some tea, put on music you have not heard for years and cook a soup that takes hours. When evening "
        "comes, write a letter to a friend who moved away; paper is slower than a screen, and that is the point of it.",
    ),
    "story": (
        "Tell me about a lighthouse.",
        "Nobody remembered who had lit the lamp first. Each keeper found it burning, trimmed the wick and went down to "
        "sleep, sure that another watched. One winter a child climbed up, counted the steps and saw an empty chair.",
    ),
}
