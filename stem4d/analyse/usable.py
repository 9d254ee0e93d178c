"""How much of a frame may be lost, and how many may be saturated, before an analysis leaves it out or doubts."""

MOST_LOST = 0.01
"""Part of the good pixels that an analysis uses which may hold no number (NaN, infinite); beyond it the frame is left
out."""
MOST_SATURATED = 0.02
"""Part of the positions whose patterns may hold pixels at full scale."""
