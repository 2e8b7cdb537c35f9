"""Sparse matrices in blocks of rows: each rank has a few rows, as a compressed sparse row matrix of SciPy.

What a product needs of a vector is known when the matrix is made: `Halo` is that plan. So a product sends only the elements that another
rank needs, while this one's own part is multiplied.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mpicluster.array import local as blocks
from mpicluster.array.conversion import hash_of
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, block_sizes, starts
from mpicluster.array.limits import GATHERED_UP_TO
from mpicluster.array.mesh import MPI, Mesh, as_mesh
from mpicluster.array.operands import as_dist, mesh_of

__all__ = ["SparseRows"]

Host = NDArray[Any]
Sizes = tuple[int, ...]


class Halo:
    """The elements of a divided vector that this rank needs and others have, and those of its own that others need."""

    def __init__(self, mesh: Mesh, sizes: Sizes, needed: NDArray[np.int64]) -> None:
        """``sizes``: how the vector is divided; ``needed``: indices, rising. One Alltoall, and at most size - 1 messages each way."""
        self._mesh = mesh
        bounds = np.array(starts(sizes))
        cuts = np.searchsorted(needed, bounds)
        #: where, among what is needed, the elements of each rank are
        self._parts = [slice(lo, hi) for lo, hi in itertools.pairwise(cuts.tolist())]
        self._count = len(needed)
        wanted = mesh.alltoall_ints(np.diff(cuts).astype(np.int64))
        lists = [np.empty(int(n), np.int64) for n in wanted]
        sends = [(peer, needed[part]) for peer, part in enumerate(self._parts) if part.stop > part.start]
        mesh.exchange(sends, [(peer, indices) for peer, indices in enumerate(lists) if len(indices)])
        #: which elements of this rank's block each other needs
        self._given = {peer: indices - bounds[mesh.rank] for peer, indices in enumerate(lists) if len(indices)}

    def begin(self, block: Host) -> tuple[Host, list[MPI.Request]]:
        """Send what others need of this rank's block, and receive what it needs: into an array that is filled when all is complete."""
        come = np.empty((self._count, *block.shape[1:]), block.dtype)
        receives = [(peer, come[part]) for peer, part in enumerate(self._parts) if part.stop > part.start]
        return come, self._mesh.post([(peer, block[indices]) for peer, indices in self._given.items()], receives)

    def begin_back(self, values: Host) -> tuple[dict[int, Host], list[MPI.Request]]:
        """The other way: send what belongs to elements of others, to be added there with `add`."""
        come = {peer: np.empty((len(indices), *values.shape[1:]), values.dtype) for peer, indices in self._given.items()}
        sends = [(peer, values[part]) for peer, part in enumerate(self._parts) if part.stop > part.start]
        return come, self._mesh.post(sends, [*come.items()])

    def add(self, block: Host, come: dict[int, Host]) -> None:
        """Add what came, in the order of ranks."""
        for peer, values in come.items():
            block[self._given[peer]] += values


class SparseRows:
    """A sparse matrix of which each rank has some rows. Made by `from_scipy`, `from_local` or `from_coo`.

    Vectors that it is multiplied with should lie in the blocks of its columns: even ones, or those of the rows if it is square. Others are
    redistributed. All methods are collective.

    Memory on a rank: its rows; of vectors, a block and what it needs from others.
    """

    def __init__(self, mesh: Mesh, sizes: Sizes, rows: Any) -> None:
        """``sizes``: how many rows each rank has; ``rows``: those of this rank, with all columns."""
        self._mesh = mesh
        self._sizes = sizes
        rows = sparse.csr_array(rows)
        rows.sum_duplicates()
        self._shape = (sum(sizes), int(rows.shape[1]))
        self._columns = sizes if self._shape[0] == self._shape[1] else block_sizes(self._shape[1], mesh.size)
        bounds = starts(self._columns)
        self._first, last = bounds[mesh.rank], bounds[mesh.rank + 1]
        #: the columns of which this rank has the elements of vectors, and the others that are not empty
        self._own = sparse.csr_array(rows[:, self._first : last])
        outside = (rows.indices < self._first) | (rows.indices >= last)
        columns = rows.indices[outside].astype(np.int64)
        self._needed = np.unique(columns)
        places = np.concatenate([[0], np.cumsum(outside)])[rows.indptr]
        other = (rows.data[outside], np.searchsorted(self._needed, columns), places)
        self._other = sparse.csr_array(other, shape=(rows.shape[0], len(self._needed)))
        self._halo = Halo(mesh, self._columns, self._needed)
        self._nnz = int(mesh.gather_ints(rows.nnz).sum())

    # -- how it is made ------------------------------------------------------------------------------------------------------------

    @classmethod
    def from_scipy(cls, matrix: Any, *, comm: Any = None) -> SparseRows:
        """Of a sparse matrix, or a dense one, that every rank has: each keeps even blocks of rows. One Alltoall and few messages."""
        mesh = as_mesh(comm)
        whole = sparse.csr_array(matrix)
        if whole.ndim != 2:
            raise ValueError(f"a sparse matrix has two dimensions, not the shape {whole.shape}")
        sizes = block_sizes(int(whole.shape[0]), mesh.size)
        bounds = starts(sizes)
        return cls(mesh, sizes, whole[bounds[mesh.rank] : bounds[mesh.rank + 1]])

    @classmethod
    def from_local(cls, rows: Any, *, comm: Any = None) -> SparseRows:
        """Of the rows that each rank has, with all columns: one after another. Two Allgathers, one Alltoall, few messages.

        Raises
        ------
        ValueError
            ranks have different numbers of columns, or types; on all ranks.
        """
        mesh = as_mesh(comm)
        with mesh.together():
            rows = sparse.csr_array(rows)
            if rows.ndim != 2:
                raise ValueError(f"rows of a matrix have two dimensions, not the shape {rows.shape}")
        said = mesh.gather_ints(*rows.shape, hash_of(rows.dtype))
        if len(set(said[:, 1].tolist())) > 1:
            raise ValueError(f"ranks have rows with different numbers of columns: {', '.join(map(str, said[:, 1].tolist()))}")
        if len(set(said[:, 2].tolist())) > 1:
            raise ValueError(f"ranks have rows of different types; rank {mesh.rank} has {rows.dtype}")
        return cls(mesh, tuple(said[:, 0].tolist()), rows)

    @classmethod
    def from_coo(cls, values: Any, coords: tuple[Any, Any], shape: tuple[int, int], *, comm: Any = None) -> SparseRows:
        """Of triplets: ``values[i]`` is in row ``coords[0][i]`` and column ``coords[1][i]``; those of one place are added up.

        Each rank gives some, of any rows: they go where they belong, by one Alltoall and three messages to each other rank at most. Three
        more small collectives. The result has even blocks of rows.

        Raises
        ------
        ValueError
            a rank's triplets are not complete, outside the shape, or of another type; on all ranks.
        """
        mesh, (m, n) = as_mesh(comm), shape
        row, column, value = np.asarray(coords[0]), np.asarray(coords[1]), np.asarray(values)
        mesh.settle(_problem_of_triplets(row, column, value, m, n))
        kinds = mesh.gather_ints(hash_of(value.dtype))
        if len(set(kinds[:, 0].tolist())) > 1:
            raise ValueError(f"ranks have values of different types; rank {mesh.rank} has {value.dtype}")
        sizes = block_sizes(m, mesh.size)
        bounds = np.array(starts(sizes))
        order = np.argsort(row, kind="stable")
        cuts = np.searchsorted(row[order], bounds)
        come = mesh.alltoall_ints(np.diff(cuts).astype(np.int64))
        ends = starts(tuple(come.tolist()))
        arrived = []
        for given, kind in ((row, np.int64), (column, np.int64), (value, value.dtype)):
            mine, into = given[order].astype(kind, copy=False), np.empty(ends[-1], kind)
            parts = [(peer, mine[lo:hi], into[ends[peer] : ends[peer + 1]]) for peer, (lo, hi) in enumerate(itertools.pairwise(cuts))]
            others = [(peer, out, room) for peer, out, room in parts if peer != mesh.rank]
            parts[mesh.rank][2][...] = parts[mesh.rank][1]
            mesh.exchange([(peer, out) for peer, out, _ in others], [(peer, room) for peer, _, room in others])
            arrived.append(into)
        rows = (arrived[2], (arrived[0] - bounds[mesh.rank], arrived[1]))
        return cls(mesh, sizes, sparse.coo_array(rows, shape=(sizes[mesh.rank], n)).tocsr())

    # -- what it is ----------------------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the whole matrix."""
        return self._shape

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        kind: np.dtype[Any] = self._own.dtype
        return kind

    @property
    def nnz(self) -> int:
        """How many elements are stored, on all ranks."""
        return self._nnz

    @property
    def mesh(self) -> Mesh:
        """The ranks that hold it."""
        return self._mesh

    @property
    def layout(self) -> Block:
        """In which blocks its rows lie."""
        return Block(0, self._sizes).settled(self._shape, self._mesh.size)

    @property
    def local(self) -> Any:
        """This rank's rows, with all columns: a copy, as a ``csr_array``."""
        row, column, value = self._triplets()
        return sparse.csr_array((value, (row, column)), shape=(self._own.shape[0], self._shape[1]))

    def __repr__(self) -> str:
        size = self._mesh.size
        return f"<SparseRows of shape {self._shape}, {self.dtype}, {self._nnz} elements stored on {size} rank{'s' * (size > 1)}>"

    def _triplets(self) -> tuple[Host, Host, Host]:
        """What this rank has: local rows, columns, values."""
        own, other = self._own.tocoo(), self._other.tocoo()
        columns = own.coords[1].astype(np.int64) + self._first, self._needed[other.coords[1]]
        return np.concatenate([own.coords[0], other.coords[0]]), np.concatenate(columns), np.concatenate([own.data, other.data])

    @property
    def diagonal_block(self) -> Any:
        """This rank's rows, of the columns of which it has the elements of vectors: square, if the matrix is. A ``csr_array``."""
        return self._own

    # -- products ------------------------------------------------------------------------------------------------------------------

    def _block(self, x: Any, length: int, sizes: Sizes) -> tuple[DistArray, Host]:
        """An operand, and its block as it is needed."""
        mesh = mesh_of(x) if isinstance(x, DistArray) else self._mesh
        if mesh is not self._mesh:
            raise ValueError("the matrix and the vector lie on different ranks: they must be of one communicator")
        mesh.check()
        x = as_dist(x, mesh)
        if x.ndim not in (1, 2) or x.shape[0] != length:
            raise ValueError(f"a matrix of shape {self._shape} cannot be multiplied with an array of shape {x.shape}")
        return x, blocks.host(x.redistribute(Block(0, sizes)).local)

    def _result(self, like: DistArray, block: Host, length: int, sizes: Sizes) -> DistArray:
        shape = (length, *like.shape[1:])
        block = block.astype(np.result_type(self.dtype, np.dtype(like.dtype)), copy=False)
        return DistArray(self._mesh, Block(0, sizes).settled(shape, self._mesh.size), shape, blocks.like(like.local, block))

    def __matmul__(self, x: Any) -> DistArray:
        """The product with a vector (n,), or a dense matrix (n, k), in the blocks of the rows.

        A message to each rank that needs elements of this one's block, and from each that it needs some of, while the part that needs none
        is multiplied.
        """
        if not hasattr(x, "shape"):
            return NotImplemented
        x, block = self._block(x, self._shape[1], self._columns)
        come, pending = self._halo.begin(block)
        result = self._own @ block
        self._mesh.complete(pending)
        if len(come):
            result = result + self._other @ come
        return self._result(x, result, self._shape[0], self._sizes)

    def matvec(self, x: Any) -> DistArray:
        """``A @ x``."""
        return self @ x

    def matmat(self, x: Any) -> DistArray:
        """``A @ x``."""
        return self @ x

    def rmatvec(self, y: Any) -> DistArray:
        """The product of the conjugate transposed with a vector (m,), or a matrix (m, k), in the blocks of the columns.

        Messages as of ``A @ x``, the other way.
        """
        y, block = self._block(y, self._shape[0], self._sizes)
        values = _adjoint(self._other, block)
        come, pending = self._halo.begin_back(values)
        result = _adjoint(self._own, block)
        self._mesh.complete(pending)
        self._halo.add(result, come)
        return self._result(y, result, self._shape[1], self._columns)

    def rmatmat(self, y: Any) -> DistArray:
        """As `rmatvec`."""
        return self.rmatvec(y)

    # -- other things --------------------------------------------------------------------------------------------------------------

    def diagonal(self) -> DistArray:
        """The main diagonal, in even blocks. No message, but at most two where blocks of rows are not even."""
        length, first = min(self._shape), starts(self._sizes)
        row, column, value = self._triplets()
        bounds = [min(b, length) for b in first]
        block = np.zeros(bounds[self._mesh.rank + 1] - bounds[self._mesh.rank], self.dtype)
        on = row + first[self._mesh.rank] == column
        block[row[on]] = value[on]
        sizes = tuple(hi - lo for lo, hi in itertools.pairwise(bounds))
        vector = DistArray(self._mesh, Block(0, sizes).settled((length,), self._mesh.size), (length,), block)
        return vector.redistribute(Block(0))

    def transpose(self) -> SparseRows:
        """The transposed matrix, in even blocks of its rows. Costs as `from_coo`."""
        row, column, value = self._triplets()
        row = row.astype(np.int64) + starts(self._sizes)[self._mesh.rank]
        return SparseRows.from_coo(value, (column, row), self._shape[::-1], comm=self._mesh)

    def to_dense(self) -> DistArray:
        """The matrix as an array, in the same blocks of rows. No message.

        Raises
        ------
        ValueError
            a rank would have more than 1 GiB of it; on all ranks.
        """
        nbytes = max(self._sizes) * self._shape[1] * self.dtype.itemsize
        if nbytes > GATHERED_UP_TO:
            raise ValueError(f"a dense matrix of shape {self._shape} has {nbytes} bytes on one rank, more than {GATHERED_UP_TO}")
        return DistArray(self._mesh, self.layout, self._shape, self.local.toarray())


def _problem_of_triplets(row: Host, column: Host, value: Host, m: int, n: int) -> Exception | None:
    if not (row.ndim == column.ndim == value.ndim == 1 and len(row) == len(column) == len(value)):
        return ValueError(f"rows, columns and values have one length, not shapes {row.shape}, {column.shape} and {value.shape}")
    if len(row) and (row.dtype.kind not in "iu" or column.dtype.kind not in "iu"):
        return ValueError(f"rows and columns are integers, not {row.dtype} and {column.dtype}")
    if len(row) and (row.min() < 0 or row.max() >= m or column.min() < 0 or column.max() >= n):
        return ValueError(f"there are rows or columns outside the shape {(m, n)}")
    return None


def _adjoint(matrix: Any, block: Host) -> Host:
    """The product with the conjugate transposed; nothing is transposed."""
    result: Host = matrix.T @ block.conj() if matrix.dtype.kind == "c" else matrix.T @ block
    return result.conj() if matrix.dtype.kind == "c" else result
