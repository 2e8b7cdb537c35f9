"""Names of IPython Parallel that are not here, and what to use instead."""

from __future__ import annotations

__all__ = ["GONE"]

_PICKLE = "functions and closures travel by themselves; pickle or cloudpickle makes bytes of objects where you want bytes"
#: For each name, why it is gone and what there is.
GONE = {
    "ClusterManager": "there is no manager object: `mpicluster list` shows what runs, Cluster(...) starts one, Client(cluster=id) finds it",
    "bind_kernel": "engines are not Jupyter kernels; rc[0].execute(code) runs code in an engine's namespace",
    "can": _PICKLE,
    "can_map": f"{_PICKLE}; a class says how by __reduce__ or copyreg",
    "deserialize_object": _PICKLE,
    "pack_apply_message": "messages are typed and private; view.apply(f, ...) sends a call",
    "serialize_object": f"{_PICKLE}; PrePickled(obj) is an object that is pickled once and sent many times",
    "uncan": _PICKLE,
    "uncan_map": f"{_PICKLE}; a class says how by __reduce__ or copyreg",
    "unpack_apply_message": "messages are typed and private; view.apply(f, ...) sends a call",
}
