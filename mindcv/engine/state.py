"""Save and restore everything in this process that the rest of a run depends on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops

from ..checkpoint import STATE, Manifest
from ..errors import WeightsError
from ..weights import Metadata, ckpt, read_weights
from ..weights.array_files import write_npz
from ..weights.guards import ENTRY
from ..weights.match import counted, differences
from .batch_norm import gather_values, mean_of
from .device import Runtime
from .elastic import Division, losses_on, rows_on, state_on
from .progress import Progress
from .tables import MetricsTable
from .train_step import TrainStep
from .update import copy_value, running_statistics, set_value

_RATES = "learning_rate"  # not saved: they follow from the options, so a run can be extended
_LOSSES = "losses of the epoch"
_OF_RANKS = "of ranks: "  # prefix of statistics that differ between the ranks


@dataclass(frozen=True)
class Snapshot:
    """The state at one moment, in copies, so that the training can go on.

    `weights` go into the .ckpt file, `state` into the .state.npz file, and `figures` (JSON values)
    into the manifest.
    """

    weights: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]
    figures: Mapping[str, Any]

    def files(self, metadata: Metadata) -> dict[str, Callable[[BinaryIO], None]]:
        """Return functions that write the files of a checkpoint, by file suffix."""
        weights = {**self.weights, ENTRY: metadata.to_array()}
        return {
            ".ckpt": partial(ckpt.write, tensors=weights),
            STATE: partial(write_npz, tensors=self.state),
        }


class RunState:
    """The state of a run: weights, optimizer, training step, and losses and table rows so far.

    Parameters are saved under their own names, see `TrainStep.state` and `TrainStep.own_state`.
    Running statistics of normalisation layers differ between ranks within an epoch, so those of all
    ranks are saved; everything else is equal on all ranks. Another number of ranks continues with
    their mean, see `elastic`.
    """

    def __init__(
        self,
        network: nn.Cell,
        step: TrainStep,
        *,
        progress: Progress,
        table: MetricsTable,
        runtime: Runtime,
    ):
        self.progress, self.table, self.runtime = progress, table, runtime
        self._batches = step.accumulation
        self._weights = [*network.get_parameters(), *step.state]
        self._state = [own for own in step.own_state if not own.name.startswith(_RATES)]
        names = [parameter.name for parameter in (*self._weights, *self._state)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"several parameters are called {', '.join(sorted(twice))}")

    def capture(self, within_epoch: bool) -> Snapshot:
        """Copy the state; every rank must call it.

        `within_epoch` keeps the losses of the epoch, whose table row is not written yet.

        Raises:
            NonFiniteLossError: a loss or a tensor is not finite: such a state is not worth saving.
        """
        losses = np.array(self.progress.take_losses(), np.float32)[: None if within_epoch else 0]
        weights, state = copies(self._weights), copies(self._state)
        # Each running statistic of every rank, stacked; none for one process.
        statistics = running_statistics(self._weights)
        pairs = zip(statistics, gather_values(statistics, self.runtime))
        of_ranks = {_OF_RANKS + one.name: ranks for one, ranks in pairs}
        watch = self.progress.watch
        watch.check({**weights, **state, **of_ranks})
        figures = {"skipped": watch.skipped, "skipped_in_a_row": watch.in_a_row}
        return Snapshot(
            weights,
            {**state, **of_ranks, _LOSSES: losses},
            {**figures, "rows": [list(row) for row in self.table.rows]},
        )

    def restore(self, manifest: Manifest) -> None:
        """Restore the tensors, losses, counters and table rows of a checkpoint.

        Raises:
            WeightsError: its tensors do not fit the run; nothing was changed.
        """
        weights = read_weights(manifest.file(".ckpt")).tensors
        state = dict(read_weights(manifest.file(STATE)).tensors)
        losses = state.pop(_LOSSES, None)
        record, division = manifest.record, Division.of(manifest)
        batches = (division.batches if division else self._batches), self._batches
        if losses is None or len(losses) * batches[1] % batches[0]:
            what = "no" if losses is None else f"{len(losses)}"
            raise WeightsError(f"checkpoint {manifest.path} has {what} {_LOSSES!r} in its {STATE}")
        of_ranks = {n: state.pop(n) for n in list(state) if n.startswith(_OF_RANKS)}
        state = {name: value for name, value in state.items() if not name.startswith(_RATES)}
        state = state_on(state, {one.name: one for one in self._state}, *batches)
        _check(self._weights, weights, manifest)
        _check(self._state, state, manifest)
        ranks = record["runtime"]["world_size"]
        shapes = {_OF_RANKS + one.name: (ranks, *one.shape) for one in self._weights}
        wrong = [n for n, values in of_ranks.items() if values.shape != shapes.get(n)]
        if wrong:
            raise WeightsError(
                f"checkpoint {manifest.path} does not hold the state of {ranks} ranks: {wrong[0]}"
            )
        is_same = ranks == self.runtime.world_size
        own = {
            name.removeprefix(_OF_RANKS): values[self.runtime.rank] if is_same else mean_of(values)
            for name, values in of_ranks.items()
        }
        values = {**weights, **state, **own}
        for parameter in (*self._weights, *self._state):
            set_value(parameter, values[parameter.name])
        self.progress.restore(losses_on(losses, *batches).tolist())
        watch = self.progress.watch
        watch.skipped, watch.in_a_row = record["skipped"], record.get("skipped_in_a_row", 0)
        self.table.restore(rows_on(record["rows"], *batches))


def copies(parameters: Iterable[Parameter]) -> dict[str, np.ndarray]:
    """Return the values by name; bfloat16 as float32."""
    found = {}
    for parameter in parameters:
        is_bfloat16 = parameter.dtype == ms.bfloat16  # NumPy has no such type
        value = ops.cast(parameter, ms.float32) if is_bfloat16 else parameter
        found[parameter.name] = copy_value(value)
    return found


def _check(parameters: Iterable[Parameter], found: Mapping, manifest: Manifest) -> None:
    own = {parameter.name: parameter for parameter in parameters}
    if problems := counted(differences(found, own, surplus="unknown to the run")):
        raise WeightsError(
            f"checkpoint {manifest.path} does not fit this run: {'; '.join(problems)}; was the "
            "model's code changed?"
        )
