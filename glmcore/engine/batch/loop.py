"""The one thread that computes: a piece of a prompt, then a step for all answers, and again while there is work."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.costs import LEAST, SHORT, Costs
from glmcore.engine.batch.drafts import drafts, drawn
from glmcore.engine.batch.measure import step_times
from glmcore.engine.batch.prefixes import LEAST as LEAST_SHARED
from glmcore.engine.batch.prefixes import USUAL, Prefixes
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.batch.seats import Seats
from glmcore.engine.batch.worth import StepCosts
from glmcore.engine.observers import Observed
from glmcore.engine.runner import Runner
from glmcore.engine.sequence import common_prefix
from glmcore.engine.ways.way import Reading, Way

# Seconds that nobody who is being answered waits longer than, if steps and the smallest pieces allow it.
MAX_STALL = 0.25
# Of that, what a piece and a step are to take: what they cost is not the same each time.
AIM = 0.8
# Tokens that are read at a time where nobody asks, so that who does then waits no longer than for a step or two.
FRESHENED = 16
# Seconds that the thread waits for more work before it goes: OpenMP's own threads would have to be made anew.
LINGER = 2.0

log = logging.getLogger("glmcore")


class Loop:
    """Answers what is submitted, from any thread, on one model.

    step_costs: what drafts are weighed by; nothing is drafted where None. lookup: whether to measure them first, while
    nobody asks or in ``measure``.
    Only ever one thread computes: OpenMP would keep a team of threads for each that did. It comes with the first work
    and goes a while after the last.
    """

    def __init__(
        self, runner: Runner, scheduler: Scheduler[Answer], *, max_stall: float = MAX_STALL,
        prefix_bytes: int = USUAL, step_costs: StepCosts | None = None, lookup: bool = False,
    ) -> None:  # fmt: skip
        self.runner, self.scheduler, self.max_stall = runner, scheduler, max_stall
        self.costs, self.step_costs, self.lookup = costs_of(runner.way), step_costs, lookup
        self._timing = step_times(runner.way) if lookup else None
        self.seats = Seats(runner.way, Prefixes(prefix_bytes))
        self._readings: dict[Answer, Reading] = {}
        self._new: list[Answer] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._lingers = True
        _loops.add(self)

    def submit(self, answer: Answer) -> None:
        with self._changed:
            self._new.append(answer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="glmcore", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def together(self) -> AbstractContextManager[object]:
        """What is submitted within it begins in the same turn."""
        return self._changed

    def cancel_all(self) -> None:
        """Give up whatever was submitted."""
        with self._changed:
            for answer in (*self._new, *self.scheduler.waiting, *self.scheduler.under_way):
                answer.cancel()

    def idle_within(self, seconds: float) -> bool:
        """Whether all that was submitted ends in that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._new or self.scheduler), timeout=seconds)

    def close(self, seconds: float) -> None:
        """Give up whatever was submitted, and wait so long for the thread to go."""
        self.cancel_all()
        with self._changed:
            thread, self._lingers = self._thread, False
            self._changed.notify_all()
        if thread is not None:
            thread.join(seconds)

    def forget(self) -> None:
        """To be called when the model has been moved, and nothing is under way: what the cache held is gone."""
        self.close(seconds=60)
        self.runner.forget()
        self._lingers, self.costs = True, costs_of(self.runner.way)
        self._timing = step_times(self.runner.way) if self.lookup else None
        self.seats = Seats(self.runner.way, Prefixes(self.seats.prefixes.most_bytes))

    @property
    def way(self) -> Way:
        """The one whose rows the seats are."""
        return self.seats.way

    def _run(self) -> None:
        while True:
            try:
                if not self._is_work():
                    return
                self.turn()
            except Exception as error:  # of the loop itself: nobody is left waiting for ever
                log.error("a step failed: %s", type(error).__name__, exc_info=error)
                for answer in self.scheduler.under_way:
                    self._fail(answer, error)

    def _is_work(self) -> bool:
        """Waits for it, a while; afterwards this thread has to go."""
        with self._changed:
            self._changed.notify_all()
        while self._lingers and not (self._new or self.scheduler) and (self.freshen() or self._time_one()):
            pass
        with self._changed:
            if not (self._new or self.scheduler):
                self._changed.wait_for(lambda: self._new or not self._lingers, timeout=LINGER)
            for answer in self._new:
                self.scheduler.add(answer)
            self._new.clear()
            if not self.scheduler:
                self.seats.compact()
                self._thread = None
            return bool(self.scheduler)

    def measure(self) -> None:
        """Time what drafts are weighed by, before anything is submitted."""
        while self._time_one():
            pass

    def _time_one(self) -> bool:
        """One of the steps that are still to be timed; False where there is none."""
        if self._timing is None:
            return False
        try:
            self.step_costs = self._timing.time_one()
        except Exception:
            log.debug("no step could be timed, nothing is drafted", exc_info=True)
            self._timing = None  # nobody waits for it: who asks hears what is wrong with the model
        if self.step_costs:
            self._timing = None
        return True

    @torch.inference_mode()
    def freshen(self) -> bool:
        """Read on in a row that nobody has: an answer's tokens, as the prompt that they will be if the talk goes on.

        Where answers keep more than prompts do, they would have to be read then. False where there is nothing to do.
        """
        if (stale := self.seats.stale()) is None:
            return False
        row, tokens = stale
        rows = self.way.rows
        try:
            self.way.begin(row, tokens, rows.read[row]).advance(FRESHENED)
            rows.hold(row, tokens, rows.read[row])
        except Exception:
            log.debug("a row could not be read on", exc_info=True)
            rows.hold(row, [])  # nobody waits for it: who asks reads it, and hears what is wrong
        return True

    @torch.inference_mode()
    def turn(self) -> None:
        """Pieces of prompts, as many as those who are being answered can wait for, and a step for these."""
        for answer in (*self.scheduler.under_way, *list(self.scheduler.waiting)):
            if answer.cancelled:
                self._end(answer, "cancelled")
        while answer := self.scheduler.admit():
            self._welcome(answer)
        rows = len(self.scheduler.answering)
        stepped = self._read(self.costs.tokens_beside(rows, AIM * self.max_stall) if rows else self.way.piece)
        if self.scheduler.answering and not stepped:
            self._step(list(self.scheduler.answering))

    def _welcome(self, answer: Answer) -> None:
        """Its turn has come. Where another's prompt that is being read begins alike, it waits for that one's keys."""
        answer.begun = time.perf_counter()
        if answer.observer is not None:
            return  # all of it is read
        prompt, causal = answer.sequence.prompt, self.way.config.traits.causal
        for other in self.scheduler.reading[:-1]:
            shared = common_prefix(other.sequence.prompt, prompt)
            if other.sequence.prompt == prompt or (shared >= LEAST_SHARED and causal):
                answer.follow(other, shared)
                return

    def _read(self, budget: int) -> bool:
        """About so many tokens of prompts, one piece at least; whether a step of the answers went with one."""
        piece, stepped = budget, False
        while piece > 0 and not stepped and (answer := self.scheduler.reader()):
            before = answer.taken
            try:
                stepped = self._read_on(answer, piece)
            except Exception as error:
                self._fail(answer, error)
            budget -= max(1, answer.taken - before) if answer.observer is None else budget
            piece = budget if budget >= LEAST and self.scheduler.answering else 0
        return stepped

    def _read_on(self, answer: Answer, tokens: int) -> bool:
        """The next of a prompt's tokens; whether the answers' step went with them."""
        begins = answer not in self._readings
        reading = self._begun(answer) if begins else self._readings[answer]
        answering, stepped = list(self.scheduler.answering), False
        if begins and reading.left <= SHORT:
            tokens = max(tokens, reading.left)
        if answering and tokens <= self.way.beside and answer.observer is None:
            stepped, logits = self._both(answering, reading, tokens)
        if not stepped:
            logits = self._alone(answer, reading, tokens)
        self.scheduler.read(answer, reading.left)
        if logits is not None:
            self._share(answer, logits)
            self._begin(answer, logits)
        return stepped

    def _begun(self, answer: Answer) -> Reading:
        """The reading of a prompt, with a row for it."""
        row, kept = self.seats.take(answer, answer.sequence.prompt, afresh=answer.observer is not None)
        answer.stats.reused_tokens = kept
        reading = self.way.begin(row, answer.sequence.prompt, kept)
        if answer.observer is not None:
            reading = Observed(reading, answer.observer)
        self._readings[answer] = reading
        answer.left = reading.left
        return reading

    def _alone(self, answer: Answer, reading: Reading, tokens: int) -> Tensor | None:
        """A piece of a prompt by itself; logits after the last."""
        started = time.perf_counter()
        before, beside, observed = reading.left, len(self.scheduler.answering), answer.observer is not None
        if beside and observed:
            tokens = self.costs.tokens_beside(beside, AIM * self.max_stall, observed)
        logits = reading.advance(tokens)
        if beside and before > reading.left:  # where nobody waits pieces are larger, and a token of them costs less
            self.costs.note_reading(before - reading.left, time.perf_counter() - started, observed)
        return logits

    def _both(self, answers: list[Answer], reading: Reading, tokens: int) -> tuple[bool, Tensor | None]:
        """A piece of a prompt and a step of the answers in one pass, which reads the weights once; logits after the
        prompt's last token. Where that fails, False: each by itself, so that one's failure is its own."""
        started, before = time.perf_counter(), reading.left
        last = {self.seats.row_of(each): [each.sequence.output[-1]] for each in answers}
        try:
            logits, after = self.way.follow_beside(last, reading, tokens)
        except Exception:
            log.debug("a step and a piece of a prompt failed together", exc_info=True)
            return False, None
        self._follow_all(answers, logits.split(1), {})
        self.costs.note_both(len(answers), before - reading.left, time.perf_counter() - started)
        return True, after

    def _step(self, answers: list[Answer]) -> None:
        """The next tokens of each; where that fails, each by itself, so that one's failure is its own."""
        found = drafts(answers, self.way, self.step_costs) if self.step_costs and self.way.drafts else {}
        tokens = {self.seats.row_of(each): [each.sequence.output[-1], *found.get(each, ())] for each in answers}
        started = time.perf_counter()
        try:
            logits = self.way.follow(tokens)
        except Exception as error:
            if len(answers) == 1:
                return self._fail(answers[0], error)
            for answer in answers:
                self._step([answer])
            return None
        if self.step_costs:
            self.step_costs.note(len(logits), time.perf_counter() - started)
        self._follow_all(answers, logits.split([len(each) for each in tokens.values()]), found)
        self.costs.note_step(len(logits), time.perf_counter() - started)
        return None

    def _follow_all(self, answers: list[Answer], logits: Iterable[Tensor], found: Mapping[Answer, list[int]]) -> None:
        for answer, own in zip(answers, logits, strict=True):
            try:
                self._follow(answer, own, found.get(answer, []))
            except Exception as error:
                self._fail(answer, error)

    def _follow(self, answer: Answer, logits: Tensor, draft: list[int]) -> None:
        """Draw as many tokens as the draft was right, and one more."""
        tokens = drawn(answer, logits, draft)
        self.way.rows.add(self.seats.row_of(answer), [answer.sequence.output[-1], *tokens[:-1]])
        stats = answer.stats
        stats.decode_steps += 1
        stats.decode_s = time.perf_counter() - answer.first_known
        for token in tokens:
            self._take(answer, token)
            if answer.ending is not None:
                break

    def _share(self, answer: Answer, logits: Tensor) -> None:
        """What was read of a prompt is also for those that wait with the very same."""
        for twin in [each for each in self.scheduler.reading if each.waits_for(answer)]:
            if twin.sequence.prompt == answer.sequence.prompt:
                try:
                    self.seats.share(twin, answer)
                    twin.stats.reused_tokens = twin.prompt_tokens
                    self.scheduler.read(twin, 0)
                    self._begin(twin, logits)
                except Exception as error:
                    self._fail(twin, error)

    def _begin(self, answer: Answer, logits: Tensor) -> None:
        """The first token of an answer; of one that is to have none, its end."""
        token = answer.draw(logits) if answer.sequence.max_new_tokens else None
        answer.first_known = time.perf_counter()
        answer.stats.prefill_s = answer.first_known - (answer.begun or answer.asked)
        if token is None:
            self._end(answer, "length")
        else:
            self._take(answer, token)

    def _take(self, answer: Answer, token: int) -> None:
        """A token of an answer, which may end with it."""
        answer.take(token)
        if answer.words.stopped:
            self._end(answer, "stop")
        elif answer.sequence.finish_reason:
            self._end(answer)

    def _end(self, answer: Answer, reason: str | None = None) -> None:
        self._leave(answer)
        answer.end(reason)

    def _fail(self, answer: Answer, error: Exception) -> None:
        """It ends with an error. What its row holds is forgotten: it may be less than it says, or no numbers."""
        self.seats.empty(answer)
        self._leave(answer)
        answer.tell(error)

    def _leave(self, answer: Answer) -> None:
        self.scheduler.remove(answer)
        self._readings.pop(answer, None)
        self.seats.leave(answer)


def costs_of(way: Way) -> Costs:
    """Of nothing that was seen yet."""
    return Costs(1 if way.beside else LEAST)


_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


@atexit.register
def _rest() -> None:
    """No thread may compute while the interpreter is taken down."""
    for loop in list(_loops):
        loop.close(seconds=5)
