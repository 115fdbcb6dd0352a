"""What the embedded backend has to know of a model's architecture: what its layers see, and its logits.

Keys and values of all tokens are kept in all layers, so that any prefix can be continued: a layer with a
sliding window sees the last ones of them by its mask.
"""

from __future__ import annotations

from typing import Any

import torch

from stepwise.errors import ConfigError

FULL, SLIDING = "full_attention", "sliding_attention"
UNKNOWN = {
    "attn_logit_softcapping": "caps its attention's scores",
    "logit_scale": "scales its logits",
    "logits_scaling": "scales its logits",
}
"""Fields of a configuration that change what a model computes in ways that are not done here."""


class Architecture:
    """How one model attends, and how its last layer's output becomes logits.

    Args:
        model: a causal language model.
        name: in errors.

    Raises:
        ConfigError: if it does something that is not known here.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.config = model.config.get_text_config()
        self.decoder = model.get_decoder()
        self._head = model.get_output_embeddings()
        self._cap = getattr(self.config, "final_logit_softcapping", None)
        self._window = getattr(self.config, "sliding_window", None)
        self._kinds = {*(getattr(self.config, "layer_types", None) or ())}
        _refuse_unknown(self.config, self._kinds, name)

    def mask(self, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """What tokens at ``positions`` [rows, new] see of those before them and of themselves, of the form
        [rows, 1, new, tokens]; for each kind of layers where there are several."""
        keys = torch.arange(int(positions.max()) + 1, device=positions.device)[None, None, None, :]
        queries = positions[:, None, :, None]
        full = keys <= queries
        near = full & (keys > queries - self._window) if self._window else full
        if not self._kinds:
            return near
        return {FULL: full, SLIDING: near} if SLIDING in self._kinds else full

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of the next token, in float32."""
        logits: torch.Tensor = self._head(hidden).float()
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


def _refuse_unknown(config: Any, kinds: set[str], name: str) -> None:
    for kind in sorted(kinds - {FULL, SLIDING}):
        raise ConfigError(f"model path {name!r}: its layers of {kind} cannot be run here; use vllm.")
    for field, what in UNKNOWN.items():
        if getattr(config, field, None) not in (None, 1.0):
            raise ConfigError(f"model path {name!r}: it {what}, which is not done here; use vllm.")
