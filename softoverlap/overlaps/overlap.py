"""What an overlap is: one definition, from which both of its forms and its docstring come.

A family (`BoxOverlap`, `MaskBoxOverlap`, ...) says how two sets are checked, prepared and met; a
definition, the function that it decorates, says how much prepared sets share. The definition's
keyword arguments are the overlap's parameters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from inspect import Parameter, Signature, cleandoc, signature
from math import isfinite
from typing import Any, TypeVar

from softoverlap._checks import check_within, refusal
from softoverlap._docstrings import joined
from softoverlap._periodic import Period

_NAMED: dict[str, Overlap] = {}
_PREFIXES = ("", "mask_box_", "mask_")  # what may be left out of a name

AnyForm = TypeVar("AnyForm", bound="Form")
AnyOverlap = TypeVar("AnyOverlap", bound="Overlap")


class Form:
    """What is called like a function, shows signature and docstring like one, and never changes."""

    __name__: str
    __call__: Callable[..., Any]

    def __get__(self: AnyForm, instance: object, owner: type | None = None) -> AnyForm:
        """Itself, also as an attribute of a class.

        This method is what `inspect` tells a function by: `help`, doctest and Sphinx ask it.
        """
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} cannot be changed; with_() makes another")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def _show(self, overlap: Overlap, name: str, doc: str) -> None:
        """Take name, module and docstring; the overlap's parameters join the signature."""
        low, high = overlap.range
        bounds = f"in [{low:g}, {high:g}]" if isfinite(low) else f"of at most {high:g}"
        family = (type(self).__call__.__doc__ or "").replace("in its range", bounds)
        call = signature(type(self).__call__)
        *shown, _ = list(call.parameters.values())[1:]  # without self and **parameters
        first = sum(one.kind is not Parameter.KEYWORD_ONLY for one in shown)
        shown[first:first] = [
            one.replace(default=overlap._parameters[one.name])
            for one in _parameters_of(overlap._definition)
        ]
        vars(self).update(
            __name__=name,
            __qualname__=name,
            __module__=overlap._definition.__module__,
            __doc__=joined(doc, family, [one.name for one in shown]),
            __signature__=Signature(shown, return_annotation=call.return_annotation),
            __annotations__={one.name: one.annotation for one in shown}
            | {"return": call.return_annotation},
            __globals__=self._globals(overlap._definition),
        )

    def _globals(self, definition: Callable[..., Any]) -> dict[str, Any]:
        """Where the annotations of call and parameters are found, as `get_type_hints` asks."""
        called = sys.modules[type(self).__call__.__module__]
        return getattr(definition, "__globals__", {}) | vars(called)


class Overlap(Form):
    """How much two sets share, as one thing: called, it scores all pairs of them.

    One of its families makes it, as the decorator of a definition. It cannot be changed; two of
    the same name and parameters are equal.

    Args:
        definition: The score of prepared sets; its keyword arguments are the parameters.
        range: Lowest and highest score.
        zero_apart: Whether the score is 0 where the two sets share nothing.
        symmetric: Whether the two sets may change places.
        check: Refuses parameters that are out of range; it is called with all of them.

    Examples:
        >>> import torch
        >>> from softoverlap import box_nwd
        >>> near = box_nwd.with_(constant=3.0)
        >>> near
        box_nwd.with_(constant=3.0)
        >>> near(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 5.0]]))
        tensor([[0.3679]])
        >>> near.range, near.zero_apart, near.parameters
        ((0.0, 1.0), False, {'constant': 3.0, 'period': None})
    """

    range: tuple[float, float]
    zero_apart: bool
    symmetric: bool
    _definition: Callable[..., Any]
    _parameters: dict[str, Any]
    _check: Callable[..., None] | None
    _named: Overlap
    _pairs: Any = None

    def __init__(
        self,
        definition: Callable[..., Any],
        *,
        range: tuple[float, float] = (0.0, 1.0),
        zero_apart: bool,
        symmetric: bool = True,
        check: Callable[..., None] | None = None,
    ) -> None:
        vars(self).update(
            range=range,
            zero_apart=zero_apart,
            symmetric=symmetric,
            _definition=definition,
            _parameters={one.name: one.default for one in _parameters_of(definition)},
            _check=check,
            _named=self,
        )
        bare = [name for name, value in self._parameters.items() if value is Parameter.empty]
        if bare:
            raise ValueError(f"definition must have a default for each parameter, got none: {bare}")
        self._settle()
        before = _NAMED.get(self.name, self)
        if before.__module__ != self.__module__:  # a cell of a notebook may be run again
            raise ValueError(
                f"definition must have a name of its own, got {self.name}, as one in "
                f"{before.__module__} has"
            )
        _NAMED[self.name] = self

    def _settle(self) -> None:
        definition = self._definition
        self._show(self, definition.__name__, definition.__doc__ or "")
        vars(self).update(_pairs=self._aligned())

    def _aligned(self) -> Pairs | None:
        """The aligned form, if it is another than the call."""
        return None

    @property
    def parameters(self) -> dict[str, Any]:
        """Values by name."""
        return dict(self._parameters)

    @property
    def name(self) -> str:
        """What `overlap_named` finds it by, whatever its parameters."""
        return self.__name__

    def with_(self: AnyOverlap, **parameters: Period) -> AnyOverlap:
        """The same overlap with other parameters.

        Args:
            parameters: Values by name; the others stay.

        Returns:
            The overlap.

        Raises:
            TypeError: If it has no such parameter.
            ValueError: If a value is out of range.

        Examples:
            >>> from softoverlap import mask_box_tversky
            >>> mask_box_tversky.with_(alpha=0.3, beta=0.7)
            mask_box_tversky.with_(alpha=0.3, beta=0.7)
        """
        values = self._values(parameters, f"{self.name}.with_")
        return _derived(self._named, tuple(values.items()))  # pyright: ignore

    def defined(
        self, parameters: Mapping[str, Any], called: str | None = None
    ) -> Callable[..., Any]:
        """The definition with its parameters, some of them given by the caller of what is named."""
        values = self._values(parameters, called or self.name)
        return partial(self._definition, **values) if values else self._definition

    def _values(self, given: Mapping[str, Any], called: str) -> dict[str, Any]:
        if not given:
            return self._parameters
        for name, value in given.items():
            if name not in self._parameters:
                raise TypeError(f"{called}() got an unexpected keyword argument {name!r}")
            if value != value:  # and so no overlap would equal itself
                raise refusal(name, f"must be a number, got {value}")
        values = {**self._parameters, **given}
        if "empty" in given:
            check_within(0, 1, empty=given["empty"])
        if self._check is not None:
            self._check(**values)
        return values

    def _changed(self) -> dict[str, Any]:
        """The parameters that differ from the definition's."""
        usual = self._named._parameters
        return {name: value for name, value in self._parameters.items() if value != usual[name]}

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self._changed().items())
        return f"{self.name}.with_({changed})" if changed else self.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Overlap) or self._named is not other._named:
            return False
        return self._parameters == other._parameters

    def __hash__(self) -> int:
        return hash((self.name, *self._parameters.items()))

    def __reduce__(self) -> Any:
        """By the name of its global, as functions are pickled, and by what was changed."""
        return (_with, (self._named, self._changed())) if self._changed() else self.name


class Pairs(Form):
    """The aligned form of an overlap: row i of one set with row i of the other."""

    overlap: Any

    def __init__(self, overlap: Overlap) -> None:
        vars(self).update(overlap=overlap)
        doc = cleandoc(overlap._definition.__doc__ or "")
        doc = f"`{overlap.name}` of aligned pairs: row i of one with row i of the other.\n\n{doc}"
        self._show(overlap, "_pair_".join(overlap.name.rsplit("_", 1)), doc)

    def __repr__(self) -> str:
        return f"{self.overlap!r}.pairs"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pairs) and self.overlap == other.overlap

    def __hash__(self) -> int:
        return hash((self.overlap, "pairs"))

    def __reduce__(self) -> Any:
        return getattr, (self.overlap, "pairs")


def overlap_named(overlap: Overlap | str, *families: type[AnyOverlap]) -> AnyOverlap:
    """An overlap by its name, where text is all there is; an overlap is itself.

    Args:
        overlap: `"box_iou"`, `"mask_box_dice"`, ...; `"dice"` and other short names are those of
            mask and box or, where the families have none of these, of two masks.
        families: Which overlaps are taken, such as `BoxOverlap`; by default all.

    Returns:
        The overlap.

    Raises:
        TypeError: If it is neither an overlap nor text.
        ValueError: If there is none of that name in the families; the message lists those that are.

    Examples:
        >>> from softoverlap.overlaps import BoxOverlap, overlap_named
        >>> overlap_named("box_giou"), overlap_named("dice")
        (box_giou, mask_box_dice)
    """
    taken: tuple[type[Any], ...] = families or (Overlap,)
    if not isinstance(overlap, str | Overlap):
        raise TypeError(f"overlap must be an overlap or its name, got {overlap!r}")
    found: Any = overlap
    if isinstance(overlap, str):
        named = (_NAMED.get(prefix + overlap) for prefix in _PREFIXES)
        found = next((each for each in named if isinstance(each, taken)), overlap)
    if not isinstance(found, taken):
        raise ValueError(f"overlap must be one of {overlap_names(*taken)}, got {overlap!r}")
    return found


def overlap_names(*families: type[Overlap]) -> list[str]:
    """The names that `overlap_named` finds in these families, in the order of the alphabet.

    Examples:
        >>> from softoverlap.overlaps import MaskOverlap, overlap_names
        >>> overlap_names(MaskOverlap)
        ['mask_dice', 'mask_iou', 'mask_tversky']
    """
    return sorted(name for name, overlap in _NAMED.items() if isinstance(overlap, families))


def _parameters_of(definition: Callable[..., Any]) -> list[Parameter]:
    """Its keyword-only arguments."""
    known = signature(definition).parameters.values()
    return [one for one in known if one.kind is Parameter.KEYWORD_ONLY]


@lru_cache(maxsize=256)
def _derived(named: Overlap, values: tuple[tuple[str, Any], ...]) -> Overlap:
    """The overlap with these parameters; kept, since signature and docstring are made for each."""
    parameters = dict(values)
    if parameters == named._parameters:
        return named
    other = object.__new__(type(named))
    vars(other).update(vars(named), _parameters=parameters)
    other._settle()
    return other


def _with(named: Overlap, parameters: dict[str, Any]) -> Overlap:
    return named.with_(**parameters)
