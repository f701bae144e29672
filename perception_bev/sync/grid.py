"""Sync: the output grid. A phase-locked loop on the reference's stamps predicts the next t_ref."""

from __future__ import annotations

ALPHA, BETA = 0.5, 0.1  # gains on phase and period; stable, a step is gone after about 8 sweeps
OFF_PHASE = 0.3  # of a sweep: further off is an outlier, or a new phase when it comes thrice
OUTLIERS = 3
LOST_SWEEPS = 3.5  # after a gap of so many the phase is taken anew
PERIOD_RANGE = (0.8, 1.25)  # of the rig's period


class OutputGrid:
    """Predicts output stamps: every n-th sweep end of the reference.

    An alpha-beta tracker, that is a second-order phase-locked loop, over (phase, period) of the
    sweeps. Where no sweep was seen, `seed` gives the phase, and the rig the period.
    n is the most sweeps that fit into the output period (5 % tolerance), at least one: the output
    is never slower than asked because of the reference's rate, unless the reference itself is.
    """

    def __init__(self, sweep_period_ns: float, output_period_ns: float) -> None:
        self.sweeps = max(1, int(output_period_ns / sweep_period_ns + 0.05))
        self._nominal = float(sweep_period_ns)
        self.reset()

    def reset(self) -> None:
        """Know no phase."""
        self.sweep_ns = self._nominal  # period of the sweeps, tracked
        self._anchor: int | None = None  # a sweep end, smoothed
        self._seen: int | None = None  # the last real sweep end
        self._outliers = 0

    @property
    def output_ns(self) -> float:
        """Time between two outputs."""
        return self.sweeps * self.sweep_ns

    def seed(self, stamp_ns: int) -> None:
        """Begin at a time that is not a sweep of the reference."""
        self._anchor = stamp_ns

    def update(self, stamp_ns: int) -> None:
        """A sweep of the reference came."""
        unlocked = self._seen is None or stamp_ns - self._seen > LOST_SWEEPS * self.sweep_ns
        self._seen = stamp_ns
        if unlocked:
            self._snap(stamp_ns)
            return
        steps = round((stamp_ns - self._anchor) / self.sweep_ns)
        error = stamp_ns - self._anchor - round(steps * self.sweep_ns)
        if abs(error) > OFF_PHASE * self.sweep_ns:
            self._outliers += 1
            if self._outliers >= OUTLIERS:
                self._snap(stamp_ns)
            return
        self._outliers = 0
        self._anchor = stamp_ns - error + round(ALPHA * error)
        period = self.sweep_ns + BETA * error / max(steps, 1)
        low, high = PERIOD_RANGE
        self.sweep_ns = min(max(period, low * self._nominal), high * self._nominal)

    def after(self, t_ref_ns: int) -> int:
        """The output stamp that follows one at `t_ref_ns`."""
        steps = round((t_ref_ns - self._anchor) / self.sweep_ns) + self.sweeps
        return self._anchor + round(steps * self.sweep_ns)

    def _snap(self, stamp_ns: int) -> None:
        self._anchor, self._outliers = stamp_ns, 0
