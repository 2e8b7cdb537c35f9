"""A tutorial of parallel computing, cell by cell: `python examples/tutorial.py`.

Follows Jake VanderPlas' "Parallel Computing with IPython" (2014): the client, direct and load-balanced views, remote imports
and scripts, scatter and gather, a parallel dot product, and its exercises. Prints what each cell gives, and checks it.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import tempfile
import time
import timeit
from pathlib import Path

import numpy
import numpy as np

import mpicluster

checks = 0


def check(what: str, holds: bool) -> None:
    """Stop if something is not as the tutorial has it."""
    global checks
    if not holds:
        raise SystemExit(f"NOT AS IN THE TUTORIAL: {what}")
    checks += 1


def show(code: str, value: object = None) -> None:
    """A cell and what it gives."""
    print(f"\n>>> {code}")
    if value is not None:
        print(value)


# Functions that run on the engines. Their global names are looked up there, so `numpy` must be imported there first.


def mul(a, b):
    return a * b


def get_pid_slowly():
    import os
    import random
    import time

    time.sleep(0.5 * random.random())
    return os.getpid()


def normalize_vector(v):
    return numpy.asarray(v) / numpy.linalg.norm(v)


def sleep_and_return(factor=10):
    import random
    import time

    r = factor * random.random()
    time.sleep(r)
    return r


def estimate_pi(N):  # noqa: N803 - the tutorial's name
    r = numpy.random.random((int(N), 2))
    inside = numpy.sum(r**2, 1) <= 1
    return 4 * inside.sum() * 1.0 / N


def parallel_dot(dview, v1, v2):
    """Each engine multiplies its parts of the vectors; the sum of these is the product."""
    dview.scatter("v1", v1)
    dview.scatter("v2", v2)
    dview.execute("v1v2 = numpy.dot(v1, v2)")
    return sum(dview.gather("v1v2"))


def parallel_matmul(dview, a, b):
    """Exercise 1: the rows of ``a`` are divided; every engine has all of ``b``."""
    dview.scatter("rows", a)
    dview["whole"] = b
    dview.execute("product = numpy.dot(rows, whole)")
    return dview.gather("product")


def estimate_pi_parallel(n, lview, n_per_trial=1e6):
    """Exercise 2: the mean of ``n`` trials, farmed out."""
    return numpy.mean(lview.map_sync(estimate_pi, [n_per_trial] * n))


def the_client(clients):
    """Accessing the clients, and the two kinds of views."""
    clients.block = True
    show("clients.ids", clients.ids)
    check("four engines, numbered from 0", clients.ids == [0, 1, 2, 3])
    show("clients[0].apply(mul, 5, 6)", clients[0].apply(mul, 5, 6))
    check("one value from one engine", clients[0].apply(mul, 5, 6) == 30)
    show("clients[:].apply(mul, 5, 6)", clients[:].apply(mul, 5, 6))
    check("a list from several", clients[:].apply(mul, 5, 6) == [30] * 4)

    view = clients.load_balanced_view()
    runs = timeit.repeat(lambda: view.map(mul, [5, 6, 7, 8], [8, 9, 10, 11]), number=20, repeat=3)
    show("%timeit view.map(mul, [5, 6, 7, 8], [8, 9, 10, 11])", f"20 loops, best of 3: {min(runs) / 20 * 1e3:.2f} ms per loop")
    check("map gives what map gives", view.map(mul, [5, 6, 7, 8], [8, 9, 10, 11]) == [40, 54, 70, 88])
    show("len(clients)", len(clients))
    check("as many as there are engines", len(clients) == 4)

    dview = clients.direct_view()
    show("print(clients.direct_view())", dview)
    check("repr of a direct view", repr(dview) == "<DirectView all>")
    show("dview.apply(sum, [1, 2, 3])", dview.apply(sum, [1, 2, 3]))
    check("a builtin on all engines", dview.apply(sum, [1, 2, 3]) == [6] * 4)
    show("clients[::2]", clients[::2])
    check("repr of a slice", repr(clients[::2]) == "<DirectView [0, 2]>")
    check("a slice of the engines", clients[::2].apply(sum, [1, 2, 3]) == [6, 6])
    lview = clients.load_balanced_view()
    show("print(lview)", lview)
    check("repr of a load-balanced view", repr(lview) == "<LoadBalancedView None>")
    check("one value from a load-balanced view", lview.apply(sum, [1, 2, 3]) == 6)

    show("os.getpid(), socket.gethostname()", f"{os.getpid()} {socket.gethostname()}")
    pids = dview.apply(os.getpid)
    show("dview.apply(os.getpid)", pids)
    check("each engine is a process of its own", len({*pids, os.getpid()}) == 5)
    somewhere = [lview.apply(os.getpid) for _ in range(10)]
    show("[lview.apply(os.getpid) for i in range(10)]", somewhere)
    check("a load-balanced task runs on one of them", set(somewhere) <= set(pids))
    return pids


def blocking(dview, pids):
    """Blocking and non-blocking execution."""
    dview.block = True
    check("results of all engines at once", dview.apply(get_pid_slowly) == pids)
    dview.block = False
    res = dview.apply(get_pid_slowly)
    show("dview.apply(get_pid_slowly)", res)
    check("repr of a result to come", repr(res) == "<AsyncResult: get_pid_slowly>")
    show("res.get()", res.get())
    check("get waits", res.get() == pids)
    check("then it is ready", res.ready())
    check("apply_sync waits", dview.apply_sync(get_pid_slowly) == pids)
    check("apply_async does not", repr(dview.apply_async(get_pid_slowly)) == "<AsyncResult: get_pid_slowly>")
    dview.client.wait()


def remote_imports(dview):
    """A function that needs a module which the engines have not imported."""
    x = numpy.random.random(5)
    dview.block = True
    try:
        dview.apply(normalize_vector, x)
    except mpicluster.CompositeError as e:
        text = "\n".join(e.render_traceback())
        show("dview.apply(normalize_vector, x)", text)
        check("a header for all engines that failed alike", "[0,1,2,3:apply]:" in text)
        check("their error, once", text.count("NameError: name 'numpy' is not defined") == 1)
        check("where it was raised", text.count("in normalize_vector(v)") == 1)
        check("its type is kept", isinstance(e, NameError))
    else:
        check("numpy is not imported on the engines", holds=False)
    result = dview.execute("import numpy")
    show("dview.execute('import numpy')", result)
    check("repr of a finished result", repr(result) == "<AsyncResult: finished>")
    show("with dview.sync_imports(): import numpy")
    with dview.sync_imports():
        import numpy as _  # noqa: F401
    values = dview.apply(normalize_vector, x)
    show("dview.apply(normalize_vector, x)", values)
    check("now it works", all(np.allclose(v, normalize_vector(x)) for v in values))


def scripts_and_names(clients, dview):
    """Scripts, the dictionary interface, and execute."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "myscript.py"
        script.write_text("import numpy\n\na = 5\n\ndef square(x):\n    return x * x\n")
        show('dview.run("myscript.py")', dview.run(str(script)))
    show("dview['a']", dview["a"])
    check("a name of the script", dview["a"] == [5] * 4)
    show("dview['square']", dview["square"])
    check("functions come back", [f(3) for f in dview["square"]] == [9] * 4)
    dview["b"] = 4
    show("dview['b'] = 4; dview['b']", dview["b"])
    check("assignment", dview["b"] == [4] * 4)
    show("dview.execute('c=a+b')", dview.execute("c=a+b"))
    show("dview['c']", dview["c"])
    check("code sees the names", dview["c"] == [9] * 4)
    clients.block = False
    some = clients[:2].execute("c=a*b")
    check("repr of an execution", repr(some) in ("<AsyncResult: execute>", "<AsyncResult: finished>"))
    some.get()
    show("clients[:2].execute('c=a*b'); dview['c']", dview["c"])
    check("on some engines only", dview["c"] == [20, 20, 9, 9])

    result = dview.execute("c = numpy.random.random(3); print(c)")
    show("%px c = numpy.random.random(3); print(c)", "\n".join(f"[stdout:{i}] {s.rstrip()}" for i, s in enumerate(result.stdout)))
    check("each engine printed its own", len(set(result.stdout)) == 4)
    dview.execute("c = numpy.random.random(5)\nc *= a\n")
    show("dview['c']", dview["c"])
    check("arrays of each engine", [c.shape for c in dview["c"]] == [(5,)] * 4)


def scatter_and_gather(dview):
    """Parts of an array, a dot product, and exercise 1."""
    dview.scatter("a", np.arange(24))
    show("dview.scatter('a', np.arange(24)); dview['a']", dview["a"])
    check("contiguous parts", all((part == np.arange(6) + 6 * i).all() for i, part in enumerate(dview["a"])))
    a = dview.gather("a")
    show("dview.gather('a')", a)
    check("and back", (a == np.arange(24)).all() and a.dtype == np.arange(24).dtype)
    x = np.random.random(400)
    dview.scatter("x", x)
    dview.execute("y = numpy.sqrt(x)")
    check("work on the parts", np.allclose(dview.gather("y"), np.sqrt(x)))

    v1, v2 = np.random.random(1001), np.random.random(1001)
    dview.scatter("v1", v1)
    shapes = [chunk.shape for chunk in dview["v1"]]
    show("[chunk.shape for chunk in dview['v1']]", shapes)
    check("the first part takes the remainder", shapes == [(251,), (250,), (250,), (250,)])
    result1, result2 = np.dot(v1, v2), parallel_dot(dview, v1, v2)
    show("np.dot(v1, v2), parallel_dot(dview, v1, v2)", (result1, result2))
    check("the parallel dot product", np.allclose(result1, result2))
    dview.execute("v1v2 = numpy.dot(v1, v2)")
    check("and by MPI's own sum", np.allclose(dview.reduce("v1v2", "sum"), result1))

    m1, m2 = np.random.random((500, 1000)), np.random.random((1000, 50))
    product = parallel_matmul(dview, m1, m2)
    show("Exercise 1: parallel_matmul(dview, M1, M2).shape", product.shape)
    check("the parallel matrix product", product.shape == (500, 50) and np.allclose(product, np.dot(m1, m2)))


def load_balanced(lview):
    """Farming out, progress, results as they come, and exercise 2."""
    lview.block = True
    r = lview.apply(sleep_and_return, 0.1)
    show("lview.apply(sleep_and_return, 0.1)", r)
    check("one result", 0 <= r <= 0.1)
    lview.block = False
    res = lview.map(sleep_and_return, [0.1 * i for i in range(10)])
    show("res = lview.map(sleep_and_return, ...); res.ready()", res.ready())
    check("not yet", not res.ready())
    while not res.ready():
        time.sleep(0.2)
        print("progress", res.progress, "of", len(res))
    show("res.get()", res.get())
    check("ten results, in order", len(res.get()) == 10 and all(0 <= x <= 0.1 * i for i, x in enumerate(res.get())))
    show("for result in lview.map(...): print(result)")
    count = 0
    for result in lview.map(sleep_and_return, [0.02 * i for i in range(10)]):
        print(result)
        count += 1
    check("as they come", count == 10)

    pi = estimate_pi_parallel(20, lview, 1e5)
    show("Exercise 2: estimate_pi_parallel(20, lview, 1e5)", pi)
    check("about pi", abs(pi - np.pi) < 0.02)  # ten standard deviations of 2e6 darts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connect", action="store_true", help="use the four engines of a running cluster instead of starting some")
    arguments = parser.parse_args()
    random.seed(0)
    with mpicluster.Client() if arguments.connect else mpicluster.Cluster(n=4) as clients:
        pids = the_client(clients)
        dview = clients[:]
        blocking(dview, pids)
        remote_imports(dview)
        scripts_and_names(clients, dview)
        scatter_and_gather(dview)
        load_balanced(clients.load_balanced_view())
    print(f"\nThe tutorial is reproduced: {checks} checks.")


if __name__ == "__main__":
    main()
