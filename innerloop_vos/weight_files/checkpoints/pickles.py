"""Pickles, read by a small machine that imports and calls nothing that they name."""

import codecs
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

MOST_STEPS = 2_000_000
"""Opcodes of a pickle: a few seconds, and less than 1 GB. Each tensor takes about 30."""

_LONGEST_KEY = 1024
_LONGEST_NAME = 256

# What old pickles and archives are decoded with, so that reading one imports nothing at all.
for _codec in ("raw-unicode-escape", "cp437"):
    codecs.lookup(_codec)


class Unknown:
    """Stands where a checkpoint holds anything but tensors and plain containers."""


class Global(Unknown):
    """Stands for a class or a function.

    Args:
        name: its module and its name, a space between them.
    """

    def __init__(self, name: str) -> None:
        self.name = name


def read_pickle(
    file: IO[bytes],
    calls: Mapping[str, Callable[..., Any]] | None = None,
    persistent: Callable[[Any], Any] | None = None,
    most: int = MOST_STEPS,
) -> Any:
    """Read one pickle of any protocol.

    Dicts, lists, tuples, sets, texts, bytes, numbers, booleans and None come back; what `calls`
    does not know becomes `Unknown`, and so do keys that cannot be looked up in bounded time.

    Args:
        file: stands behind the pickle afterwards.
        calls: what to call in place of a function, by its `Global.name`. Default: nothing.
        persistent: turns a persistent id into what it means. Default: they are refused.
        most: max number of opcodes.

    Raises:
        ValueError: it is damaged or too long; damage may raise other exceptions too.
    """
    machine = _Machine(calls or {}, persistent or _refuse)
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if step == most:
            raise ValueError(f"its pickle has more than {most} opcodes")
        if opcode.name in _VALUES:
            machine.stack.append(argument)
        elif opcode.name in _STEPS:
            _STEPS[opcode.name](machine, argument)
        else:
            raise ValueError(f"its pickle has the opcode {opcode.name}")
    return machine.stack.pop()


class _Machine:
    """The stack, the stacks below marks, and the memo of a pickle."""

    def __init__(
        self, calls: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]
    ) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.calls: dict[str, Callable[..., Any]] = {**calls, _ORDERED: self.ordered}
        for name in _SETS:
            self.calls[name] = self.make_set
        self.persistent = persistent
        self.copied = 0

    def push(self, value: Any) -> None:
        # After the value is made, which may change the stack.
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def take(self) -> list[Any]:
        """What lies above the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.take()

    def put(self, index: int) -> None:
        # Larger numbers could be chosen so that their hashes are equal.
        if not 0 <= index < 2**32:
            raise ValueError("its pickle has a memo without bounds")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack.pop() for _ in range(count))
        self.stack.append(items[::-1])

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        else:
            self.expect_unknown()

    def add(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is set:
            self.stack[-1].update(map(_key, items))
        else:
            self.expect_unknown()

    def set_items(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_pairs(items))
        else:
            self.expect_unknown()

    def expect_unknown(self) -> None:
        """What an unknown object is told is of no use."""
        if not isinstance(self.stack[-1], Unknown):
            raise ValueError(f"its pickle adds items to a {type(self.stack[-1]).__name__}")

    def find(self, name: object, module: object = "") -> None:
        texts = (module, name) if module else (name,)
        if not all(type(text) is str and len(text) <= _LONGEST_NAME for text in texts):
            raise ValueError("its pickle names a class by something else than a short text")
        self.stack.append(Global(" ".join(map(str, texts))))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        call = self.calls.get(function.name) if type(function) is Global else None
        if call is not None and type(arguments) is not tuple:
            raise ValueError("its pickle calls a function without a tuple of arguments")
        self.stack.append(Unknown() if call is None else call(*arguments))

    def replace(self, count: int) -> None:
        """Put an unknown object in place of the uppermost ones."""
        for _ in range(count):
            self.stack.pop()
        self.stack.append(Unknown())

    def replace_marked(self) -> None:
        self.take()
        self.stack.append(Unknown())

    def load(self, saved_id: object) -> None:
        self.stack.append(self.persistent(saved_id))

    def ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        return OrderedDict((_key(key), value) for key, value in self.copy(pairs))

    def make_set(self, items: Any = ()) -> set[Any]:
        return set(map(_key, self.copy(items)))

    def copy(self, items: Any) -> Any:
        """A list or a tuple that is copied, at most as often as if it were written out."""
        if type(items) not in (list, tuple):
            raise ValueError(f"its pickle makes a container of a {type(items).__name__}")
        self.copied += len(items)
        if self.copied > MOST_STEPS:
            raise ValueError("its pickle copies containers without bounds")
        return items


def _key(value: object) -> Any:
    """A key that takes bounded time to look up, or an unknown object in its place.

    Large numbers may be chosen so that their hashes are equal, as may those in tuples; the hash of
    nested tuples, and the comparison of long texts, take their time each time.
    """
    if value is None or type(value) in (bool, float):
        return value
    if type(value) is int and value.bit_length() <= 60:
        return value
    if (type(value) is str or type(value) is bytes) and len(value) <= _LONGEST_KEY:
        return value
    return Unknown()


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys = map(_key, items[::2])
    return dict(zip(keys, items[1::2], strict=True))


def _refuse(saved_id: object) -> Any:
    raise ValueError("its pickle has a persistent id")


_ORDERED = "collections OrderedDict"
_SETS = tuple(f"{m} {n}" for m in ("builtins", "__builtin__") for n in ("set", "frozenset"))

_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
"""Opcodes whose argument is the value."""

_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "MARK": lambda machine, _: machine.mark(),
    "LIST": lambda machine, _: machine.push(machine.take()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.take())),
    "DICT": lambda machine, _: machine.push(_pairs(machine.take())),
    "FROZENSET": lambda machine, _: machine.push(set(map(_key, machine.take()))),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.take()),
    "ADDITEMS": lambda machine, _: machine.add(machine.take()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop() for _ in "kv"][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take()),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.take(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.find,
    "STACK_GLOBAL": lambda machine, _: machine.find(machine.stack.pop(), machine.stack.pop()),
    "REDUCE": lambda machine, _: machine.reduce(),
    # The state of an object, which is either unknown or complete without.
    "BUILD": lambda machine, _: machine.stack.pop(),
    "NEWOBJ": lambda machine, _: machine.replace(2),
    "NEWOBJ_EX": lambda machine, _: machine.replace(3),
    "OBJ": lambda machine, _: machine.replace_marked(),
    "INST": lambda machine, _: machine.replace_marked(),
    "EXT1": lambda machine, _: machine.replace(0),
    "EXT2": lambda machine, _: machine.replace(0),
    "EXT4": lambda machine, _: machine.replace(0),
    "PERSID": _Machine.load,
    "BINPERSID": lambda machine, _: machine.load(machine.stack.pop()),
}
