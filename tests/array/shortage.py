"""Memory that runs out when a test wants it to: NumPy's allocator, but one of its large allocations fails.

By NEP 49, NumPy takes the memory of arrays from a handler, which a thread can set. This one is NumPy's own, with another malloc.
"""

from __future__ import annotations

import contextlib
import ctypes

import numpy as np

Allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
AllocateZeros = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)


class Handler(ctypes.Structure):
    """``PyDataMem_Handler`` of NumPy's ``ndarraytypes.h``."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]


_python = ctypes.pythonapi
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
#: places in the table of NumPy's C API, which never change
_SET_HANDLER, _GET_HANDLER = 304, 305


def _function(place, *arguments):
    table = ctypes.cast(_python.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, *arguments)(table[place])


_set_handler = _function(_SET_HANDLER, ctypes.py_object)
_usual = Handler.from_address(_python.PyCapsule_GetPointer(_function(_GET_HANDLER)(), b"mem_handler"))
_malloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(_usual.malloc)
_calloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(_usual.calloc)
#: how many bytes are large; of which of these allocations the turn is to fail, and how many there were
_large, _failing, _seen = 0, -1, 0


def _fails(nbytes):
    global _seen
    if nbytes < _large:
        return False
    _seen += 1
    return _seen - 1 == _failing


@Allocate
def _some(context, nbytes):
    return None if _fails(nbytes) else _malloc(context, nbytes)


@AllocateZeros
def _zeros(context, number, each):
    return None if _fails(number * each) else _calloc(context, number, each)


_ours = Handler(
    b"shortage", 1, _usual.context, ctypes.cast(_some, ctypes.c_void_p), ctypes.cast(_zeros, ctypes.c_void_p), _usual.realloc, _usual.free
)
#: a capsule keeps the address of its name
_name = ctypes.create_string_buffer(b"mem_handler")
_capsule = _python.PyCapsule_New(ctypes.addressof(_ours), _name, None)


@contextlib.contextmanager
def failing(turn, large):
    """The allocation of at least ``large`` bytes fails whose turn it is, counted from 0."""
    global _large, _failing, _seen
    _large, _failing, _seen = large, turn, 0
    before = _set_handler(_capsule)
    try:
        yield
    finally:
        _set_handler(before)
