"""Whether of two models that answer the same samples one is better than the other, or chance makes it look so."""
import math

import numpy as np

RESAMPLES = 20_000


class Difference:
    """The quality of `ours` less that of `theirs`, in points, and how likely chance alone makes it as large: `p`."""

    def __init__(self, points: float, p: float, counts: str = ""):
        self.points, self.p, self.counts = points, p, counts

    def __str__(self) -> str:
        text = f"{self.points:+.2f}{self.counts}, p = {self.p:.2f}"
        return f"**{text}**" if self.p < 0.05 else text


def top1(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """McNemar's exact test, of which samples each names rightly. Those that both do, or neither, say nothing."""
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    return Difference(100 * (won - lost) / len(ours), min(1.0, 2 * tail), f" ({won} : {lost})")


def auc(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Paired bootstrap, over the normal and over the anomalous samples, of the matrices that `above` gives."""
    difference = ours - theirs
    random = np.random.default_rng(0)
    drawn = [random.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count for count in difference.shape]
    found = ((drawn[0] @ difference) * drawn[1]).sum(1)
    p = 2 * min((found <= 0).mean(), (found >= 0).mean())
    return Difference(100 * difference.mean(), min(1.0, p))


def above(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each anomalous sample (1) and each normal one (0) whether the first scores more: 1, 0, or half where they tie.
    Their mean is the area under the curve."""
    anomalous, normal = scores[labels == 1][:, None], scores[labels == 0][None]
    return (anomalous > normal) + 0.5 * (anomalous == normal)
